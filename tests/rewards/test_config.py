"""An arm: its own terms, what it weighs, its schedule, and how all of it is written down."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shaperun.envs.base import RESERVED
from shaperun.envs.builtin import environments
from shaperun.rewards.config import (
    PythonTerm,
    RewardConfig,
    check_potential,
    check_weighable,
    define_term,
    shaping_factor,
)
from shaperun.rewards.kernel import RewardKernel
from shaperun.rewards.schedule import LinearSchedule, PiecewiseSchedule, Schedule
from shaperun.study.models import RunConfig, Study, parse_study

LANDER = environments()["LunarLander-v3"]
STUDY: dict[str, Any] = {
    "study": "lander",
    "environment": {"id": "LunarLander-v3"},
    "training": {"total_timesteps": 1000},
    "arms": {},
}
OWN = {"mode": "add", "weights": {"high": 2}, "terms": {"high": "y ** 2"}}


def study(arm: dict[str, Any], *, allow_code: bool = False, **more: Any) -> Study:
    return parse_study({**STUDY, "arms": {"arm": arm}, **more}, allow_code=allow_code)


def refusal(arm: dict[str, Any], **more: Any) -> str:
    """The one thing that is wrong."""
    with pytest.raises(ValidationError) as caught:
        study(arm, **more)
    [error] = caught.value.errors()
    return str(error["msg"])


def schedule(**data: Any) -> LinearSchedule | PiecewiseSchedule:
    made: LinearSchedule | PiecewiseSchedule = TypeAdapter(Schedule).validate_python(data)
    return made


def linear(start: float, to: float, until: float) -> LinearSchedule | PiecewiseSchedule:
    return schedule(kind="linear", **{"from": start}, to=to, until=until)


# Schedules.


@pytest.mark.parametrize(
    ("data", "values"),
    [
        ({"kind": "linear"}, {0: 1, 0.25: 0.75, 0.5: 0.5, 1: 0}),
        ({"kind": "linear", "until": 0.5}, {0: 1, 0.25: 0.5, 0.5: 0, 0.75: 0, 1: 0}),
        ({"kind": "linear", "from": 2, "to": 4}, {0: 2, 0.5: 3, 1: 4}),
        ({"kind": "linear", "from": 0, "to": 1, "until": 0.25}, {0: 0, 0.125: 0.5, 0.25: 1, 1: 1}),
        ({"kind": "linear", "from": -1, "to": -1}, {0: -1, 0.3: -1, 1: -1}),
        ({"kind": "piecewise", "points": [[0.5, 3]]}, {0: 3, 0.5: 3, 1: 3}),
        (
            {"kind": "piecewise", "points": [[0.25, 1], [0.5, 0], [1, 2]]},
            {0: 1, 0.25: 1, 0.375: 0.5, 0.5: 0, 0.625: 0.5, 0.75: 1, 1: 2},
        ),
        (
            {"kind": "piecewise", "points": [[0, 0], [0.5, -1], [0.75, -1]]},
            {0: 0, 0.25: -0.5, 0.5: -1, 0.6: -1, 0.75: -1, 1: -1},
        ),
    ],
)
def test_a_schedule_by_hand(data: dict[str, Any], values: dict[float, float]) -> None:
    made = schedule(**data)
    assert [made(progress) for progress in values] == list(values.values())


def test_no_schedule_is_a_factor_of_one() -> None:
    assert [shaping_factor(RewardConfig())(progress) for progress in (0.0, 0.5, 1.0)] == [1, 1, 1]


def test_the_schedule_of_a_reward_is_its_factor() -> None:
    config = RewardConfig.model_validate({"schedule": {"kind": "linear", "until": 0.5}})
    assert [shaping_factor(config)(progress) for progress in (0.0, 0.25, 0.9)] == [1, 0.5, 0]


properties = settings(deadline=None)

values = st.floats(-100, 100)
shares = st.floats(0, 1)
wide_shares = st.floats(0.01, 1)


@properties
@given(values, values, wide_shares, shares)
def test_a_linear_schedule_is_a_line_and_then_constant(
    start: float, to: float, until: float, progress: float
) -> None:
    made = linear(start, to, until)
    line = start + (to - start) * progress / until
    assert made(progress) == pytest.approx(to if progress >= until else line, abs=1e-9)
    assert made(0.0) == start


@st.composite
def point_lists(draw: st.DrawFn) -> list[list[float]]:
    steps = draw(st.lists(st.integers(0, 100), min_size=1, max_size=6, unique=True))
    return [[step / 100, draw(values)] for step in sorted(steps)]


@properties
@given(point_lists(), shares)
def test_a_piecewise_schedule_is_lines_and_constant_outside(
    points: list[list[float]], progress: float
) -> None:
    made = schedule(kind="piecewise", points=points)
    expected = np.interp(progress, *np.transpose(points))
    assert made(progress) == pytest.approx(expected, abs=1e-9)
    for share, value in points:
        assert made(share) == pytest.approx(value, abs=1e-9)
    assert made(points[0][0] / 2) == points[0][1]
    assert made((1 + points[-1][0]) / 2) == pytest.approx(points[-1][1], abs=1e-9)


@st.composite
def schedules(draw: st.DrawFn) -> LinearSchedule | PiecewiseSchedule:
    if draw(st.booleans()):
        return linear(draw(values), draw(values), draw(wide_shares))
    return schedule(kind="piecewise", points=draw(point_lists()))


@properties
@given(schedules(), shares, shares)
def test_a_schedule_has_no_jumps(
    made: LinearSchedule | PiecewiseSchedule, one: float, other: float
) -> None:
    steepest = 200 / 0.01  # the largest difference over the shortest way
    assert abs(made(one) - made(other)) <= steepest * abs(one - other) + 1e-9


@properties
@given(schedules())
def test_a_schedule_is_read_as_it_was_written(made: LinearSchedule | PiecewiseSchedule) -> None:
    config = RewardConfig(schedule=made)
    text = json.dumps(config.model_dump(mode="json"))
    assert RewardConfig.model_validate(json.loads(text)) == config
    assert RewardConfig.model_validate_json(text) == config
    assert RewardConfig.model_validate(config.model_dump()) == config


def test_a_linear_schedule_is_written_with_from() -> None:
    config = RewardConfig(schedule=linear(2, 3, 0.5))
    expected = {"kind": "linear", "from": 2.0, "to": 3.0, "until": 0.5}
    assert config.model_dump(mode="json")["schedule"] == expected
    assert json.loads(config.model_dump_json())["schedule"] == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "discriminator 'kind'"),
        ({"kind": "cosine"}, "'linear', 'piecewise'"),
        ({"kind": "linear", "start": 1}, "Extra inputs"),
        ({"kind": "linear", "points": [[0, 1]]}, "Extra inputs"),
        ({"kind": "linear", "until": 0}, "greater than 0"),
        ({"kind": "linear", "until": 1.5}, "less than or equal to 1"),
        ({"kind": "linear", "to": float("nan")}, "finite number"),
        ({"kind": "linear", "from": float("inf")}, "finite number"),
        ({"kind": "linear", "to": "0"}, "valid number"),
        ({"kind": "linear", "to": None}, "valid number"),
        ({"kind": "piecewise"}, "Field required"),
        ({"kind": "piecewise", "points": []}, "at least 1 item"),
        ({"kind": "piecewise", "points": [[0, 1]] * 101}, "at most 100 items"),
        ({"kind": "piecewise", "points": [0, 1]}, "valid list"),
        ({"kind": "piecewise", "points": [[0]]}, "at least 2 items"),
        ({"kind": "piecewise", "points": [[0, 1, 2]]}, "at most 2 items"),
        ({"kind": "piecewise", "points": [[0.5, 1], [0.25, 1]]}, "in the order of training"),
        ({"kind": "piecewise", "points": [[0.5, 1], [0.5, 2]]}, "in the order of training"),
        ({"kind": "piecewise", "points": [[-0.1, 1], [0.5, 2]]}, "from 0 to 1"),
        ({"kind": "piecewise", "points": [[0.5, 1], [1.01, 2]]}, "from 0 to 1"),
        ({"kind": "piecewise", "points": [[0, float("nan")]]}, "finite number"),
        ({"kind": "piecewise", "points": [[float("nan"), 0]]}, "finite number"),
        ({"kind": "piecewise", "points": [["0", 1]]}, "valid number"),
    ],
)
def test_wrong_schedules(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardConfig.model_validate({"schedule": data})


# Own terms.


def test_a_term_is_defined_and_weighed() -> None:
    arm = study(OWN).arms["arm"]
    assert arm.terms == {"high": "y ** 2"}
    assert arm.weights == {"high": 2.0}
    kernel = RewardKernel(LANDER, arm)
    assert kernel.names == (*LANDER.terms, "high")
    assert kernel.weights[-1] == 2.0


def test_terms_of_the_study_are_every_arms() -> None:
    found = study({"mode": "add", "weights": {"low": 1}}, terms={"low": "-y", "high": "y"})
    resolved = found.resolved(found.arms["arm"])
    assert resolved.terms == {"low": "-y", "high": "y"}
    assert found.arms["arm"].terms == {}
    own = study({**OWN, "weights": {"low": 1}}, terms={"low": "-y", "high": "y"})
    assert own.resolved(own.arms["arm"]).terms == {"low": "-y", "high": "y ** 2"}


def test_what_the_environment_offers_beside_its_terms() -> None:
    arm = study({"mode": "replace", "weights": {"landed": 100, "environment": 0.5}}).arms["arm"]
    assert RewardKernel(LANDER, arm).names == (*LANDER.terms, "landed", "environment")


@pytest.mark.parametrize("name", sorted([*RESERVED, *LANDER.built_in]))
def test_a_name_that_is_taken(name: str) -> None:
    message = f"{name} is taken already, choose another name"
    assert message in refusal({"terms": {name: "y"}})
    assert message in refusal({}, terms={name: "y"})


@pytest.mark.parametrize("name", ["High", "1st", "_x", "a-b", "a b", "", "a" * 41, "é"])
def test_a_name_that_will_not_do(name: str) -> None:
    assert "should match pattern" in refusal({"terms": {name: "y"}})


def test_names_that_will_do() -> None:
    for name in ("x", "obs", "a" * 40, "a_1", "distance2", "abs"):
        found = study({"mode": "add", "weights": {name: 1}, "terms": {name: "y"}})
        assert found.arms["arm"].terms == {name: "y"}


def test_a_weight_needs_a_term() -> None:
    assert "there is no LunarLander-v3 term named hihg" in refusal({**OWN, "weights": {"hihg": 1}})
    with pytest.raises(ValidationError) as caught:
        study({**OWN, "weights": {"hihg": 1}}, terms={"shared": "x"})
    [error] = caught.value.errors()
    assert {"distance", "landed", "environment", "high", "shared"} <= set(error["ctx"]["known"])


def test_one_arms_term_is_not_anothers() -> None:
    arms = {"one": OWN, "other": {"mode": "add", "weights": {"high": 1}}}
    with pytest.raises(ValidationError, match="there is no LunarLander-v3 term named high"):
        parse_study({**STUDY, "arms": arms})


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y +", "this is no formula"),
        ("hight", "there is no name hight"),
        ("{y}", "a set cannot stand in a formula"),
        ("obs", "this is 8 numbers"),
    ],
)
def test_a_formula_that_will_not_do(formula: str, message: str) -> None:
    weighed = {"mode": "add", "weights": {"high": 1}, "terms": {"high": formula}}
    assert message in refusal(weighed)
    assert message in refusal({}, terms={"high": formula})
    with pytest.raises(ValueError, match=message):
        RewardKernel(LANDER, RewardConfig.model_validate(weighed))


def test_the_error_of_a_formula_knows_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        study({"terms": {"high": "y + sped"}})
    [error] = caught.value.errors()
    assert error["type"] == "formula"
    assert error["loc"] == ("arms", "arm", "terms", "high")
    assert error["ctx"]["offset"] == 4
    assert error["ctx"]["name"] == "sped"
    assert "y" in error["ctx"]["known"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *((value, "valid string") for value in (5, None, True, ["y"], {"python": 5})),
        ({"python": ""}, "at least 1 character"),
        ({}, "required"),
    ],
)
def test_what_is_no_definition(value: object, message: str) -> None:
    assert message in refusal({"terms": {"high": value}})


def test_at_most_fifty_terms() -> None:
    study({"terms": {f"t{i}": "y" for i in range(50)}})
    assert "at most 50 items" in refusal({"terms": {f"t{i}": "y" for i in range(51)}})


# Functions.


def python(reference: str = "json:dumps", **more: Any) -> dict[str, Any]:
    term = {"python": reference, **more}
    return {"mode": "add", "weights": {"own": 1}, "terms": {"own": term}}


def test_a_function_needs_leave() -> None:
    message = "json:dumps is code from outside of what is installed as terms; give --allow-code"
    assert message in refusal(python())
    assert message in refusal({}, terms={"own": {"python": "json:dumps"}})
    found = study(python(), allow_code=True)
    assert found.arms["arm"].terms["own"] == PythonTerm(python="json:dumps")
    assert found.code == ["json:dumps"]


def test_a_function_that_is_not_installed() -> None:
    for allow_code in (False, True):
        with pytest.raises(ValidationError, match="there is no installed term named dumps"):
            study(python("dumps"), allow_code=allow_code)


@pytest.mark.parametrize(
    "more", [{"state_only": 1}, {"state_only": "yes"}, {"arguments": 5}, {"python": "a" * 201}]
)
def test_wrong_functions(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        study(python(**more), allow_code=True)


# Potentials.


@pytest.mark.parametrize("formula", ["y", "norm(obs)", "3", "-abs(angle) if y > 0 else 0"])
def test_a_potential_of_own_terms(formula: str) -> None:
    arm = {"mode": "potential", "weights": {"own": 1, "distance": 1}, "terms": {"own": formula}}
    config = study(arm).arms["arm"]
    assert RewardKernel(LANDER, config, 0.9).mode == "potential"
    shared = {"mode": "potential", "weights": {"own": 1}}
    assert study(shared, terms={"own": formula}).arms["arm"].terms == {}


@pytest.mark.parametrize(
    "formula", ["y - last_y", "action", "env_reward", "terminated", "x + 0 * truncated"]
)
def test_a_potential_of_more_than_the_state(formula: str) -> None:
    arm = {"mode": "potential", "weights": {"own": 1}, "terms": {"own": formula}}
    message = "a potential is a function of the state, and own depends on more than that"
    assert message in refusal(arm)
    assert message in refusal({**arm, "terms": {}}, terms={"own": formula})
    with pytest.raises(ValueError, match=message):
        RewardKernel(LANDER, RewardConfig.model_validate(arm), 0.9)
    study({**arm, "weights": {"own": 0, "distance": 1}})
    study({**arm, "mode": "add"})


def test_an_arms_own_term_goes_before_the_studys() -> None:
    arm = {"mode": "potential", "weights": {"own": 1}, "terms": {"own": "y"}}
    study(arm, terms={"own": "action"})
    arm["terms"] = {"own": "action"}
    assert "own depends on more" in refusal(arm, terms={"own": "y"})


@pytest.mark.parametrize("names", [["landed"], ["environment"], ["landed", "main_engine"]])
def test_a_potential_of_how_it_ends(names: list[str]) -> None:
    depend = "depends" if len(names) == 1 else "depend"
    message = f"{', '.join(names)} {depend} on more than that"
    assert message in refusal({"mode": "potential", "weights": dict.fromkeys(names, 1)})


@pytest.mark.parametrize("state_only", [True, False])
def test_a_function_says_itself_what_it_depends_on(state_only: bool) -> None:
    weights = {"own": 1.0}
    written = {"python": "json:dumps", "state_only": state_only}
    for definition in (written, PythonTerm.model_validate(written)):
        if state_only:
            check_potential(LANDER, {"own": definition}, weights)
        else:
            with pytest.raises(ValueError, match="own depends on more than that"):
                check_potential(LANDER, {"own": definition}, weights)


def test_a_formula_with_its_own_error_is_not_blamed_twice() -> None:
    arm = {"mode": "potential", "weights": {"own": 1}, "terms": {"own": "hight"}}
    assert refusal(arm).startswith("there is no name hight")
    shared = refusal({**arm, "terms": {}}, terms=arm["terms"])
    assert shared.startswith("there is no name hight")


def test_a_term_is_made_of_its_definition() -> None:
    formula = define_term(LANDER, "own", "y + 1")
    assert (formula.name, formula.state_only) == ("own", True)
    assert formula.function(np.eye(8)[:2]).tolist() == [1, 2]
    function = define_term(LANDER, "own", PythonTerm(python="json:dumps", state_only=True))
    assert (function.name, function.state_only) == ("own", True)


def test_what_can_be_weighed() -> None:
    check_weighable("distance", LANDER, {})
    check_weighable("own", LANDER, {"own": "y"})
    check_weighable("anything", None, {})
    with pytest.raises(ValueError, match="there is no LunarLander-v3 term named own"):
        check_weighable("own", LANDER, {"other": "y"})


# What is written down.


def test_what_is_not_used_is_not_written() -> None:
    assert RewardConfig().model_dump(mode="json") == {"weights": {}, "mode": "log", "scale": 1.0}
    terms = RewardConfig.model_validate({"terms": {"high": "y"}}).model_dump(mode="json")
    assert terms == {"terms": {"high": "y"}, "weights": {}, "mode": "log", "scale": 1.0}
    timed = RewardConfig(schedule=linear(1, 0, 1)).model_dump(mode="json")
    assert list(timed) == ["weights", "mode", "scale", "schedule"]


# Computed by the version that knew neither terms of an arm's own nor schedules.
IDENTITIES = {
    "default": "aa087ea51c6b249f96e976e5d45efedc02d30040d98b7436f0fc17b85b60a8cb",
    "custom": "8e1accf1335f498c01fab6965b292a3da52e48b21b3b747ad52336483905a374",
}
EARLIER: dict[str, Any] = {
    "study": "lander",
    "environment": {"id": "LunarLander-v3", "options": {"gravity": -9.0}},
    "training": {
        "algorithm": "PPO",
        "total_timesteps": 1000,
        "n_envs": 4,
        "hyperparameters": {"gamma": 0.999},
        "engine": "sb3",
    },
    "evaluation": {"every": 100, "episodes": 5, "final_episodes": 10},
    "arms": {
        "default": {},
        "custom": {"mode": "replace", "weights": {"distance": 2, "legs": 1}, "scale": 0.5},
    },
}


@pytest.mark.parametrize("arm", IDENTITIES)
def test_a_run_without_news_keeps_its_identity(arm: str) -> None:
    found = parse_study(EARLIER)
    config = found.run_config(found.arms[arm], 7)
    assert config.identity == IDENTITIES[arm]
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again.identity == IDENTITIES[arm]


@pytest.mark.parametrize(
    "change",
    [
        {"terms": {"high": "y"}},
        {"schedule": {"kind": "linear"}},
        {"schedule": {"kind": "piecewise", "points": [[0, 1]]}},
    ],
)
def test_news_change_the_identity(change: dict[str, Any]) -> None:
    arms = {"custom": {**EARLIER["arms"]["custom"], **change}}
    found = parse_study({**EARLIER, "arms": arms})
    config = found.run_config(found.arms["custom"], 7)
    assert config.identity != IDENTITIES["custom"]
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_a_function_is_read_as_it_was_written() -> None:
    found = study(python(state_only=True), allow_code=True)
    config = found.run_config(found.arms["arm"], 0)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert config.model_dump(mode="json")["reward"]["terms"] == {
        "own": {"python": "json:dumps", "state_only": True}
    }
