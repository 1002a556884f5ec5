"""shaperun as it is but for its training environments.

python -m benchmarks.variants bare  OUT ARGUMENTS…    neither kernel nor recorder
python -m benchmarks.variants timed OUT ARGUMENTS…    both, with a stopwatch; seconds go to OUT

`bare` exchanges what is inside the adapter between gymnasium and stable-baselines3, and leaves the
adapter itself alone: what is missing from it is shaping and recording and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from time import perf_counter
from typing import Any

from gymnasium.vector import VectorWrapper

from shaperun import cli, trainee
from shaperun.rollout import TrainingEnvs


class Unshaped(VectorWrapper[Any, Any, Any]):
    """Stands where the shaping wrapper stands, and shapes nothing."""

    transition = rewards = None


class BareEnvs(TrainingEnvs):
    """Training environments without kernel and recorder."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._vector = Unshaped(self._copies)  # type: ignore[assignment]
        self.recorder.step = lambda *_: None  # type: ignore[method-assign]


class TimedEnvs(TrainingEnvs):
    """Training environments that note what shaping and recording take."""

    spent = 0.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # The wrapper's time less that of the environments inside it, and the recorder's.
        self._copies.step = self._stopwatch(self._copies.step, -1)  # type: ignore[method-assign]
        self._vector.step = self._stopwatch(self._vector.step, +1)  # type: ignore[method-assign]
        self.recorder.step = self._stopwatch(self.recorder.step, +1)  # type: ignore[method-assign]

    @staticmethod
    def _stopwatch(work: Callable[..., Any], sign: int) -> Callable[..., Any]:
        @wraps(work)
        def timed(*args: Any) -> Any:
            start = perf_counter()
            result = work(*args)
            TimedEnvs.spent += sign * (perf_counter() - start)
            return result

        return timed


def main() -> None:
    """Run shaperun's command line with the environments exchanged."""
    kind, out, *arguments = sys.argv[1:]
    exchanged = {"bare": BareEnvs, "timed": TimedEnvs}[kind]
    assert trainee.TrainingEnvs is TrainingEnvs  # type: ignore[attr-defined]  # noqa: S101
    setattr(trainee, "TrainingEnvs", exchanged)  # noqa: B010 (mypy refuses the plain assignment)
    sys.argv = ["shaperun", *arguments]
    try:
        cli.main()
    finally:
        Path(out).write_text(json.dumps(TimedEnvs.spent), encoding="utf-8")


if __name__ == "__main__":
    main()
