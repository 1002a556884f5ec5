"""Several studies -> one: which of their arms are the same, which differ and in what."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shaperun.analysis import training_differences
from shaperun.analysis.results import RecordedRun, recorded_runs
from shaperun.common.diff import differences, format_differences
from shaperun.common.errors import UserError
from shaperun.runs.plan import planned_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Arm, RunConfig, Study

Opened = tuple[Study, StudyFolder]


class PooledStudy(Study):
    """Several studies in the shape of one: its arms are theirs, under names that tell them apart.

    It was never in a file, and what is not the same in all of them is the first one's.
    """

    first_baseline: str

    @property
    def baseline(self) -> str:
        """The first study's."""
        return self.first_baseline

    def baseline_of(self, arm: str) -> str:
        """The same for all arms: it is the studies that are compared."""
        return self.first_baseline


@dataclass(frozen=True)
class Pool:
    """Several studies as one.

    Attributes:
        study: the arms of all of them.
        studies: their names.
        runs: every run, arm by arm; a seed that two studies have of the same arm is there once.
        notes: sentences on what is the same and what differs.
    """

    study: PooledStudy
    studies: list[str]
    runs: list[RecordedRun]
    notes: list[str]


@dataclass(frozen=True)
class _Arm:
    """One configuration but for the seed: its name in every study that has it."""

    key: str
    config: RunConfig
    names: dict[str, str]

    @property
    def name(self) -> str:
        """What the first study calls it."""
        return next(iter(self.names.values()))

    @property
    def arm(self) -> Arm:
        """As an arm of a study that trains otherwise."""
        return Arm.model_construct(**dict(self.config.reward), training=self.config.training)


def pool_studies(opened: Sequence[Opened]) -> Pool:
    """Put the arms of several studies together.

    Raises:
        UserError: they cannot be compared, or one was trained from another configuration.
    """
    _ensure_distinct(opened)
    studies = [study for study, _ in opened]
    for study in studies[1:]:
        _ensure_comparable(studies[0], study)
    arms = _merged(studies)
    labels = _labels(arms)
    label_of = {
        (study, name): label
        for label, arm in zip(labels, arms, strict=True)
        for study, name in arm.names.items()
    }
    study = _joint_study(studies, arms, labels, label_of)
    # What a study says of all its arms is said once; an arm may have a recipe of its own.
    own = [label_of[s.study, name] for s in studies for name, arm in s.arms.items() if arm.training]
    apart = training_differences.training_notes(study, dict.fromkeys(own))
    return Pool(
        study,
        [study.study for study in studies],
        _pooled_runs(opened, labels, label_of),
        [
            *_trainings(studies),
            *apart,
            *_notes_on_pooled(arms, labels),
            *_notes_on_renamed(arms, labels),
        ],
    )


def _ensure_distinct(opened: Sequence[Opened]) -> None:
    for name, count in Counter(study.study for study, _ in opened).items():
        if count > 1:
            raise UserError(f"the study {name} is given {count} times; name it once")


def _ensure_comparable(first: Study, other: Study) -> None:
    """Numbers from different environments, or from different episodes, say nothing together."""
    found = list(differences(_protocol(first), _protocol(other)))
    if found:
        raise UserError(
            f"{first.study} and {other.study} cannot be compared, they were not judged alike: "
            f"{format_differences(found, first.study, other.study)}"
        )


def _protocol(study: Study) -> dict[str, Any]:
    final = study.evaluation.final_episodes
    return {
        "environment": study.environment.model_dump(mode="json", include={"id", "options"}),
        "evaluation": {"final_episodes": final},
    }


def _merged(studies: Sequence[Study]) -> list[_Arm]:
    """Every configuration once, in the order in which the studies have them."""
    arms: list[_Arm] = []
    for study in studies:
        configs = {n: study.run_config(r, study.seeds[0]) for n, r in study.arms.items()}
        keys = {name: _key(config) for name, config in configs.items()}
        # Arms of one study stay apart, and those that have the same name find each other first.
        of_name = {(arm.key, name): arm for arm in arms for name in arm.names.values()}
        partners = {n: of_name[key, n] for n, key in keys.items() if (key, n) in of_name}
        for name, arm in partners.items():
            arm.names[study.study] = name
        for name in [name for name in configs if name not in partners]:
            free = (a for a in arms if a.key == keys[name] and study.study not in a.names)
            arm = next(free, None) or _Arm(keys[name], configs[name], {})
            if not arm.names:
                arms.append(arm)
            arm.names[study.study] = name
    return arms


def _key(config: RunConfig) -> str:
    """The hash of a configuration without its seed."""
    text = json.dumps(config.model_dump(mode="json", exclude={"seed"}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _labels(arms: Sequence[_Arm]) -> list[str]:
    """The arms' names; where two have the same, a hash tells them apart."""
    names, keys = Counter(arm.name for arm in arms), {arm.key for arm in arms}
    digits = next(n for n in range(6, 65) if len({key[:n] for key in keys}) == len(keys))
    return [arm.name if names[arm.name] == 1 else f"{arm.name}#{arm.key[:digits]}" for arm in arms]


def _joint_study(
    studies: Sequence[Study],
    arms: Sequence[_Arm],
    labels: Sequence[str],
    label_of: dict[tuple[str, str], str],
) -> PooledStudy:
    first = studies[0]
    fewest = min(study.evaluation.episodes for study in studies)
    return PooledStudy.model_construct(
        **{
            **dict(first),
            "study": " + ".join(study.study for study in studies),
            "evaluation": first.evaluation.model_copy(update={"episodes": fewest}),
            "terms": {},  # they are in the rewards
            "arms": {label: arm.arm for label, arm in zip(labels, arms, strict=True)},
            "sweep": None,
            "first_baseline": label_of[first.study, first.baseline],
        }
    )


def _pooled_runs(
    opened: Sequence[Opened], labels: Sequence[str], label_of: dict[tuple[str, str], str]
) -> list[RecordedRun]:
    found: dict[tuple[str, int], RecordedRun] = {}
    for study, folder in opened:
        runs = planned_runs(study, study.arms)
        ensure_unchanged(folder, runs)
        looked_at = recorded_runs(study.study, folder, runs)
        if all(run.state == "waiting" for run in looked_at):
            raise UserError(f"nothing of {study.study} has been trained into {folder.path} yet")
        for run in looked_at:
            label = label_of[study.study, run.arm]
            known = found.get((label, run.run.seed))
            if known is None or (run.done and not known.done):
                found[label, run.run.seed] = replace(run, arm=label)
    return sorted(found.values(), key=lambda run: labels.index(run.arm))


def _trainings(studies: Sequence[Study]) -> Iterator[str]:
    """Which studies train otherwise than the first."""
    first = studies[0]
    for other in studies[1:]:
        found = list(differences(_training_of(first), _training_of(other)))
        if found:
            yield (
                f"{other.study} was not trained like {first.study}: "
                f"{format_differences(found, first.study, other.study)}. A difference between their arms "
                "is then not about the reward alone."
            )


def _training_of(study: Study) -> dict[str, Any]:
    """How a study trains; judged is every policy in the same simulation."""
    training = study.training.model_dump(mode="json")
    return {"training": training, "environment": {"backend": study.environment.backend}}


def _notes_on_pooled(arms: Sequence[_Arm], labels: Sequence[str]) -> Iterator[str]:
    for label, arm in zip(labels, arms, strict=True):
        if len(arm.names) > 1:
            several = len(set(arm.names.values())) > 1
            names = [f"{n} of {s}" if several else s for s, n in arm.names.items()]
            yield (
                f"{label} is one arm, the same in {' and '.join(names)}: its runs are taken "
                "together, a seed counts once."
            )


def _notes_on_renamed(arms: Sequence[_Arm], labels: Sequence[str]) -> Iterator[str]:
    """In what arms of the same name differ, each from the first."""
    named = sorted(zip(labels, arms, strict=True), key=lambda pair: pair[1].name)
    for name, group in itertools.groupby(named, key=lambda pair: pair[1].name):
        (label, first), *others = group
        for other_label, other in others:
            found = list(differences(_judged(first), _judged(other)))
            what = (
                format_differences(found, label, other_label) if found else "in their training only"
            )
            yield (
                f"{name} is not the same arm in {_owners(first)} ({label}) and in "
                f"{_owners(other)} ({other_label}); they differ: {what}."
            )


def _judged(arm: _Arm) -> dict[str, Any]:
    return arm.config.model_dump(mode="json", exclude={"seed", "training", "environment"})


def _owners(arm: _Arm) -> str:
    return " and ".join(arm.names)
