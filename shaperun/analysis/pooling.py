"""Pool several studies into one: match their equal arms, and describe their differences."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shaperun.analysis import training_differences
from shaperun.analysis.results import RecordedRun, explain_no_results, recorded_runs
from shaperun.common.diff import format_differences, iter_differences
from shaperun.common.errors import UserError
from shaperun.runs.plan import plan_runs
from shaperun.runs.prepare import ensure_unchanged
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Arm, RunConfig, Study

OpenedStudy = tuple[Study, StudyFolder]


class PooledStudy(Study):
    """Several studies in the shape of one, with the arms of all under unique names.

    It has no file. Settings that differ between the studies are the first one's.
    """

    first_baseline: str

    @property
    def baseline(self) -> str:
        """The first study's baseline."""
        return self.first_baseline

    def baseline_of(self, arm: str) -> str:
        """Return the same baseline for all arms, since it is the studies that are compared."""
        return self.first_baseline


@dataclass(frozen=True)
class Pool:
    """Several studies, by name, as one, with sentences on their equal and differing arms.

    Runs are listed arm by arm; a seed that two studies have of the same arm occurs once.
    """

    study: PooledStudy
    studies: list[str]
    runs: list[RecordedRun]
    notes: list[str]


@dataclass(frozen=True)
class _PooledArm:
    """One configuration without its seed, and its arm in each study (study -> arm)."""

    key: str
    config: RunConfig
    names: dict[str, str]

    @property
    def name(self) -> str:
        """Its name in the first study that has it."""
        return next(iter(self.names.values()))

    @property
    def arm(self) -> Arm:
        """The configuration as an arm with its training settings."""
        return Arm.model_construct(**dict(self.config.reward), training=self.config.training)


def pool_studies(opened: Sequence[OpenedStudy]) -> Pool:
    """Pool the arms of several studies.

    Raises:
        UserError: the studies cannot be compared, or runs have another configuration.
    """
    studies = [study for study, _ in opened]
    for name, count in Counter(study.study for study in studies).items():
        if count > 1:
            raise UserError(f"study {name} is given {count} times; name it once")
    for study in studies[1:]:
        _ensure_comparable(studies[0], study)
    arms = _label_arms(_merge_arms(studies))
    label_of = {
        (study, name): label for label, arm in arms.items() for study, name in arm.names.items()
    }
    study = _build_study(studies, arms, label_of)
    # Training settings of whole studies get one note per study, those of single arms one per arm.
    arms_with_training = dict.fromkeys(
        label_of[s.study, name] for s in studies for name, arm in s.arms.items() if arm.training
    )
    return Pool(
        study,
        [study.study for study in studies],
        _pool_runs(opened, list(arms), label_of),
        [
            *_study_training_notes(studies),
            *training_differences.training_notes(study, arms_with_training),
            *_shared_arm_notes(arms),
            *_conflicting_arm_notes(arms),
        ],
    )


def _ensure_comparable(first: Study, other: Study) -> None:
    """Refuse studies with different environments or final episodes."""
    differences = list(iter_differences(_protocol(first), _protocol(other)))
    if differences:
        raise UserError(
            f"{first.study} and {other.study} cannot be compared, as they are evaluated "
            f"differently: {format_differences(differences, first.study, other.study)}"
        )


def _protocol(study: Study) -> dict[str, Any]:
    final = study.evaluation.final_episodes
    return {
        "environment": study.evaluated_environment.model_dump(
            mode="json", include={"id", "options", "outcomes", "metrics"}
        ),
        "evaluation": {"final_episodes": final},
    }


def _merge_arms(studies: Sequence[Study]) -> list[_PooledArm]:
    """Return each configuration once, in the order of the studies."""
    arms: list[_PooledArm] = []
    for study in studies:
        configs = {n: study.run_config(r, study.seeds[0]) for n, r in study.arms.items()}
        keys = {name: _hash_config(config) for name, config in configs.items()}
        # Arms of one study are never merged, and arms of the same name are matched first.
        named = {(arm.key, name): arm for arm in arms for name in arm.names.values()}
        matched = {n: named[key, n] for n, key in keys.items() if (key, n) in named}
        for name, arm in matched.items():
            arm.names[study.study] = name
        for name in [name for name in configs if name not in matched]:
            free = (a for a in arms if a.key == keys[name] and study.study not in a.names)
            arm = next(free, None) or _PooledArm(keys[name], configs[name], {})
            if not arm.names:
                arms.append(arm)
            arm.names[study.study] = name
    return arms


def _hash_config(config: RunConfig) -> str:
    """Return the hash of a configuration without its seed."""
    text = json.dumps(config.model_dump(mode="json", exclude={"seed"}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _label_arms(arms: Sequence[_PooledArm]) -> dict[str, _PooledArm]:
    """Return the arms by unique names, with a hash where several have the same name."""
    names, keys = Counter(arm.name for arm in arms), {arm.key for arm in arms}
    digits = next(n for n in range(6, 65) if len({key[:n] for key in keys}) == len(keys))
    return {a.name if names[a.name] == 1 else f"{a.name}#{a.key[:digits]}": a for a in arms}


def _build_study(
    studies: Sequence[Study],
    arms: Mapping[str, _PooledArm],
    label_of: Mapping[tuple[str, str], str],
) -> PooledStudy:
    first = studies[0]
    fewest = min(study.evaluation.episodes for study in studies)
    return PooledStudy.model_construct(
        **{
            **dict(first),
            "study": " + ".join(study.study for study in studies),
            "evaluation": first.evaluation.model_copy(update={"episodes": fewest}),
            "terms": {},  # the rewards include them
            "arms": {label: arm.arm for label, arm in arms.items()},
            "sweep": None,
            "first_baseline": label_of[first.study, first.baseline],
        }
    )


def _pool_runs(
    opened: Sequence[OpenedStudy], labels: Sequence[str], label_of: Mapping[tuple[str, str], str]
) -> list[RecordedRun]:
    """Return the runs of all studies; of two with the same arm and seed, prefer a finished one."""
    pooled: dict[tuple[str, int], RecordedRun] = {}
    for study, folder in opened:
        runs = plan_runs(study, study.arms)
        ensure_unchanged(folder, runs)
        recorded = recorded_runs(study.study, folder, runs)
        if all(run.state == "waiting" for run in recorded):
            raise UserError(explain_no_results(study.study, folder, recorded))
        for run in recorded:
            label = label_of[study.study, run.arm]
            known = pooled.get((label, run.run.seed))
            if known is None or (run.done and not known.done):
                pooled[label, run.run.seed] = replace(run, arm=label)
    return sorted(pooled.values(), key=lambda run: labels.index(run.arm))


def _study_training_notes(studies: Sequence[Study]) -> Iterator[str]:
    """Yield a sentence on each study trained differently from the first."""
    first = studies[0]
    for other in studies[1:]:
        differences = list(iter_differences(_training_of(first), _training_of(other)))
        if differences:
            yield training_differences.format_training_note(first.study, other.study, differences)


def _training_of(study: Study) -> dict[str, Any]:
    """Return the settings of training; the environment's do not affect evaluation."""
    training = study.training.model_dump(mode="json")
    environment = {"backend": study.environment.backend, "options": study.environment.options}
    return {"training": training, "environment": environment}


def _shared_arm_notes(arms: Mapping[str, _PooledArm]) -> Iterator[str]:
    for label, arm in arms.items():
        if len(arm.names) > 1:
            several = len(set(arm.names.values())) > 1
            names = [f"{s} (as {n})" if several else s for s, n in arm.names.items()]
            yield (
                f"{label} is the same arm in {' and '.join(names)}: its runs are pooled, and a "
                "seed counts once."
            )


def _conflicting_arm_notes(arms: Mapping[str, _PooledArm]) -> Iterator[str]:
    """Yield a sentence on each arm that has another one's name but other settings."""
    named = sorted(arms.items(), key=lambda pair: pair[1].name)
    for name, group in itertools.groupby(named, key=lambda pair: pair[1].name):
        (label, first), *others = group
        for other_label, other in others:
            configs = [
                arm.config.model_dump(mode="json", exclude={"seed", "training", "environment"})
                for arm in (first, other)
            ]
            differences = list(iter_differences(configs[0], configs[1]))
            text = format_differences(differences, label, other_label)
            yield (
                f"{name} has different settings in {' and '.join(first.names)} ({label}) and in "
                f"{' and '.join(other.names)} ({other_label}): "
                f"{text or 'only the training differs'}."
            )
