"""Play episodes in both backends and compare them: python -m benchmarks.envpool [--episodes N]."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import numpy as np

from benchmarks.doc_tables import ROOT, log, publish
from benchmarks.envpool.compare import ComparedEpisodes, run_tests
from benchmarks.envpool.play import Episodes, VectorEnv, play
from benchmarks.envpool.report import format_report
from benchmarks.envpool.terrain import CONTROLLER, LANDERS, TerrainComparison, make_raised
from shaperun.envs.builtin import environments
from shaperun.envs.envpool_support import SUPPORTED, UNSUPPORTED
from shaperun.study.environment import EnvironmentConfig
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.vector_env import SequentialVectorEnv

PAGE = ROOT / "docs" / "envpool.md"
EPISODES = 1_000
COPIES = 50
SEED_STRIDE = 1_000  # between rows, so that no two rows play the same episodes

MakeEnvs = Callable[..., VectorEnv]
"""Factory of N copies of an environment, whose infos are recorded with `reads_info`."""


def play_controller(
    make_envs: MakeEnvs, env_id: str, controller: str, first_seed: int, episodes: int
) -> Episodes:
    """Play episodes, rounded up to the same number per copy."""
    environment = environments()[env_id]
    count = min(COPIES, episodes)
    per_copy = -(-episodes // count)
    seeds = range(first_seed, first_seed + count)
    options = {"reads_info": True} if environment.reads_info else {}
    with closing(make_envs(EnvironmentConfig(id=env_id), count, **options)) as envs:
        return play(envs, environment, environment.controllers[controller], seeds, per_copy)


def compare_controller(
    env_id: str, controller: str, first_seed: int, episodes: int
) -> ComparedEpisodes:
    """Play one controller in both backends and test for differences."""
    args = env_id, controller, first_seed, episodes
    ours = play_controller(SequentialVectorEnv.from_config, *args)
    theirs = play_controller(EnvPoolVectorEnv.from_config, *args)
    tests = run_tests(ours, theirs, np.random.default_rng(first_seed))
    return ComparedEpisodes(env_id, controller, ours, theirs, tests)


def compare_all(episodes: int) -> Iterator[ComparedEpisodes]:
    """Yield every controller of every environment that both backends have."""
    pairs = [
        (env_id, name)
        for env_id in (*SUPPORTED, *UNSUPPORTED)
        for name in environments()[env_id].controllers
    ]
    for index, (env_id, controller) in enumerate(pairs):
        log(f"{env_id}, {controller}: {index + 1} of {len(pairs)}")
        yield compare_controller(env_id, controller, index * SEED_STRIDE, episodes)


def compare_terrains(
    rows: Iterable[ComparedEpisodes], episodes: int
) -> Iterator[TerrainComparison]:
    """Yield the landings among the rows, with others in gymnasium's lander on EnvPool's terrain."""
    for index, row in enumerate(rows):
        if row.env_id in LANDERS and row.controller == CONTROLLER:
            log(f"{row.env_id}, {row.controller}, on EnvPool's terrain")
            first_seed = index * SEED_STRIDE + COPIES  # other episodes than the row's
            raised = play_controller(make_raised, row.env_id, CONTROLLER, first_seed, episodes)
            yield TerrainComparison(row.env_id, (row.gymnasium, raised, row.envpool))


def main() -> None:
    """Play, compare, and print the tables; those of the full number of episodes are published."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.envpool", description=__doc__)
    parser.add_argument("--episodes", type=int, default=EPISODES, help="per backend and controller")
    episodes = parser.parse_args().episodes
    if episodes < 2:
        parser.error("--episodes must be at least 2")
    rows = list(compare_all(episodes))
    text = format_report(rows, list(compare_terrains(rows, episodes)))
    publish(PAGE, {"envpool": text}, complete=episodes >= EPISODES)


if __name__ == "__main__":
    main()
