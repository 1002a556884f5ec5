"""Arms that are trained otherwise than others: in what, and which learner had which reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shaperun.common.diff import Differences, differences, format_differences, format_value
from shaperun.study.models import Study
from shaperun.study.training import TrainingConfig


@dataclass(frozen=True)
class Grid:
    """Rewards × learners.

    Attributes:
        rewards: each by the name of the first arm that has it.
        learners: by their algorithm, and by what else tells them apart.
        arms: the arm of a reward and a learner, where there is one.
    """

    rewards: list[str]
    learners: list[str]
    arms: dict[tuple[str, str], str]


def training_grid(study: Study) -> Grid | None:
    """The study as a table; None where there is one reward only, or none that two learners had."""
    recipes: list[TrainingConfig] = []
    rewards: dict[str, str] = {}  # by what they are: the first arm's name
    places: dict[tuple[str, int], str] = {}
    for arm, config in study.arms.items():
        recipe = study.training_of(config)
        if recipe not in recipes:
            recipes.append(recipe)
        reward = rewards.setdefault(study.resolved(config).model_dump_json(), arm)
        places.setdefault((reward, recipes.index(recipe)), arm)
    learners_of = Counter(reward for reward, _ in places)
    if len(rewards) < 2 or max(learners_of.values()) < 2:
        return None
    learners = [_name(recipe, recipes) for recipe in recipes]
    arms = {(reward, learners[place]): arm for (reward, place), arm in places.items()}
    return Grid(list(rewards.values()), learners, arms)


def algorithms(study: Study) -> list[str]:
    """The algorithms that its arms are trained by."""
    return list(dict.fromkeys(study.training_of(arm).algorithm for arm in study.arms.values()))


def training_notes(study: Study, arms: Iterable[str] | None = None) -> Iterator[str]:
    """A sentence on each arm, of these or of all, that is compared with one trained otherwise."""
    for arm in study.arms if arms is None else arms:
        baseline, config = study.baseline_of(arm), study.arms[arm]
        found = _between(study.training_of(study.arms[baseline]), study.training_of(config))
        if found:
            yield (
                f"{arm} was not trained like {baseline}: {format_differences(found, baseline, arm)}. "
                "A difference between them is then not about the reward alone."
            )


def _between(one: TrainingConfig, other: TrainingConfig) -> Differences:
    """In what two recipes differ; two algorithms have other hyperparameters in any case."""
    apart = {"hyperparameters", "engine"} if one.algorithm != other.algorithm else set()
    a, b = ({"training": r.model_dump(mode="json", exclude=apart)} for r in (one, other))
    return list(differences(a, b))


def _name(recipe: TrainingConfig, recipes: list[TrainingConfig]) -> str:
    """The algorithm, and how it differs from the first recipe that has the same."""
    first = next(other for other in recipes if other.algorithm == recipe.algorithm)
    keys = [f"{key.split('.')[-1]} {format_value(y)}" for key, _, y in _between(first, recipe)]
    return ", ".join([recipe.algorithm, *keys])
