"""Formulas on an environment with four observations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shaperun.envs.base import Array, Environment, Transition
from shaperun.rewards.expression import expression_term
from shaperun.rewards.formula import ExpressionError

NAMES = ("x", "y", "speed", "last_push")


def environment(action_size: int | None = None) -> Environment:
    return Environment(
        id="Nowhere-v0",
        observations=NAMES,
        outcome=lambda end: np.full(len(end), "over"),
        outcomes={"over": None},
        action_size=action_size,
    )


def transitions(n: int = 40, action_size: int | None = None) -> Transition:
    """Draw transitions of multiples of 0.5, so that zeros and ties occur."""
    rng = np.random.default_rng(n)
    shape = (n,) if action_size is None else (n, action_size)
    obs, next_obs = rng.integers(-4, 5, (2, n, len(NAMES))) / 2
    action, last_action = rng.integers(0, 4, (2, *shape))
    terminated, truncated = rng.integers(0, 2, (2, n)).astype(bool)
    env_reward = rng.normal(size=n)
    return Transition(obs, action, next_obs, env_reward, terminated, truncated, last_action)


def make_term(text: str, action_size: int | None = None) -> Callable[[Transition], Array]:
    return expression_term(environment(action_size), "term", text)


def error_of(text: str, action_size: int | None = None) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        expression_term(environment(action_size), "term", text)
    return caught.value
