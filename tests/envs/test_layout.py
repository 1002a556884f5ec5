"""Flat rows of observations, and formulas that read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from shaperun.envs.layout import flatten_row, flatten_rows, iter_arrays, layout_size
from shaperun.envs.spaces import from_spaces
from shaperun.rewards.expression import expression_term
from tests.helpers.formulas import environment
from tests.helpers.reach import Reach

SPACES: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2, 3)),
    "picture": spaces.Box(0, 255, (4, 5, 3), np.uint8),
    "discrete": spaces.Discrete(7),
    "dict": Reach.observation_space,
    "tuple": spaces.Tuple((spaces.Discrete(4), spaces.Box(-1, 1, (2,)))),
    "nested": spaces.Dict({"robot": Reach.observation_space, "pair": spaces.MultiBinary(2)}),
    "bytes": spaces.Dict({"a": spaces.Box(0, 255, (2,), np.uint8)}),
}


@pytest.mark.parametrize("name", SPACES)
def test_rows_of_single_and_of_batched_observations_are_equal(name: str) -> None:
    space = SPACES[name]
    layout = from_spaces("Any-v0", space, spaces.Discrete(2)).observation_layout
    space.seed(0)
    observations = [space.sample() for _ in range(5)]
    rows = flatten_rows(observations, layout)
    assert rows.shape == (5, layout_size(layout))
    assert rows.dtype == (np.uint8 if name in ("picture", "bytes") else np.float64)
    empty: Any = gym.vector.utils.create_empty_array(space, n=5)
    batch = gym.vector.utils.concatenate(space, observations, empty)
    np.testing.assert_array_equal(flatten_rows(batch, layout), rows)
    if isinstance(layout, dict):
        singles = [flatten_row(observation, layout) for observation in observations]
        assert {row.dtype for row in singles} == {rows.dtype}
        np.testing.assert_array_equal(singles, rows)


# Formulas of the observations of Reach, and their values.
FORMULAS: dict[str, Callable[[Any], Any]] = {
    'obs["position"][0]': lambda o: o["position"][0],
    'norm(obs["position"])': lambda o: np.hypot(*o["position"].astype(float)),
    'obs["grid"][1, -1] - obs["grid"][0, 0]': lambda o: 5,
    'sum(obs["grid"][:, 1])': lambda o: o["grid"][:, 1].sum(),
    'obs["mode"] in (1, 2)': lambda o: float(o["mode"] > 0),
    "sum(obs)": lambda o: o["position"].astype(float).sum() + o["grid"].sum() + o["mode"],
}


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_read_entries_of_a_dict(text: str) -> None:
    reach = from_spaces("Reach-v0", Reach.observation_space, Reach.action_space)
    term = expression_term(reach, "term", text)
    assert term.state_only
    env = Reach()
    observations = [env.reset(seed=seed)[0] for seed in range(6)]
    rows = flatten_rows(observations, reach.observation_layout)
    expected = [FORMULAS[text](obs) for obs in observations]
    np.testing.assert_allclose(term.at_states(rows), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('obs["pos"]', 'the key must be one of "grid", "mode", "position"'),
        ("obs[0]", 'the key must be one of "grid", "mode", "position"'),
        ('obs["mode"][0]', "single number"),
        ('obs["grid"]', "this has 2 × 3 values"),
        ('obs["position"][2]', "from 0 to 1"),
    ],
)
def test_wrong_entries_are_refused(text: str, message: str) -> None:
    reach = from_spaces("Reach-v0", Reach.observation_space, Reach.action_space)
    with pytest.raises(ValueError, match=message):
        expression_term(reach, "term", text)


def test_keys_are_shown_as_they_are() -> None:
    assert [name for name, _ in iter_arrays("obs", {"é": (2,)})] == ['obs["é"]']


def test_entries_of_a_tuple_have_indices() -> None:
    pair = replace(environment(), observations=(), layout={0: (), 1: (2,)})
    term = expression_term(pair, "term", "obs[0] + 10 * obs[1][1]")
    assert term.at_states(np.array([[1.0, 2.0, 3.0]])).tolist() == [31.0]
    assert list(iter_arrays("obs", pair.layout)) == [("obs[0]", ()), ("obs[1]", (2,))]
