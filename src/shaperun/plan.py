"""Pure planning: which runs a study consists of, and which of them are still to be done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from shaperun.arm import RewardConfig
from shaperun.errors import UserError
from shaperun.study import RunConfig, Study


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
    _check("arm", only_arms, arms)
    _check("seed", only_seeds, study.seeds)
    return [
        Run(name, study.run_config(reward, seed))
        for seed in study.seeds
        for name, reward in arms.items()
        if (not only_arms or name in only_arms) and (not only_seeds or seed in only_seeds)
    ]


def cohorts(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs as they are handed to workers: for now each by itself."""
    return [[run] for run in runs]


def _check(kind: str, wanted: Collection[object], there: Collection[object]) -> None:
    for name in wanted:
        if name not in there:
            known = ", ".join(str(item) for item in there)
            raise UserError(f"the study has no {kind} {name}; it has {known}")
