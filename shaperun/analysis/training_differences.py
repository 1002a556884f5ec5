"""Arms trained with different settings, and the grid of rewards and learners they form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shaperun.common.diff import Differences, format_differences, format_value, iter_differences
from shaperun.study.models import Study
from shaperun.study.training import TrainingConfig


@dataclass(frozen=True)
class TrainingGrid:
    """Rewards, by the first arm of each, × learners, by algorithm and what distinguishes them.

    `arms` has the arm of a reward and a learner, where one exists.
    """

    rewards: list[str]
    learners: list[str]
    arms: dict[tuple[str, str], str]


def training_grid(study: Study) -> TrainingGrid | None:
    """Return the study as a grid; None for a single reward, or if no reward has two learners."""
    trainings: list[TrainingConfig] = []
    rewards: dict[str, str] = {}  # JSON -> the first arm with this reward
    cells: dict[tuple[str, int], str] = {}
    for arm, config in study.arms.items():
        training = study.training_of(config)
        if training not in trainings:
            trainings.append(training)
        reward = rewards.setdefault(study.resolve_reward(config).model_dump_json(), arm)
        cells.setdefault((reward, trainings.index(training)), arm)
    learners_per_reward = Counter(reward for reward, _ in cells)
    if len(rewards) < 2 or max(learners_per_reward.values()) < 2:
        return None
    learners = [_learner_name(training, trainings) for training in trainings]
    arms = {(reward, learners[index]): arm for (reward, index), arm in cells.items()}
    return TrainingGrid(list(rewards.values()), learners, arms)


def algorithms(study: Study) -> list[str]:
    """Return the algorithms of the study's arms."""
    return list(dict.fromkeys(study.training_of(arm).algorithm for arm in study.arms.values()))


def training_notes(study: Study, arms: Iterable[str] | None = None) -> Iterator[str]:
    """Yield a sentence on each of these arms (default: all) trained unlike its baseline."""
    for arm in study.arms if arms is None else arms:
        baseline, config = study.baseline_of(arm), study.arms[arm]
        differences = _training_differences(
            study.training_of(study.arms[baseline]), study.training_of(config)
        )
        if differences:
            yield format_training_note(baseline, arm, differences)


def format_training_note(baseline: str, name: str, differences: Differences) -> str:
    """Return the sentence on two arms or studies that differ in their training."""
    return (
        f"{name} was trained differently from {baseline}: "
        f"{format_differences(differences, baseline, name)}. A difference between their results "
        "cannot be attributed to the reward alone."
    )


def _training_differences(old: TrainingConfig, new: TrainingConfig) -> Differences:
    """Return the differences; hyperparameters count only for the same algorithm."""
    excluded = {"hyperparameters", "engine"} if old.algorithm != new.algorithm else set()
    a, b = ({"training": t.model_dump(mode="json", exclude=excluded)} for t in (old, new))
    return list(iter_differences(a, b))


def _learner_name(training: TrainingConfig, trainings: list[TrainingConfig]) -> str:
    """Return the algorithm, and the differences from its first training configuration."""
    first = next(other for other in trainings if other.algorithm == training.algorithm)
    differences = _training_differences(first, training)
    values = [f"{key.split('.')[-1]} {format_value(value)}" for key, _, value in differences]
    return ", ".join([training.algorithm, *values])
