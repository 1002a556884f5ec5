"""Runs shaperun's command line as `lockstep_clock` does, then takes the same steps without it.

python -m benchmarks.speed.replay_actions OUT ARGUMENTS…

The same worlds are stepped once more with the actions that training took, by a loop that does
nothing else. Other actions would not do: a lander that falls restarts more often than one that
hovers, and a restart takes as long as many steps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import gymnasium as gym

from benchmarks.speed.lockstep_clock import learn
from shaperun.training import envs as training_envs
from shaperun.training.vector_env import Array, SequentialVectorEnv, Step


@dataclass
class Flown:
    """What the copies of one run did: how they were seeded, their actions, how many restarted."""

    seeds: list[int]
    actions: list[Array] = field(default_factory=list)
    restarts: int = 0


class LoggedVectorEnv(SequentialVectorEnv):
    """Copies that remember all that they did."""

    runs: ClassVar[list[Flown]] = []

    def reset(self, seeds: Sequence[int]) -> Array:
        """Remember the seeds."""
        self._flown = Flown(list(seeds))
        LoggedVectorEnv.runs.append(self._flown)
        return super().reset(seeds)

    def receive(self) -> Step:
        """Remember the actions."""
        step = super().receive()
        self._flown.actions.append(self._actions)
        self._flown.restarts += int((step.terminated | step.truncated).sum())
        return step


def replay(env_id: str, runs: Sequence[Flown]) -> float:
    """Seconds of the steps of all runs, which are taken in turn, as in lockstep.

    Raises:
        RuntimeError: the worlds went another way than they did.
    """
    worlds = [[_world(env_id, seed) for seed in flown.seeds] for flown in runs]
    # A choice as a plain integer, the quickest that an environment can be given.
    rows = list(
        zip(*([actions.tolist() for actions in flown.actions] for flown in runs), strict=True)
    )
    restarts, start = 0, perf_counter()
    for taken in rows:
        for envs, actions in zip(worlds, taken, strict=True):
            for env, action in zip(envs, actions, strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
                    restarts += 1
    took = perf_counter() - start
    if restarts != sum(flown.restarts for flown in runs):
        raise RuntimeError("the same actions had other consequences")
    return took


def _world(env_id: str, seed: int) -> gym.Env[Any, Any]:
    env = gym.make(env_id, disable_env_checker=True)
    env.reset(seed=seed)
    return env


def main() -> None:
    """Learn, replay, and write down both times."""
    out, *arguments = sys.argv[1:]
    setattr(training_envs, "SequentialVectorEnv", LoggedVectorEnv)  # noqa: B010 (mypy refuses the plain assignment)
    noted = learn(arguments)
    noted["bare_seconds"] = replay("LunarLander-v3", LoggedVectorEnv.runs)
    Path(out).write_text(json.dumps(noted), encoding="utf-8")


if __name__ == "__main__":
    main()
