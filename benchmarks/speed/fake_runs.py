"""python -m benchmarks.speed.fake_runs FOLDER [EPISODES]: write 1,000 finished runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from shaperun.common.files import AppendOnlyCsv
from shaperun.envs.episodes import held_out_seeds
from shaperun.rewards.kernel import RewardKernel
from shaperun.runs.plan import Run, planned_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study, parse_study
from shaperun.training.evaluation import columns

ARMS, SEEDS, POINTS, FINAL = 20, 50, 200, 20
EVERY = 1_000

# The other files of a run are only hashed: bytes as many as PPO leaves after 200,000 steps.
POLICY, EPISODES, UPDATES = 150_000, 300_000, 8_000


def make(results: Path, episodes: int, *, seeds: int = SEEDS) -> StudyFolder:
    """A study of 20 arms on CartPole, each run with 200 evaluations of so many episodes.

    Every file is where and as the training writes it, and every run verifies. The numbers are
    drawn: curves that rise, each run with a luck of its own.
    """
    study = parse_study(_document(episodes, seeds))
    folder = StudyFolder(results / study.study)
    folder.write_study(study.model_dump(mode="json"))
    kernels = {
        arm: RewardKernel(study.environment.describe(), study.resolved(reward), 0.99)
        for arm, reward in study.arms.items()
    }
    for run in planned_runs(study, study.arms):
        _write(folder.run(run.arm, run.seed), run, kernels[run.arm], study)
    return folder


def _document(episodes: int, seeds: int) -> dict[str, Any]:
    shaped = {
        f"upright{number}": {"mode": "add", "weights": {"upright": number, "still": 0.1}}
        for number in range(1, ARMS)
    }
    return {
        "study": f"many-{episodes}",
        "environment": {"id": "CartPole-v1"},
        "training": {"total_timesteps": (POINTS - 1) * EVERY},
        "seeds": seeds,
        "evaluation": {"every": EVERY, "episodes": episodes, "final_episodes": FINAL},
        "arms": {"default": {}, **shaped},
    }


def _write(folder: RunFolder, run: Run, kernel: RewardKernel, study: Study) -> None:
    folder.path.mkdir(parents=True)
    config = run.config
    folder.start({"identity": config.identity, "config": config.model_dump(mode="json")})
    table = AppendOnlyCsv(folder.evaluations, ["timesteps", *columns(kernel)])
    table.append(_rows(run, kernel, study))
    table.close()
    for file, size in (
        (folder.policy, POLICY),
        (folder.episodes, EPISODES),
        (folder.updates, UPDATES),
    ):
        file.write_bytes(bytes(size))
    folder.finish()


def _rows(run: Run, kernel: RewardKernel, study: Study) -> Iterator[dict[str, object]]:
    """Every evaluation episode of a run, its totals as its columns have them."""
    counts = [study.evaluation.episodes] * (POINTS - 1) + [FINAL]
    steps = np.repeat(np.arange(POINTS) * EVERY, counts)
    episode = np.concatenate([np.arange(count) for count in counts])
    rng = np.random.default_rng([run.seed, crc32(run.arm.encode())])
    rise = 1 - np.exp(-steps / rng.uniform(20_000, 90_000))
    length = np.clip(10 + 490 * rise * rng.uniform(0.5, 1.1, len(steps)), 9, 500).astype(int)
    shape = (len(steps), len(kernel.names))
    first, last = rng.uniform(0, 1, shape), rng.uniform(0, 1, shape)
    sums = length[:, None] * rng.uniform(0, 1, shape)
    terminated = length < 500
    shaping = kernel.episode_shaping(sums, first, last, terminated.astype(float), 1.0)
    own = length.astype(float)
    totals = [own, shaping, kernel.shaped(own, shaping, 1.0)]
    seeds = np.array(held_out_seeds(FINAL))[episode]
    outcomes = np.where(terminated, np.where(episode % 5 == 0, "off_track", "fell"), "balanced")
    numbers = [steps, episode, seeds, length, outcomes, terminated.astype(int), *totals]
    parts = [*numbers, *sums.T, *first.T, *last.T]
    names = ["timesteps", *columns(kernel)]
    for values in zip(*(part.tolist() for part in parts), strict=True):
        yield dict(zip(names, values, strict=True))


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5).path)
