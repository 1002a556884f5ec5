"""Bounds that follow from the text of formulas."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from shaperun.check.behaviors import record_behaviors
from shaperun.common.errors import ContractError
from shaperun.envs.base import Bounds
from shaperun.envs.metrics import measure_episode, metric_bounds
from shaperun.study.models import Study, parse_study

# Formula, reduction and bounds on CartPole, whose episodes have at most 500 steps.
CASES: list[tuple[str, str, Bounds | None]] = [
    ("x > 0.1", "last", (0, 1)),
    ("not (x > 0.1 or terminated)", "mean", (0, 1)),
    ("0 < x < 0.1", "max", (0, 1)),
    ("action in (0, 2)", "min", (0, 1)),
    ("terminated", "last", (0, 1)),
    ("any(obs > 1)", "max", (0, 1)),
    ("x > 0.1", "sum", (0, 500)),
    ("total(x > 0.1)", "last", (0, 500)),
    ("1 - 2 * (x > 0)", "last", (-1, 1)),
    ("1 if x > 0 else -2", "mean", (-2, 1)),
    ("-3 if x > 0 else -2", "sum", (-1500, -2)),
    ("steps()", "last", (1, 500)),
    ("steps() / 500", "last", None),
    ("changed(action)", "sum", (0, 500)),
    ("previous(x > 0, 0.5)", "mean", (0, 1)),
    ("highest(terminated) + lowest(x > 0)", "last", (0, 2)),
    ("mean_so_far(x > 0)", "last", (0, 1)),
    ("std_so_far(2 * (x > 0))", "max", (0, 1)),
    ("clip(x, -1, 2) - 0.5 * tanh(vx)", "mean", (-1.5, 2.5)),
    ("max(-1, min(abs(x), 4))", "last", (0, 4)),
    ("abs(-2 - (x > 0))", "last", (2, 3)),
    ("x", "last", None),
    ("abs(x)", "max", None),
    ("min(x, 1)", "max", None),
    ("(x > 0) * vx", "mean", None),
]


def study(**metrics: Any) -> Study:
    return parse_study(
        {
            "study": "s",
            "environment": {"id": "CartPole-v1", "metrics": metrics},
            "training": {"total_timesteps": 100},
            "arms": {"default": {}},
        }
    )


@pytest.mark.parametrize("cases", [CASES[:13], CASES[13:]])
def test_bounds_follow_from_the_formula_and_hold(
    cases: list[tuple[str, str, Bounds | None]],
) -> None:
    formulas = {f"m{n}": {"value": value, "of": of} for n, (value, of, _) in enumerate(cases)}
    config = study(**formulas).environment
    known = metric_bounds(config.describe())
    assert [known.get(name) for name in formulas] == [bounds for *_, bounds in cases]
    played = 0
    for behavior in record_behaviors(config, 2):
        starts = [*behavior.starts.tolist(), len(behavior.transition)]
        for first, end in pairwise(starts):
            episode = behavior.transition.take(slice(first, end))
            for name, value in measure_episode(config.describe(), episode).items():
                low, high = known.get(name, (value, value))
                assert low <= value <= high, formulas[name]
            played += 1
    assert played > 4


def test_sums_have_no_bounds_without_a_time_limit() -> None:
    raw = study(n={"value": "x > 0", "of": "sum"}, b={"value": "x > 0", "of": "max"})
    environment = raw.model_dump(mode="json")["environment"]
    environment |= {"options": {"max_episode_steps": -1}, "ends_itself": True}
    known = parse_study(raw.model_dump(mode="json") | {"environment": environment})
    bounds = metric_bounds(known.environment.describe())
    assert bounds.get("b") == (0, 1)
    assert "n" not in bounds
    assert "length" not in bounds


def test_declared_bounds_are_those_of_intervals_and_of_episodes() -> None:
    plain = study(far={"value": "abs(x)", "of": "max"})
    assert "bounds" not in str(plain.model_dump(mode="json"))  # as before they existed
    for high, fits in ((3, True), (0.01, False)):
        known = study(far={"value": "abs(x)", "of": "max", "bounds": [0, high]})
        environment = known.environment.describe()
        assert metric_bounds(environment)["far"] == (0, high)
        [behavior, *_] = record_behaviors(plain.environment, 1)
        if fits:
            assert 0.01 < measure_episode(environment, behavior.transition)["far"] < 3
            continue
        with pytest.raises(ContractError, match=r"the metric far is 0\.\d+ in an episode, out"):
            measure_episode(environment, behavior.transition)


@pytest.mark.parametrize("bounds", [[1, 1], [2, 1], [0], [0, 1, 2], [0, float("inf")], 3])
def test_bounds_are_two_numbers_in_order(bounds: Any) -> None:
    with pytest.raises(ValueError, match="bounds"):
        study(far={"value": "abs(x)", "of": "max", "bounds": bounds})
