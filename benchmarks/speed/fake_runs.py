"""Write 1,000 finished runs: python -m benchmarks.speed.fake_runs FOLDER [EPISODES]."""

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
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study, parse_study
from shaperun.training.evaluation import evaluation_columns

ARMS, SEEDS, POINTS, FINAL = 20, 50, 200, 20
EVERY = 1_000

# Sizes of the files that are only hashed: as after 200,000 steps of PPO.
SIZES = {"policy.zip": 150_000, "episodes.csv": 300_000, "updates.csv": 8_000}


def write_study(results: Path, episodes: int, *, seeds: int = SEEDS) -> StudyFolder:
    """Write a study of 20 arms on CartPole, each run with 200 evaluations of `episodes` episodes.

    Every file has the name and the format of training, and every run verifies. The numbers are
    random: learning curves that rise, at another rate in each run.
    """
    study = parse_study(_describe_study(episodes, seeds))
    folder = StudyFolder(results / study.study)
    folder.write_study(study.model_dump(mode="json"))
    kernels = {
        arm: RewardKernel(study.environment.describe(), study.resolve_reward(reward), 0.99)
        for arm, reward in study.arms.items()
    }
    for run in plan_runs(study, study.arms):
        _write_run(folder.run(run.arm, run.seed), run, kernels[run.arm], study)
    return folder


def _describe_study(episodes: int, seeds: int) -> dict[str, Any]:
    weights = [{"upright": number, "still": 0.1} for number in range(1, ARMS)]
    shaped = {f"upright{w['upright']}": {"mode": "add", "weights": w} for w in weights}
    return {
        "study": f"many-{episodes}",
        "environment": {"id": "CartPole-v1"},
        "training": {"total_timesteps": (POINTS - 1) * EVERY},
        "seeds": seeds,
        "evaluation": {"every": EVERY, "episodes": episodes, "final_episodes": FINAL},
        "arms": {"default": {}, **shaped},
    }


def _write_run(folder: RunFolder, run: Run, kernel: RewardKernel, study: Study) -> None:
    folder.path.mkdir(parents=True)
    config = run.config
    folder.start({"identity": config.identity, "config": config.model_dump(mode="json")})
    table = AppendOnlyCsv(folder.evaluations, ["timesteps", *evaluation_columns(kernel)])
    table.append(_evaluation_rows(run, kernel, study))
    table.close()
    for file in (folder.policy, folder.episodes, folder.updates):
        file.write_bytes(bytes(SIZES[file.name]))
    folder.finish()


def _evaluation_rows(run: Run, kernel: RewardKernel, study: Study) -> Iterator[dict[str, object]]:
    """Yield a row per evaluation episode, with totals that equal the sums of its terms."""
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
    contributions = kernel.contributions_from_sums(sums, first, last, terminated.astype(float), 1.0)
    shaping = contributions.sum(axis=1)
    env_return = length.astype(float)
    totals = [env_return, shaping, kernel.shaped_reward(env_return, shaping, 1.0)]
    seeds = np.array(held_out_seeds(FINAL))[episode]
    outcomes = np.where(terminated, np.where(episode % 5 == 0, "off_track", "fell"), "balanced")
    numbers = [steps, episode, seeds, length, outcomes, terminated.astype(int), *totals]
    parts = [*numbers, *sums.T, *first.T, *last.T]
    names = ["timesteps", *evaluation_columns(kernel)]
    for values in zip(*(part.tolist() for part in parts), strict=True):
        yield dict(zip(names, values, strict=True))


if __name__ == "__main__":
    print(write_study(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5).path)
