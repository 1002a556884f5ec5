"""Run shaperun's command line, and write how long its cohort learns.

python -m benchmarks.speed.lockstep_clock OUT MODE ARGUMENTS…

The clock runs from the beginning of the first rollout to the end of the last update (`ppo_clock`
times `PPO.learn`, which lockstep does not call). Modes:

- `time`: seconds of learning, environment steps, and peak memory in MB.
- `parts`: also the seconds spent in each part of a step.
- `replay`: also the seconds of the bare simulator. The same environments are stepped again, with
  the actions of training, by a loop that does nothing else. Other actions are not a yardstick: a
  lander that crashes early restarts more often, and a restart takes as long as many steps.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import gymnasium as gym

from shaperun.cli.main import main as shaperun
from shaperun.runs import plan
from shaperun.training import envs as training_envs
from shaperun.training.algorithms.ppo import Rollout
from shaperun.training.engines import lockstep
from shaperun.training.engines.lockstep import Cohort
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.envs import TrainingEnvs
from shaperun.training.stacked.actor import StackedActor
from shaperun.training.stacked.policy import StackedPolicy
from shaperun.training.vector_env import Array, SequentialVectorEnv, Step

SIMULATORS = (SequentialVectorEnv, EnvPoolVectorEnv)
# Part of a step -> methods that belong to it. The rest: moving arrays, advantages, checkpoints.
PARTS: dict[str, list[tuple[type, str]]] = {
    "environment": [(owner, name) for owner in SIMULATORS for name in ("send", "receive")],
    "inference": [
        (Cohort, "_noise"),
        (StackedActor, "extract_features"),
        (StackedActor, "compute_actions"),
        (StackedActor, "to_environment"),
        (StackedPolicy, "evaluate_actions"),
        (StackedPolicy, "predict_values"),
    ],
    "shaping, recording": [(TrainingEnvs, "shape_rewards")],
    "update": [(Cohort, "update")],
}
REST = "rest"
EVALUATION = "evaluation"  # before the first rollout and after the last update: not on the clock


class ClockedCohort(Cohort):
    """A cohort that notes when its first rollout begins and its last update ends."""

    started = ended = 0.0
    steps = cohorts = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        ClockedCohort.cohorts += 1

    def collect_rollout(self) -> Rollout:
        """Start the clock, if this is the first rollout."""
        ClockedCohort.started = ClockedCohort.started or perf_counter()
        return super().collect_rollout()

    def update(self, rollout: Rollout) -> None:
        """Note the time and the steps of all runs after the update."""
        super().update(rollout)
        ClockedCohort.ended = perf_counter()
        ClockedCohort.steps = self.timesteps * len(self.active_runs)


def learn(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the command line with a clock.

    Raises:
        RuntimeError: the command has not trained exactly one cohort.
    """
    # All runs are trained together, however many; memory is measured in this way too.
    plan.MAX_COHORT_SIZE = dict.fromkeys(plan.MAX_COHORT_SIZE, sys.maxsize)
    plan.MAX_COHORT_MINIBATCH = sys.maxsize
    setattr(lockstep, "Cohort", ClockedCohort)  # noqa: B010 (mypy refuses the plain assignment)
    sys.argv = ["shaperun", *arguments]
    try:
        shaperun()
    except SystemExit as end:
        if end.code:
            raise
    if ClockedCohort.cohorts != 1:
        raise RuntimeError(f"{ClockedCohort.cohorts} cohorts were trained instead of one")
    return {
        "seconds": ClockedCohort.ended - ClockedCohort.started,
        "steps": ClockedCohort.steps,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,  # kilobytes on Linux
    }


class Stopwatches:
    """Seconds per part; a call within a part belongs to that part (an update has inference too)."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running = False

    def watch(self, part: str, owner: type, name: str) -> None:
        """Time every call of a method."""
        method: Callable[..., Any] = getattr(owner, name)

        @wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._running:
                return method(*args, **kwargs)
            self._running, start = True, perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[part] += perf_counter() - start
                self._running = False

        setattr(owner, name, timed)


def learn_with_stopwatches(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the command line with a clock and a stopwatch for each part of a step."""
    stopwatches = Stopwatches()
    stopwatches.watch(EVALUATION, Cohort, "_evaluate")
    for part, methods in PARTS.items():
        for owner, name in methods:
            stopwatches.watch(part, owner, name)
    timing = learn(arguments)
    parts = {part: stopwatches.seconds[part] for part in PARTS}
    timing["parts"] = {**parts, REST: timing["seconds"] - sum(parts.values())}
    return timing


class LoggedVectorEnv(SequentialVectorEnv):
    """A vector environment that logs its seeds and actions, and counts its restarts."""

    instances: ClassVar[list[LoggedVectorEnv]] = []

    def reset(self, seeds: Sequence[int]) -> Array:
        """Begin the log."""
        self.seeds, self.actions, self.restarts = seeds, list[Array](), 0
        self.instances.append(self)
        return super().reset(seeds)

    def receive(self) -> Step:
        """Log the actions."""
        step = super().receive()
        self.actions.append(self._actions)
        self.restarts += int((step.terminated | step.truncated).sum())
        return step


def learn_and_replay(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the command line with a clock, and replay its steps on the bare simulator."""
    setattr(training_envs, "SequentialVectorEnv", LoggedVectorEnv)  # noqa: B010 (as above)
    timing = learn(arguments)
    return {**timing, "bare_seconds": replay("LunarLander-v3", LoggedVectorEnv.instances)}


def replay(env_id: str, logs: Sequence[LoggedVectorEnv]) -> float:
    """Return the seconds of the steps of all runs, interleaved as in lockstep.

    Raises:
        RuntimeError: the number of restarts is another.
    """
    cohort = [[_make_env(env_id, seed) for seed in log.seeds] for log in logs]
    # Discrete actions as plain integers, which environments accept fastest.
    steps = list(zip(*([actions.tolist() for actions in log.actions] for log in logs), strict=True))
    restarts, start = 0, perf_counter()
    for step in steps:
        for envs, actions in zip(cohort, step, strict=True):
            for env, action in zip(envs, actions, strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
                    restarts += 1
    duration = perf_counter() - start
    expected = sum(log.restarts for log in logs)
    if restarts != expected:
        raise RuntimeError(f"the same actions led to {restarts} restarts instead of {expected}")
    return duration


def _make_env(env_id: str, seed: int) -> gym.Env[Any, Any]:
    env = gym.make(env_id, disable_env_checker=True)
    env.reset(seed=seed)
    return env


MODES = {"time": learn, "parts": learn_with_stopwatches, "replay": learn_and_replay}


def main() -> None:
    """Run the command line, and write the output of the clock."""
    out, mode, *arguments = sys.argv[1:]
    Path(out).write_text(json.dumps(MODES[mode](arguments)), encoding="utf-8")


if __name__ == "__main__":
    main()
