"""Parameters of formulas: their values, arms that change them, and sweeps that search them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shaperun.envs.builtin import environments
from shaperun.rewards.kernel import RewardKernel
from shaperun.runs.study_folder import StudyFolder
from shaperun.search.arms import make_corner_arms, make_sweep_arms
from shaperun.search.trials import load_trials
from shaperun.study.models import Study, parse_study
from tests.helpers import toy
from tests.helpers.env_episodes import play_controller
from tests.helpers.studies import mistake

CARTPOLE = environments()["CartPole-v1"]

TEXT = """\
study: near
environment: {id: CartPole-v1}
training: {total_timesteps: 1000}
terms: {near: {formula: "exp(-k * abs(x)) / c", k: 3, c: 1}}
arms:
  default: {}
  wide: {mode: add, weights: {near: 1}}
  sharp: {mode: add, weights: {near: 1}, terms: {near: {k: 5}}}
sweep: {method: grid, base: sharp, weights: {near: [0, 1], near.k: [1, 2]}}
"""


def study(definition: Any, **arms: Any) -> Study:
    return toy.study(
        {"id": "CartPole-v1"}, terms={"near": definition}, arms={"default": {}, **arms}
    )


def values(study: Study, arm: str) -> np.ndarray:
    """Return the term's values in an episode."""
    kernel = RewardKernel(CARTPOLE, study.resolve_reward(study.arms[arm]), 0.9)
    return kernel(play_controller(CARTPOLE, "balance")).raw[:, kernel.names.index("near")]


def test_arms_change_parameters_of_the_study() -> None:
    known = study(
        {"formula": "exp(-k * abs(x)) / c", "k": 3, "c": 2},
        sharp={"mode": "potential", "weights": {"near": 1}, "terms": {"near": {"k": 5}}},
        other={"terms": {"near": "x"}},
    )
    for arm, text in (
        ("default", "exp(-3 * abs(x)) / 2"),
        ("sharp", "exp(-5 * abs(x)) / 2"),
        ("other", "x"),
    ):
        np.testing.assert_array_equal(values(known, arm), values(study(text), "default"))
    terms = known.run_config(known.arms["sharp"], 0).reward.model_dump(mode="json")["terms"]
    assert terms == {"near": {"formula": "exp(-k * abs(x)) / c", "k": 5.0, "c": 2.0}}
    assert parse_study(known.model_dump(mode="json")) == known


def test_a_formula_without_parameters_is_its_text() -> None:
    plain, mapping = study("abs(x)"), study({"formula": "abs(x)"})
    assert mapping == plain
    assert mapping.model_dump(mode="json")["terms"] == {"near": "abs(x)"}
    runs = [s.run_config(s.arms["default"], 0).identity for s in (plain, mapping)]
    assert runs[0] == runs[1]


def test_a_grid_searches_parameters_of_the_base() -> None:
    known = parse_study(
        study({"formula": "exp(-k * abs(x)) / c", "k": 3, "c": 1}).model_dump(mode="json")
        | {
            "arms": {
                "default": {},
                "sharp": {"mode": "add", "weights": {"near": 1}, "terms": {"near": {"c": 2}}},
            },
            "sweep": {"method": "grid", "base": "sharp", "weights": {"near.k": [1, 0.5]}},
        }
    )
    arms = make_sweep_arms(known)
    assert list(arms) == ["near.k=1", "near.k=0.5"]
    formula = "exp(-k * abs(x)) / c"
    assert [arm.model_dump(mode="json")["terms"]["near"] for arm in arms.values()] == [
        {"formula": formula, "k": k, "c": 2.0} for k in (1.0, 0.5)
    ]
    trials = load_trials(known, StudyFolder(Path("nowhere")))
    assert [trial.weights for trial in trials] == [{"near.k": 1.0}, {"near.k": 0.5}]
    swept = known.model_dump(mode="json")
    swept["sweep"] = {
        "method": "tpe",
        "base": "sharp",
        "samples": 2,
        "weights": {"near": {"low": 0, "high": 1}, "near.k": {"low": 1, "high": 9}},
    }
    corners = make_corner_arms(parse_study(swept))
    assert list(corners) == [
        "near=0_near.k=1",
        "near=0_near.k=9",
        "near=1_near.k=1",
        "near=1_near.k=9",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c: 1}}", "d: 1}}", "4:45: terms.near.formula: unknown name c, expected one of x, vx"),
        ("c: 1}}", "c: 1, d: 2}}", "4:61: terms.near.d: the formula does not use d; remove it"),
        ("c: 1}}", "c: 1, exp: 2}}", "4:61: terms.near.exp: exp means something else in formulas"),
        ("c: 1}}", "c: 1, x: 2}}", "4:61: terms.near.x: x means something else in formulas"),
        ("c: 1}}", "c: 1, obs: 2}}", "4:61: terms.near.obs: obs means something else in"),
        ("c: 1}}", "c: 1, info: 2}}", "4:61: terms.near.info: info means something else"),
        ("c: 1}}", "c: 1, pi: 2}}", "4:61: terms.near.pi: pi means something else in formulas"),
        ("c: 1}}", "c: 1, lambda: 2}}", "4:61: terms.near.lambda: lambda means something else"),
        (
            "c: 1}}",
            "c: 1, kind: 2}}",
            "4:61: terms.near.kind: kind is a key of other terms; rename",
        ),
        ("c: 1}}", "c: 1, python: 2}}", "4:61: terms.near.python: python is a key of other terms"),
        ("c: 1}}", "c: 1, D: 2}}", "4:61: terms.near.D: invalid name of a parameter, expected up"),
        ("c: 1}}", "c: one}}", "4:58: terms.near.c: found 'one', expected a number"),
        ("c: 1}}", "c: .inf}}", "4:58: terms.near.c: found inf, expected a finite number"),
        ("c: 1}}", "c: 0}}", "4:45: terms.near.formula: division by zero"),
        ('"exp(-k * abs(x)) / c"', "3", "4:25: terms.near.formula: found 3, expected text"),
        (
            "{k: 5}",
            "{kk: 5}",
            "8:57: arms.sharp.terms.near.kk: unknown parameter kk, expected",
        ),
        ("{k: 5}", "{k: five}", "8:60: arms.sharp.terms.near.k: found 'five', expected a number"),
        (
            "{k: 5}",
            "{c: 0}",
            "8:50: arms.sharp.terms.near: the study's formula is invalid with these parameters: "
            "division by zero",
        ),
        (
            "terms: {near: {k: 5}}",
            "terms: {far: {k: 5}}",
            "8:50: arms.sharp.terms.far: the study has no term far with parameters; give a formula",
        ),
        ("near.k: [1", "near.kk: [1", "9:60: sweep.weights.near.kk: unknown parameter near.kk"),
        (
            "near.k: [1, 2]",
            "near.c: [1, 0]",
            "9:60: sweep.weights.near.c: the formula is invalid with c = 0: division by zero",
        ),
        (
            "base: sharp, weights: {near: [0, 1], ",
            "base: default, weights: {",
            "9:48: sweep.weights.near.k: near has no weight in the arm default; give it one",
        ),
    ],
)
def test_mistake_gives_one_message(file: Path, old: str, new: str, message: str) -> None:
    assert mistake(file, TEXT, old, new).startswith(message)
