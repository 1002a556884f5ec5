"""python -m benchmarks.envpool [--episodes N]: play in both backends and compare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import numpy as np

from benchmarks.envpool import report
from benchmarks.envpool.compare import Compared, examine
from benchmarks.envpool.play import Episodes, play
from benchmarks.envpool.terrain import CONTROLLER, LANDERS, Grounds, raised
from shaperun.envs.builtin import environments
from shaperun.envs.envpool_support import SUPPORTED, UNSUPPORTED
from shaperun.study.environment import EnvironmentConfig
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.vector_env import SequentialVectorEnv

EPISODES = 1_000
COPIES = 50
SEEDS = 1_000  # apart from row to row, so that no two rows are the same episodes

Make = Callable[[str, int], SequentialVectorEnv | EnvPoolVectorEnv]
"""So many copies of an environment."""


def compared(env_id: str, controller: str, first: int, episodes: int) -> Compared:
    """One controller in both environments, on seeds from `first` on."""
    mine = played(gymnasiums, env_id, controller, first, episodes)
    theirs = played(envpools, env_id, controller, first, episodes)
    found = examine(mine, theirs, np.random.default_rng(first))
    return Compared(env_id, controller, mine, theirs, found)


def played(make: Make, env_id: str, controller: str, first: int, episodes: int) -> Episodes:
    """So many episodes, or some more where they cannot be divided among the copies."""
    environment = environments()[env_id]
    count = min(COPIES, episodes)
    each = -(-episodes // count)
    with closing(make(env_id, count)) as copies:
        policy = environment.controllers[controller]
        return play(copies, environment, policy, range(first, first + count), each)


def gymnasiums(env_id: str, count: int) -> SequentialVectorEnv:
    """Copies as gymnasium simulates them."""
    return SequentialVectorEnv.from_config(EnvironmentConfig(id=env_id), count)


def envpools(env_id: str, count: int) -> EnvPoolVectorEnv:
    """Copies as EnvPool does; that of Pendulum too, which no study may have."""
    return EnvPoolVectorEnv.from_config(EnvironmentConfig(id=env_id), count)


def every(episodes: int) -> Iterator[Compared]:
    """Every controller of every environment that both have."""
    pairs = [
        (env_id, name)
        for env_id in (*SUPPORTED, *UNSUPPORTED)
        for name in environments()[env_id].controllers
    ]
    for number, (env_id, controller) in enumerate(pairs):
        _say(f"{env_id}, {controller}: {number + 1} of {len(pairs)}")
        yield compared(env_id, controller, number * SEEDS, episodes)


def on_their_grounds(rows: Iterable[Compared], episodes: int) -> Iterator[Grounds]:
    """The landings among the rows, and others of gymnasium's lander on EnvPool's ground."""
    for number, row in enumerate(rows):
        if row.env_id in LANDERS and row.controller == CONTROLLER:
            _say(f"{row.env_id}, {row.controller}, on EnvPool's ground")
            first = number * SEEDS + COPIES  # those before are taken
            found = played(raised, row.env_id, row.controller, first, episodes)
            yield Grounds(row.env_id, row.gymnasium, found, row.envpool)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Play, compare, and write the tables into their page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.envpool", description=__doc__)
    parser.add_argument("--episodes", type=int, default=EPISODES, help="a side and controller")
    episodes = parser.parse_args().episodes
    if episodes < 2:
        parser.error("of a single episode nothing can be said: --episodes 2 or more")
    rows = list(every(episodes))
    report.keep(rows, list(on_their_grounds(rows, episodes)))
    _say(f"Written into {report.PAGE.name}.")


if __name__ == "__main__":
    main()
