"""Planning: which runs a study has, in which order, and which are trained together."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaperun.common.errors import UserError
from shaperun.runs.plan import group_for_lockstep, max_cohort_size, plan_runs
from shaperun.study.models import parse_study

STUDY = parse_study(
    {
        "study": "planned",
        "environment": {"id": "CartPole-v1"},
        "training": {"total_timesteps": 1000},
        "seeds": [7, 3],
        "arms": {
            "zero": {},
            "b": {"mode": "add", "weights": {"still": 1}},
            "a": {"mode": "replace", "weights": {"upright": 1}},
        },
    }
)


def plan(arms: Collection[str] = (), seeds: Collection[int] = ()) -> list[tuple[str, int]]:
    return [(run.arm, run.seed) for run in plan_runs(STUDY, STUDY.arms, arms, seeds)]


def test_every_arm_of_a_seed_comes_before_the_next_seed() -> None:
    assert plan() == [("zero", 7), ("b", 7), ("a", 7), ("zero", 3), ("b", 3), ("a", 3)]


@pytest.mark.parametrize(
    ("arms", "seeds", "expected"),
    [
        (["a"], [], [("a", 7), ("a", 3)]),
        (["a", "zero"], [3], [("zero", 3), ("a", 3)]),
        ([], [3, 7], [("zero", 7), ("b", 7), ("a", 7), ("zero", 3), ("b", 3), ("a", 3)]),
        (["b", "b"], [7, 7], [("b", 7)]),
    ],
)
def test_selecting_preserves_the_order(
    arms: list[str], seeds: list[int], expected: list[tuple[str, int]]
) -> None:
    assert plan(arms, seeds) == expected


@pytest.mark.parametrize(
    ("arms", "seeds", "message"),
    [
        (["c"], [], "unknown arm c; choose from zero, b, a"),
        (["a", "c"], [7], "unknown arm c; choose from zero, b, a"),
        ([], [0], "unknown seed 0; choose from 7, 3"),
        (["a"], [7, 8], "unknown seed 8; choose from 7, 3"),
    ],
)
def test_unknown_arms_and_seeds_are_refused(
    arms: list[str], seeds: list[int], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        plan(arms, seeds)


def test_arm_and_seed_configure_a_run() -> None:
    runs = plan_runs(STUDY, STUDY.arms)
    for run in runs:
        assert run.config == STUDY.run_config(STUDY.arms[run.arm], run.seed)
    assert len({run.config.identity for run in runs}) == 6


def test_arms_outside_the_study_can_be_planned() -> None:
    runs = plan_runs(STUDY, {"other": STUDY.arms["a"]}, ["other"])
    assert [(run.arm, run.seed) for run in runs] == [("other", 7), ("other", 3)]


@given(count=st.integers(1, 300), workers=st.integers(0, 40))
def test_every_run_is_in_one_cohort(count: int, workers: int) -> None:
    training = STUDY.training.model_copy(update={"engine": "lockstep"})
    study = STUDY.model_copy(update={"seeds": list(range(count)), "training": training})
    runs = plan_runs(study, {"a": STUDY.arms["a"]})
    cohorts = group_for_lockstep(runs, workers)
    assert sorted(run.seed for cohort in cohorts for run in cohort) == study.seeds
    sizes = [len(cohort) for cohort in cohorts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max_cohort_size(runs[0].config)
    assert len(cohorts) % (workers or 1) == 0 or len(cohorts) == count


@pytest.mark.parametrize(
    ("backend", "batch_size", "size"),
    [
        *[("gymnasium", 64, 8), ("gymnasium", 1024, 4), ("gymnasium", 4096, 1)],
        *[("gymnasium", 10_000, 1), ("envpool", 64, 16), ("envpool", 1024, 4)],
    ],
)
def test_cohort_size_is_limited(backend: str, batch_size: int, size: int) -> None:
    learners = {"hyperparameters": STUDY.training.hyperparameters | {"batch_size": batch_size}}
    training = STUDY.training.model_copy(update={"engine": "lockstep"} | learners)
    environment = STUDY.environment.model_copy(update={"backend": backend})
    changes = {"seeds": list(range(32)), "training": training, "environment": environment}
    study = STUDY.model_copy(update=changes)
    runs = plan_runs(study, {"a": STUDY.arms["a"]})
    assert [len(cohort) for cohort in group_for_lockstep(runs, 1)] == [size] * (32 // size)


def test_cohorts_share_their_training_config() -> None:
    for engine, size in (("lockstep", 6), ("sb3", 1)):
        runs = []
        for copies in (1, 2):
            training = STUDY.training.model_copy(update={"engine": engine, "n_envs": copies})
            study = STUDY.model_copy(update={"training": training})
            runs += plan_runs(study, study.arms)
        assert [len(cohort) for cohort in group_for_lockstep(runs, 1)] == [size] * (12 // size)
