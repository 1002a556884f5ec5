"""Declarations of environments that break the contract."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from shaperun.check.behaviors import record_behaviors
from shaperun.check.check import check_study
from shaperun.common.errors import UserError
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import Study
from tests.helpers.toy import refusals, study

MODULE = """
import gymnasium as gym
import numpy as np

from shaperun.envs.base import Environment


class Pair(gym.Env):
    observation_space = gym.spaces.Box(-5.0, 5.0, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {{}}

    def step(self, action):
        return np.ones(2, np.float32), 1.0, True, False, {{}}


gym.register("Pair-v0", Pair, max_episode_steps=9)

fields = dict(
    id="Pair-v0",
    observations=("x", "y"),
    outcome=lambda end: np.where(end.terminated, "won", "late"),
    outcomes={{"won": True, "late": False}},
)
pair = Environment(**(fields | dict({fields})))
{rest}
"""
ENV = "contract_of_mine:Pair-v0"


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(tmp_path)

    def declare(fields: str, rest: str = "") -> None:
        monkeypatch.delitem(sys.modules, "contract_of_mine", raising=False)
        (tmp_path / "contract_of_mine.py").write_text(MODULE.format(fields=fields, rest=rest))

    from shaperun.envs.declared import find_declaration
    from shaperun.envs.generic import _inspect

    yield declare
    find_declaration.cache_clear()
    _inspect.cache_clear()
    sys.modules.pop("contract_of_mine", None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("observations=[1, 2]", "observations of Pair-v0 must be the names of its entries, not 1"),
        ("observations=('x', 'x')", "observations of Pair-v0 have the name x twice; rename one"),
        ("observations=('x', 'pi')", "the name of its observation pi means something else in form"),
        ("observations=('highest', 'y')", "the name of its observation highest means something"),
        ("outcomes={'won': True, 'return': False}", "the outcome return of Pair-v0 is named after"),
        (
            "outcomes={'success': False, 'won': True}",
            "the outcome success of Pair-v0 is no success",
        ),
    ],
)
def test_names_that_cannot_be_used_are_refused(fields: str, message: str, declare: Any) -> None:
    declare(fields)
    assert message in refusals({"id": ENV}, allow_code=True)["environment.id"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            "outcome=lambda end: np.where(end.terminated, 'nowhere', 'late')",
            "the outcome of contract_of_mine:Pair-v0 returned 'nowhere', which its outcomes do not "
            r"declare \(won, late\)",
        ),
        ("outcomes={}", r"returned 'won', which its outcomes do not declare \(none\)"),
        ("outcome=lambda end: 'won'", r"with one name per transition, \(1,\), not 'won'"),
        (
            "outcome=lambda end: 1 / 0",
            r"the outcome of .* failed: ZeroDivisionError: division by zero \(contract_of_mine.py:",
        ),
    ],
)
def test_first_wrong_outcome_stops(fields: str, message: str, declare: Any) -> None:
    declare(fields)
    with pytest.raises(UserError, match=message):
        record_behaviors(EnvironmentConfig(id=ENV), 2)


def test_failing_controller_is_named(declare: Any) -> None:
    declare("", "@pair.controller\ndef boom(obs):\n    return [][0]")
    message = r"the controller boom failed: IndexError: list index out of range \(contract_of"
    with pytest.raises(UserError, match=message):
        record_behaviors(EnvironmentConfig(id=ENV), 2)


@pytest.mark.parametrize("value", ["obs[0, 0]", "obs[:1, 0].repeat(3)", "obs"])
def test_declared_term_of_another_shape_is_refused(value: str, declare: Any) -> None:
    declare("", f"@pair.state_term\ndef wrong(obs):\n    return {value}")
    config: Study = study({"id": ENV}, allow_code=True)
    message = r"the term wrong failed: expected an array of shape \(20,\), not "
    with pytest.raises(UserError, match=message):
        check_study(config, config.arms)
