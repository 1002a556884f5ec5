"""Spaces of any environment: sizes, pictures, and what learners cannot use."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from shaperun.envs.base import Picture
from shaperun.envs.spaces import UnsupportedEnvironmentError, find_pictures, from_spaces
from tests.helpers.toy import Register, refusals

BOX = spaces.Box(-1, 1, (3,))


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (BOX, 3),
        (spaces.Box(0, 255, (2, 3, 4), dtype=np.uint8), 24),
        (spaces.Box(-1, 1, ()), 1),
        (spaces.Discrete(16), 1),
        (spaces.Discrete(5, start=-2), 1),
        (spaces.MultiDiscrete([3, 4]), 2),
        (spaces.MultiDiscrete(np.array([[3, 4, 5], [2, 2, 2]])), 6),
        (spaces.MultiBinary(5), 5),
        (spaces.MultiBinary([2, 3]), 6),
    ],
    ids=str,
)
def test_sizes_of_spaces(space: spaces.Space[Any], size: int) -> None:
    seen = from_spaces("Any-v0", space, spaces.Discrete(2))
    assert seen.observation_size == size
    assert type(seen.observation_size) is int
    assert seen.observations == ()
    assert seen.action_size is None
    acted = from_spaces("Any-v0", BOX, space)
    assert acted.action_size == (None if isinstance(space, spaces.Discrete) else size)
    assert acted.observation_size == 3
    assert (acted.id, acted.terms) == ("Any-v0", {})


@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict({"a": BOX}),
        spaces.Tuple([BOX, spaces.Discrete(2)]),
        spaces.Text(5),
        spaces.Sequence(BOX),
        spaces.Graph(BOX, None),
        spaces.OneOf([BOX, spaces.Discrete(2)]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_spaces_that_no_learner_has_are_refused(space: spaces.Space[Any]) -> None:
    kind = type(space).__name__
    with pytest.raises(UnsupportedEnvironmentError, match=f"unsupported action space {kind}:"):
        from_spaces("Any-v0", BOX, space)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        assert isinstance(from_spaces("Any-v0", space, BOX).layout, dict)
    else:
        message = f"observations of the space {kind} have no fixed size"
        with pytest.raises(UnsupportedEnvironmentError, match=message):
            from_spaces("Any-v0", space, BOX)


@pytest.mark.parametrize(
    "empty", [spaces.Box(-1, 1, (0,)), spaces.Dict(), spaces.Tuple([])], ids=str
)
def test_empty_spaces_are_refused(empty: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match="has no numbers; give it at least one"):
        from_spaces("Any-v0", empty, BOX)
    if isinstance(empty, spaces.Box):
        with pytest.raises(UnsupportedEnvironmentError, match="has no numbers"):
            from_spaces("Any-v0", BOX, empty)


IMAGE: Any = spaces.Box(0, 255, (36, 40, 3), np.uint8)


def test_pictures_lie_where_flattening_puts_them() -> None:
    pair: Any = spaces.Tuple([spaces.Discrete(3), IMAGE])
    space = spaces.Dict({"b": pair, "a": spaces.Box(-1, 1, (2, 2)), "c": IMAGE})
    value = {"a": np.ones((2, 2)), "b": (1, np.full((36, 40, 3), 7)), "c": np.full((36, 40, 3), 9)}
    flat: Any = spaces.flatten(space, value)
    assert [p.shape for p in find_pictures(space)] == [(36, 40, 3)] * 2
    assert [set(flat[p.start : p.start + 4320]) for p in find_pictures(space)] == [{7}, {9}]
    assert list(find_pictures(IMAGE)) == [Picture(0, (36, 40, 3))]


@pytest.mark.parametrize(
    ("observations", "actions", "obstacle"),
    [
        (BOX, spaces.Discrete(2, start=1), "actions of Discrete(2, start=1) do not begin at 0"),
        (BOX, spaces.MultiDiscrete([2, 3], start=[0, 1]), "do not begin at 0; shift them"),
        (spaces.Discrete(3, start=-1), BOX, "observations of Discrete(3, start=-1) do not begin"),
        (BOX, spaces.MultiDiscrete(np.array([[2, 3]])), "have several dimensions; flatten them"),
        (
            spaces.MultiDiscrete(np.array([[2, 3]])),
            BOX,
            "observations of MultiDiscrete([[2 3]]) have",
        ),
        (BOX, spaces.MultiBinary(np.array([2, 3])), "have several dimensions; flatten them"),
        (BOX, spaces.Box(-np.inf, 1, (1,)), "actions have no bounds"),
        (BOX, spaces.Box(-3, 3, (2,), np.int32), "are whole numbers, but learners act in a Box"),
    ],
    ids=str,
)
def test_spaces_that_learners_cannot_use_are_refused(
    observations: spaces.Space[Any],
    actions: spaces.Space[Any],
    obstacle: str,
    register: Register,
) -> None:
    class Env(gym.Env[Any, Any]):
        observation_space, action_space = observations, actions

    register("Odd-v0", Env)
    messages = refusals({"id": "Odd-v0", "options": {"max_episode_steps": 5}})
    assert list(messages) == ["training.algorithm"]
    assert "Odd-v0 cannot be learned: " in messages["training.algorithm"]
    assert obstacle in messages["training.algorithm"]
