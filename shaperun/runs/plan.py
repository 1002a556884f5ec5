"""Pure planning: which runs a study consists of, and which of them are still to be done."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from shaperun.common.errors import UserError
from shaperun.rewards.config import RewardConfig
from shaperun.study.models import RunConfig, Study

# With more runs an update costs each hardly less, and the worlds of all leave the caches; EnvPool's
# are smaller.
LARGEST_COHORT = {"gymnasium": 8, "envpool": 16}
LARGEST_MINIBATCH = 4096  # transitions of a whole cohort; with more, its update leaves them, too


@dataclass(frozen=True, eq=False)
class Run:
    """One arm trained with one seed."""

    arm: str
    config: RunConfig

    @property
    def seed(self) -> int:
        """The seed that feeds all of the run's random streams."""
        return self.config.seed


def planned_runs(
    study: Study,
    arms: Mapping[str, RewardConfig],
    only_arms: Collection[str] = (),
    only_seeds: Collection[int] = (),
) -> list[Run]:
    """Every run of these arms, seed by seed, so that the arms can be compared early.

    Args:
        study: gives the recipe and the seeds.
        arms: the arms by name: the study's own, or those of its sweep.
        only_arms: if given, the arms to keep.
        only_seeds: if given, the seeds to keep.

    Raises:
        UserError: an arm or seed to keep is not there.
    """
    _check_selected("arm", only_arms, arms)
    _check_selected("seed", only_seeds, study.seeds)
    return [
        Run(name, study.run_config(reward, seed))
        for seed in study.seeds
        for name, reward in arms.items()
        if (not only_arms or name in only_arms) and (not only_seeds or seed in only_seeds)
    ]


def group_for_lockstep(runs: Iterable[Run], workers: int) -> list[list[Run]]:
    """The runs as they are handed to workers: in lockstep those that are alike.

    Args:
        runs: what is to be trained.
        workers: how many cohorts are trained at a time; 0 if that is not known.
    """
    alike: dict[object, list[Run]] = {}
    for run in runs:
        alike.setdefault(_lockstep_key(run), []).append(run)
    return [cohort for group in alike.values() for cohort in _split(group, workers)]


def _lockstep_key(run: Run) -> object:
    """What runs of one cohort have in common: all but the reward and the seed."""
    config = run.config
    if config.training.engine != "lockstep":
        return run
    return config.model_dump_json(include={"environment", "training", "evaluation"})


def largest_cohort(recipe: RunConfig) -> int:
    """How many runs of a recipe are trained together at most."""
    batch_size: int = recipe.training.hyperparameters.get("batch_size", 1)
    most = LARGEST_COHORT[recipe.environment.backend]
    return max(1, min(most, LARGEST_MINIBATCH // batch_size))


def _split(runs: list[Run], workers: int) -> list[list[Run]]:
    """As few cohorts as give every worker the same to do."""
    count = math.ceil(len(runs) / largest_cohort(runs[0].config))
    if workers:
        count = math.ceil(count / workers) * workers
    count = min(count, len(runs))
    return [runs[first::count] for first in range(count)]


def _check_selected(kind: str, wanted: Collection[object], there: Collection[object]) -> None:
    for name in wanted:
        if name not in there:
            known = ", ".join(str(item) for item in there)
            raise UserError(f"the study has no {kind} {name}; it has {known}")
