"""Runs shaperun's command line as `lockstep_clock` does, and notes what the time goes into.

python -m benchmarks.speed.time_breakdown OUT ARGUMENTS…
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.speed.lockstep_clock import learn
from shaperun.training.engines.lockstep import Cohort
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.envs import TrainingEnvs
from shaperun.training.stacked.actor import StackedActor
from shaperun.training.stacked.policy import StackedPolicy
from shaperun.training.vector_env import SequentialVectorEnv

POOLS = (SequentialVectorEnv, EnvPoolVectorEnv)
# Part of a step -> what it is spent in. All else is the rest: handing things around, advantages,
# checkpoints.
PARTS: dict[str, list[tuple[type, str]]] = {
    "environment": [(copies, name) for copies in POOLS for name in ("send", "receive")],
    "inference": [
        (Cohort, "_noise"),
        (StackedActor, "features"),
        (StackedActor, "actions"),
        (StackedActor, "to_environment"),
        (StackedPolicy, "evaluate_actions"),
        (StackedPolicy, "values"),
    ],
    "shaping, recording": [(TrainingEnvs, "shaped")],
    "update": [(Cohort, "update")],
}
REST = "rest"
EVALUATION = "evaluation"  # before the first rollout and after the last update: the clock stands


class Stopwatches:
    """Seconds by part. What is called within a part belongs to it: an update has inference too."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._running = False

    def watch(self, part: str, owner: type, name: str) -> None:
        """Count every call of a method."""
        method: Callable[..., Any] = getattr(owner, name)

        @wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._running:
                return method(*args, **kwargs)
            self._running, start = True, perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.spent[part] += perf_counter() - start
                self._running = False

        setattr(owner, name, timed)


def main() -> None:
    """Learn with stopwatches, and write down what they and the clock saw."""
    out, *arguments = sys.argv[1:]
    watches = Stopwatches()
    for part, methods in PARTS.items():
        for owner, name in methods:
            watches.watch(part, owner, name)
    watches.watch(EVALUATION, Cohort, "_evaluate")  # which has inference too
    noted = learn(arguments)
    parts = {part: watches.spent[part] for part in PARTS}
    noted["parts"] = {**parts, REST: noted["seconds"] - sum(parts.values())}
    Path(out).write_text(json.dumps(noted), encoding="utf-8")


if __name__ == "__main__":
    main()
