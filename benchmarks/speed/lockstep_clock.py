"""Runs shaperun's command line, and notes how long its cohort learns.

python -m benchmarks.speed.lockstep_clock OUT ARGUMENTS…

What `clock.py` is for `PPO.learn`, which nobody calls in lockstep: the time from the beginning of
the first rollout to the end of the last update, with all that is done between.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from shaperun.cli.main import main as shaperun
from shaperun.runs import plan
from shaperun.training.algorithms.ppo import Rollout
from shaperun.training.engines import lockstep
from shaperun.training.engines.lockstep import Cohort


class ClockedCohort(Cohort):
    """A cohort with a clock."""

    began = ended = 0.0
    steps = cohorts = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        ClockedCohort.cohorts += 1

    def collect_rollout(self) -> Rollout:
        """Note when the first one begins."""
        ClockedCohort.began = ClockedCohort.began or perf_counter()
        return super().collect_rollout()

    def update(self, rollout: Rollout) -> None:
        """Note when the last one ends, and how many steps all runs have taken by then."""
        super().update(rollout)
        ClockedCohort.ended = perf_counter()
        ClockedCohort.steps = self.timesteps * len(self.active_runs)


def learn(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the command line; seconds of learning, environment steps, most memory so far in MB.

    Raises:
        RuntimeError: it trained no cohort, or several.
    """
    # As many as are asked for are trained together, which is also how memory is seen.
    plan.LARGEST_COHORT = dict.fromkeys(plan.LARGEST_COHORT, sys.maxsize)
    plan.LARGEST_MINIBATCH = sys.maxsize
    setattr(lockstep, "Cohort", ClockedCohort)  # noqa: B010 (mypy refuses the plain assignment)
    sys.argv = ["shaperun", *arguments]
    try:
        shaperun()
    except SystemExit as end:
        if end.code:
            raise
    if ClockedCohort.cohorts != 1:
        raise RuntimeError(f"{ClockedCohort.cohorts} cohorts were trained, and not one")
    return {
        "seconds": ClockedCohort.ended - ClockedCohort.began,
        "steps": ClockedCohort.steps,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,  # Linux says kilobytes
    }


def main() -> None:
    """Run it and write down what the clock saw."""
    out, *arguments = sys.argv[1:]
    Path(out).write_text(json.dumps(learn(arguments)), encoding="utf-8")


if __name__ == "__main__":
    main()
