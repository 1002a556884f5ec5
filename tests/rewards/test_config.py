"""Reward configurations: terms, weights, modes and serialization."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from shaperun.envs.base import RESERVED
from shaperun.envs.builtin import environments
from shaperun.rewards.config import (
    PythonTerm,
    RewardConfig,
    check_potential,
    check_weighable,
    define_term,
)
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import RunConfig, Study, parse_study

LANDER = environments()["LunarLander-v3"]
STUDY: dict[str, Any] = {
    "study": "lander",
    "environment": {"id": "LunarLander-v3"},
    "training": {"total_timesteps": 1000},
    "arms": {},
}
ARM = {"mode": "add", "weights": {"high": 2}, "terms": {"high": "y ** 2"}}


def study(arm: dict[str, Any], *, allow_code: bool = False, **more: Any) -> Study:
    return parse_study({**STUDY, "arms": {"arm": arm}, **more}, allow_code=allow_code)


def error_of(arm: dict[str, Any], **more: Any) -> str:
    """Return the message of the only error."""
    with pytest.raises(ValidationError) as caught:
        study(arm, **more)
    [error] = caught.value.errors()
    return str(error["msg"])


# Terms.


def test_defined_term_is_weighted() -> None:
    arm = study(ARM).arms["arm"]
    assert arm.terms == {"high": "y ** 2"}
    assert arm.weights == {"high": 2.0}
    kernel = RewardKernel(LANDER, arm)
    assert kernel.names == (*LANDER.terms, "high")
    assert kernel.weights[-1] == 2.0


def test_terms_of_the_study_apply_to_all_arms() -> None:
    shared = study({"mode": "add", "weights": {"low": 1}}, terms={"low": "-y", "high": "y"})
    resolved = shared.resolve_reward(shared.arms["arm"])
    assert resolved.terms == {"low": "-y", "high": "y"}
    assert shared.arms["arm"].terms == {}
    mixed = study({**ARM, "weights": {"low": 1}}, terms={"low": "-y", "high": "y"})
    assert mixed.resolve_reward(mixed.arms["arm"]).terms == {"low": "-y", "high": "y ** 2"}


def test_outcomes_and_environment_reward_can_be_weighted() -> None:
    arm = study({"mode": "replace", "weights": {"landed": 100, "environment": 0.5}}).arms["arm"]
    assert RewardKernel(LANDER, arm).names == (*LANDER.terms, "landed", "environment")


@pytest.mark.parametrize("name", sorted([*RESERVED, *LANDER.built_in]))
def test_reserved_and_built_in_names_are_refused(name: str) -> None:
    kinds = {
        "a column of the results": RESERVED,
        "a term of LunarLander-v3": LANDER.terms,
        "an outcome of LunarLander-v3": LANDER.outcomes,
        "the own reward of LunarLander-v3": ["environment"],
    }
    user = next(kind for kind, names in kinds.items() if name in names)
    message = f"the name {name} is already in use by {user}; choose another one"
    assert message in error_of({"terms": {name: "y"}})
    assert message in error_of({}, terms={name: "y"})


@pytest.mark.parametrize("name", ["High", "1st", "_x", "a-b", "a b", "", "a" * 41, "é"])
def test_invalid_name_is_refused(name: str) -> None:
    assert "should match pattern" in error_of({"terms": {name: "y"}})


def test_names_at_the_limits_are_valid() -> None:
    for name in ("x", "obs", "a" * 40, "a_1", "distance2", "abs"):
        result = study({"mode": "add", "weights": {name: 1}, "terms": {name: "y"}})
        assert result.arms["arm"].terms == {name: "y"}


def test_weight_of_an_unknown_term_is_refused() -> None:
    assert "unknown LunarLander-v3 term hihg" in error_of({**ARM, "weights": {"hihg": 1}})
    with pytest.raises(ValidationError) as caught:
        study({**ARM, "weights": {"hihg": 1}}, terms={"shared": "x"})
    [error] = caught.value.errors()
    assert {"distance", "landed", "environment", "high", "shared"} <= set(error["ctx"]["known"])


def test_term_of_another_arm_is_unknown() -> None:
    arms = {"one": ARM, "other": {"mode": "add", "weights": {"high": 1}}}
    with pytest.raises(ValidationError, match="unknown LunarLander-v3 term high"):
        parse_study({**STUDY, "arms": arms})


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y +", "invalid formula"),
        ("hight", "unknown name hight"),
        ("{y}", "a set is not allowed in a formula"),
        ("obs", "this has 8 values"),
    ],
)
def test_invalid_formula_is_refused(formula: str, message: str) -> None:
    weighed = {"mode": "add", "weights": {"high": 1}, "terms": {"high": formula}}
    assert message in error_of(weighed)
    assert message in error_of({}, terms={"high": formula})
    with pytest.raises(ValueError, match=message):
        RewardKernel(LANDER, RewardConfig.model_validate(weighed))


def test_formula_error_has_path_offset_and_known_names() -> None:
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
def test_invalid_definition_is_refused(value: object, message: str) -> None:
    assert message in error_of({"terms": {"high": value}})


def test_at_most_fifty_terms() -> None:
    study({"terms": {f"t{i}": "y" for i in range(50)}})
    assert "at most 50 items" in error_of({"terms": {f"t{i}": "y" for i in range(51)}})


# Python functions.


def python(reference: str = "json:dumps", **more: Any) -> dict[str, Any]:
    term = {"python": reference, **more}
    return {"mode": "add", "weights": {"own": 1}, "terms": {"own": term}}


def test_function_needs_allow_code() -> None:
    message = "json:dumps is code, not an installed term; give --allow-code"
    assert message in error_of(python())
    assert message in error_of({}, terms={"own": {"python": "json:dumps"}})
    result = study(python(), allow_code=True)
    assert result.arms["arm"].terms["own"] == PythonTerm(python="json:dumps")
    assert result.code_references == ["json:dumps"]


def test_unknown_installed_term_is_refused() -> None:
    for allow_code in (False, True):
        with pytest.raises(ValidationError, match="unknown installed term dumps"):
            study(python("dumps"), allow_code=allow_code)


@pytest.mark.parametrize(
    "more", [{"state_only": 1}, {"state_only": "yes"}, {"arguments": 5}, {"python": "a" * 201}]
)
def test_invalid_function_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        study(python(**more), allow_code=True)


# Potentials.


@pytest.mark.parametrize("formula", ["y", "norm(obs)", "3", "-abs(angle) if y > 0 else 0"])
def test_potential_of_defined_terms(formula: str) -> None:
    arm = {"mode": "potential", "weights": {"own": 1, "distance": 1}, "terms": {"own": formula}}
    config = study(arm).arms["arm"]
    assert RewardKernel(LANDER, config, 0.9).mode == "potential"
    shared = {"mode": "potential", "weights": {"own": 1}}
    assert study(shared, terms={"own": formula}).arms["arm"].terms == {}


@pytest.mark.parametrize(
    "formula", ["y - last_y", "action", "env_reward", "terminated", "x + 0 * truncated"]
)
def test_potential_of_more_than_the_state_is_refused(formula: str) -> None:
    arm = {"mode": "potential", "weights": {"own": 1}, "terms": {"own": formula}}
    message = "a potential is a function of the state, but own depends on more than that"
    assert message in error_of(arm)
    assert message in error_of({**arm, "terms": {}}, terms={"own": formula})
    with pytest.raises(ValueError, match=message):
        RewardKernel(LANDER, RewardConfig.model_validate(arm), 0.9)
    study({**arm, "weights": {"own": 0, "distance": 1}})
    study({**arm, "mode": "add"})


def test_term_of_the_arm_overrides_that_of_the_study() -> None:
    arm = {"mode": "potential", "weights": {"own": 1}, "terms": {"own": "y"}}
    study(arm, terms={"own": "action"})
    arm["terms"] = {"own": "action"}
    assert "own depends on more" in error_of(arm, terms={"own": "y"})


@pytest.mark.parametrize("names", [["landed"], ["environment"], ["landed", "main_engine"]])
def test_potential_of_outcomes_is_refused(names: list[str]) -> None:
    depend = "depends" if len(names) == 1 else "depend"
    message = f"{', '.join(names)} {depend} on more than that"
    assert message in error_of({"mode": "potential", "weights": dict.fromkeys(names, 1)})


@pytest.mark.parametrize("state_only", [True, False])
def test_state_only_declares_what_a_function_depends_on(state_only: bool) -> None:
    weights = {"own": 1.0}
    written = {"python": "json:dumps", "state_only": state_only}
    for definition in (written, PythonTerm.model_validate(written)):
        if state_only:
            check_potential(LANDER, {"own": definition}, weights)
        else:
            with pytest.raises(ValueError, match="own depends on more than that"):
                check_potential(LANDER, {"own": definition}, weights)


def test_invalid_formula_is_reported_once() -> None:
    arm = {"mode": "potential", "weights": {"own": 1}, "terms": {"own": "hight"}}
    assert error_of(arm).startswith("unknown name hight")
    shared = error_of({**arm, "terms": {}}, terms=arm["terms"])
    assert shared.startswith("unknown name hight")


def test_a_defined_term_is_usable() -> None:
    formula = define_term(LANDER, "own", "y + 1")
    assert (formula.name, formula.state_only) == ("own", True)
    assert formula.function(np.eye(8)[:2]).tolist() == [1, 2]
    function = define_term(LANDER, "own", PythonTerm(python="json:dumps", state_only=True))
    assert (function.name, function.state_only) == ("own", True)


def test_check_weighable() -> None:
    check_weighable("distance", LANDER, {})
    check_weighable("own", LANDER, {"own": "y"})
    check_weighable("anything", None, {})
    with pytest.raises(ValueError, match="unknown LunarLander-v3 term own"):
        check_weighable("own", LANDER, {"other": "y"})


# Serialization.


def test_unused_fields_are_not_serialized() -> None:
    assert RewardConfig().model_dump(mode="json") == {"weights": {}, "mode": "log", "scale": 1.0}
    terms = RewardConfig.model_validate({"terms": {"high": "y"}}).model_dump(mode="json")
    assert terms == {"terms": {"high": "y"}, "weights": {}, "mode": "log", "scale": 1.0}
    fades = {"kind": "linear", "from": 1, "to": 0}
    timed = RewardConfig.model_validate({"schedule": fades}).model_dump(mode="json")
    assert list(timed) == ["weights", "mode", "scale", "schedule"]


# Computed by a version without terms of arms and schedules.
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
def test_identity_of_earlier_versions_is_unchanged(arm: str) -> None:
    result = parse_study(EARLIER)
    config = result.run_config(result.arms[arm], 7)
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
def test_terms_and_schedules_change_the_identity(change: dict[str, Any]) -> None:
    arms = {"custom": {**EARLIER["arms"]["custom"], **change}}
    result = parse_study({**EARLIER, "arms": arms})
    config = result.run_config(result.arms["custom"], 7)
    assert config.identity != IDENTITIES["custom"]
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_function_serialization_round_trip() -> None:
    result = study(python(state_only=True), allow_code=True)
    config = result.run_config(result.arms["arm"], 0)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert config.model_dump(mode="json")["reward"]["terms"] == {
        "own": {"python": "json:dumps", "state_only": True}
    }
