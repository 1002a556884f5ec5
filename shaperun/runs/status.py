"""Status of a run: its state, progress and failure."""

from __future__ import annotations

from dataclasses import dataclass

from shaperun.runs.plan import Run
from shaperun.runs.run_folder import State
from shaperun.runs.study_folder import StudyFolder

ELSEWHERE = "elsewhere"
"""The phase of a run that another command is training."""


@dataclass(frozen=True)
class RunStatus:
    """State and progress of one run, in environment steps and returns of the environment.

    If several runs are trained together, `core_seconds` is the run's share of `seconds`.
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

    @property
    def diverged(self) -> bool:
        """Whether the run failed because its numbers became NaN or infinite."""
        return self.failure is not None and "diverged:" in self.failure

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second since training started, evaluations included."""
        return self.timesteps / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of training; None before the first progress."""
        if not self.steps_per_second:
            return None
        return max(0.0, (self.total_timesteps - self.timesteps) / self.steps_per_second)


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
    )
