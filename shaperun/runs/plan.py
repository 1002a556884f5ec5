"""Plan which runs a study has, and which of them are trained together."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from shaperun.common.errors import UserError
from shaperun.rewards.config import RewardConfig
from shaperun.runs.start import find_start
from shaperun.study.models import RunConfig, Study

# Larger cohorts hardly make an update cheaper per run, and their environments no longer fit into
# the caches; EnvPool's are smaller.
MAX_COHORT_SIZE = {"gymnasium": 8, "envpool": 16}
MAX_RUNS = 100_000  # of one command
MAX_COHORT_MINIBATCH = 4096  # transitions of a whole cohort; more would not fit into the caches


@dataclass(frozen=True, eq=False)
class Run:
    """One arm trained with one seed."""

    arm: str
    config: RunConfig

    @property
    def seed(self) -> int:
        """Seed of all random streams of the run."""
        return self.config.seed


def plan_runs(
    study: Study,
    arms: Mapping[str, RewardConfig],
    only_arms: Collection[str] = (),
    only_seeds: Collection[int] = (),
) -> list[Run]:
    """Return the runs of arms by name, seed by seed, so that arms can be compared early.

    If `only_arms` or `only_seeds` are given, the other runs are left out.

    Raises:
        UserError: a selected arm or seed is unknown, or there are too many runs.
    """
    chosen, seeds = select(study, arms, only_arms, only_seeds)
    count = len(chosen) * len(seeds)
    if count > MAX_RUNS:
        raise UserError(
            f"{len(chosen):,} arms × {len(seeds):,} seeds are {count:,} runs, above the limit of "
            f"{MAX_RUNS:,}; split the study, or select runs with --arms and --seeds"
        )
    first = {name: study.run_config(reward, study.seeds[0]) for name, reward in chosen.items()}
    return [
        Run(name, find_start(study, name, config.model_copy(update={"seed": seed})))
        for seed in seeds
        for name, config in first.items()
    ]


def select(
    study: Study,
    arms: Mapping[str, RewardConfig],
    only_arms: Collection[str] = (),
    only_seeds: Collection[int] = (),
) -> tuple[dict[str, RewardConfig], list[int]]:
    """Return the arms and seeds whose runs are selected, in their order.

    Raises:
        UserError: a selected arm or seed is unknown.
    """
    _check_selected("arm", only_arms, arms)
    _check_selected("seed", only_seeds, study.seeds)
    chosen = {name: arm for name, arm in arms.items() if not only_arms or name in only_arms}
    return chosen, [seed for seed in study.seeds if not only_seeds or seed in only_seeds]


def group_for_lockstep(runs: Iterable[Run], workers: int) -> list[list[Run]]:
    """Return cohorts for so many workers (0: unknown), of one run each unless in lockstep.

    In lockstep, the runs of a cohort differ only in reward and seed.
    """
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault(_lockstep_key(run), []).append(run)
    return [cohort for group in groups.values() for cohort in _split(group, workers)]


def _lockstep_key(run: Run) -> object:
    config = run.config
    if config.training.engine != "lockstep":
        return run
    return config.model_dump_json(include={"environment", "training", "evaluation"})


def max_cohort_size(config: RunConfig) -> int:
    """Return how many runs of this configuration are trained together at most."""
    batch_size: int = config.training.hyperparameters.get("batch_size", 1)
    limit = MAX_COHORT_SIZE[config.environment.backend]
    return max(1, min(limit, MAX_COHORT_MINIBATCH // batch_size))


def _split(runs: list[Run], workers: int) -> list[list[Run]]:
    """Split runs into as few cohorts as give every worker the same number of them."""
    count = math.ceil(len(runs) / max_cohort_size(runs[0].config))
    if workers:
        count = math.ceil(count / workers) * workers
    count = min(count, len(runs))
    return [runs[first::count] for first in range(count)]


def _check_selected(kind: str, selected: Collection[object], known: Collection[object]) -> None:
    for name in selected:
        if name not in known:
            choices = f"choose from {', '.join(map(str, known))}" if known else "there is none yet"
            raise UserError(f"unknown {kind} {name}; {choices}")
