"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass

from shaperun.runs.plan import Run
from shaperun.runs.run_folder import State
from shaperun.runs.study_folder import StudyFolder

ELSEWHERE = "elsewhere"
"""The phase of a run that another command is training."""


@dataclass(frozen=True)
class RunStatus:
    """How far one run is. Steps are environment steps; returns are the environment's own.

    Where several runs are trained together, its `core_seconds` are its share of the `seconds`.
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
        """Whether the run failed because its numbers did: it ended in NaN or infinity."""
        return self.failure is not None and "diverged:" in self.failure

    @property
    def steps_per_second(self) -> float:
        """Environment steps a second since training started, evaluations included."""
        return self.timesteps / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of training at the pace so far; None before there is one."""
        if not self.steps_per_second:
            return None
        return max(0.0, (self.total_timesteps - self.timesteps) / self.steps_per_second)


def run_status(
    folder: StudyFolder, run: Run, state: State | None = None, *, by_size: bool = False
) -> RunStatus:
    """How far a run is, from its folder alone; a state that is known already may be given.

    With `by_size`, the files of a finished run are not read, see `RunFolder.state`.
    """
    run_folder = folder.run(run.arm, run.seed)
    state = state or run_folder.state(by_size=by_size)
    progress = run_folder.read_progress() if state != "waiting" else {}
    total = run.config.training.total_timesteps
    return RunStatus(
        run.arm,
        run.seed,
        state,
        timesteps=int(progress.get("timesteps", 0)),
        total_timesteps=total,
        seconds=float(progress.get("seconds", 0.0)),
        core_seconds=float(progress.get("core_seconds", progress.get("seconds", 0.0))),
        phase=str(progress.get("phase", "")),
        training_return=progress.get("training_return"),
        evaluated_return=progress.get("evaluated_return"),
        failure=run_folder.failure() if state == "failed" else None,
    )
