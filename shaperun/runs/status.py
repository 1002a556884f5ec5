"""Status of a run: its state, progress and failure."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from shaperun.runs.plan import Run
from shaperun.runs.run_folder import State
from shaperun.runs.study_folder import StudyFolder

ELSEWHERE = "elsewhere"
"""The phase of a run that another command is training."""
STARTING = "starting"
"""The phase of a waiting run that a worker is about to train."""


@dataclass(frozen=True)
class RunStatus:
    """State and progress of one run, in environment steps and returns of the environment.

    Attributes:
        seconds: elapsed time of training and evaluations, up to the last report.
        core_seconds: the run's share of them, if several runs are trained together.
        evaluation_seconds: elapsed time of its evaluations.
        evaluation_seconds_left: expected time of those to come; None before the first.
        unreported_seconds: time since the last report, of a run that is evaluating.
    """

    arm: str
    seed: int
    state: State
    timesteps: int = 0
    total_timesteps: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    phase: str = ""
    training_return: float | None = None
    evaluated_return: float | None = None
    failure: str | None = None
    evaluation_seconds: float = 0.0
    evaluation_seconds_left: float | None = None
    unreported_seconds: float = 0.0

    @property
    def diverged(self) -> bool:
        """Whether the run failed because its numbers became NaN or infinite."""
        return self.failure is not None and "diverged:" in self.failure

    @property
    def training_seconds(self) -> float:
        """Elapsed time of training, without evaluations."""
        return max(0.0, self.seconds - self.evaluation_seconds)

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second of training, evaluations excluded."""
        return self.timesteps / self.training_seconds if self.training_seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Expected seconds to the end, evaluations included; None before 1% of the training."""
        if not self.steps_per_second or self.timesteps < self.total_timesteps / 100:
            return None
        training = max(0, self.total_timesteps - self.timesteps) / self.steps_per_second
        left = training + (self.evaluation_seconds_left or 0.0) - self.unreported_seconds
        return max(0.0, left)

    @property
    def completed_share(self) -> float:
        """Share of the expected time that has passed; below 1 until the run has ended."""
        if self.state in ("done", "pruned"):
            return 1.0
        passed, left = self.seconds + self.unreported_seconds, self.seconds_left
        return min(0.99, passed / (passed + left)) if left is not None else 0.0

    @property
    def core_share(self) -> float:
        """Share of a worker that trains the run: 1, or less in lockstep."""
        known = self.seconds and self.core_seconds
        return min(1.0, self.core_seconds / self.seconds) if known else 1.0


def estimate_seconds_left(runs: Sequence[RunStatus], workers: int = 0) -> float | None:
    """Return the expected seconds until all runs have ended, on so many workers.

    Runs without progress take as long as the others of their arm, or else of all arms. With 0
    workers, as many are assumed as train runs now.

    Returns:
        None if no run has made progress, or nothing is running on an unknown number of workers.
    """
    expected: dict[str, list[float]] = {}
    for run in runs:
        if run.seconds_left is not None and run.state in ("running", "done"):
            seconds = (run.seconds + run.unreported_seconds + run.seconds_left) * run.core_share
            expected.setdefault(run.arm, []).append(seconds)
    workers = workers or round(sum(r.core_share for r in runs if r.state == "running"))
    if not (expected and workers):
        return None
    mean = fmean(itertools.chain(*expected.values()))
    running = [r for r in runs if r.state == "running"]
    left = [r.seconds_left * r.core_share for r in running if r.seconds_left is not None]
    waiting = [r for r in runs if r.state in ("waiting", "interrupted")]
    waiting += [r for r in running if r.seconds_left is None]
    loads = [0.0] * workers
    for seconds in [
        *sorted(left, reverse=True),
        *(fmean(expected.get(run.arm, [mean])) for run in waiting),
    ]:
        heapq.heapreplace(loads, loads[0] + seconds)
    return max(loads)


def read_run_status(
    folder: StudyFolder, run: Run, state: State | None = None, *, by_size: bool = False
) -> RunStatus:
    """Return the status of a run from its folder; the `state` is read as well unless given.

    For `by_size`, see `RunFolder.read_state`.
    """
    run_folder = folder.run(run.arm, run.seed)
    state = state or run_folder.read_state(by_size=by_size)
    progress = run_folder.read_progress() if state != "waiting" else {}
    seconds = float(progress.get("seconds", 0.0))
    evaluating = state == "running" and progress.get("phase") == "evaluating"
    return RunStatus(
        run.arm,
        run.seed,
        state,
        timesteps=int(progress.get("timesteps", 0)),
        total_timesteps=run.config.training.total_timesteps,
        seconds=seconds,
        core_seconds=float(progress.get("core_seconds", seconds)),
        phase=str(progress.get("phase", "")),
        training_return=progress.get("training_return"),
        evaluated_return=progress.get("evaluated_return"),
        failure=run_folder.read_failure() if state == "failed" else None,
        evaluation_seconds=float(progress.get("evaluation_seconds", 0.0)),
        evaluation_seconds_left=progress.get("evaluation_seconds_left"),
        unreported_seconds=run_folder.progress_age() if evaluating else 0.0,
    )
