"""What learners make of gymnasium's spaces: sizes, pictures, and what they cannot use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from shaperun.envs.base import ActionSpace, Environment, Picture, View
from shaperun.envs.layout import Layout, layout_size


class UnsupportedEnvironmentError(ValueError):
    """The environment exists but cannot be used; the message says why."""


def from_spaces(env_id: str, observation_space: Any, action_space: Any) -> Environment:
    """Return a declaration inferred from spaces; observations and outcomes have generic names.

    Raises:
        UnsupportedEnvironmentError: actions are composite, or observations have no fixed size, or
            either is empty.
    """
    from gymnasium import spaces

    if not isinstance(action_space, _array_spaces()):
        raise UnsupportedEnvironmentError(
            f"unsupported action space {type(action_space).__name__}: learners have actions of "
            "Box, Discrete, MultiDiscrete or MultiBinary; make it one of these in a wrapper of the "
            "environment"
        )
    layout = _layout_of(observation_space)
    if not (layout_size(layout) and np.prod(action_space.shape)):
        empty = action_space if layout_size(layout) else observation_space
        raise UnsupportedEnvironmentError(
            f"{empty} has no numbers; give it at least one in a wrapper of the environment"
        )
    discrete = isinstance(action_space, spaces.Discrete)
    return Environment(
        id=env_id,
        observations=(),
        layout=layout or (1,),
        view=view_of(observation_space, action_space),
        discrete_observations=isinstance(
            observation_space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
        ),
        action_size=None if discrete else int(np.prod(action_space.shape)),
        outcome=lambda end: np.where(end.terminated, "terminated", "truncated"),
        outcomes={"terminated": None, "truncated": None},
    )


def complete(declared: Environment, seen: Environment) -> Environment:
    """Return a declaration with what it leaves to the environment's spaces, as `seen` has it.

    That is how learners see it, the size of its actions, and the layout of observations without
    names.
    """
    unnamed = not declared.observations and declared.layout == Environment.layout
    return replace(
        declared,
        view=seen.view,
        discrete_observations=seen.discrete_observations,
        action_size=seen.action_size if declared.action_size is None else declared.action_size,
        layout=seen.layout if unnamed else declared.layout,
    )


def _array_spaces() -> tuple[Any, ...]:
    from gymnasium import spaces

    return (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def _layout_of(space: Any) -> Layout:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: _layout_of(entry) for key, entry in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return dict(enumerate(map(_layout_of, space.spaces)))
    if not isinstance(space, _array_spaces()):
        raise UnsupportedEnvironmentError(
            f"observations of the space {type(space).__name__} have no fixed size; encode them as "
            "arrays in a wrapper of the environment"
        )
    return tuple(map(int, space.shape))


def describe_space(space: Any) -> str:
    """Return a space of observations as text, without its bounds, which policies do not see."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        entries = [f"{json.dumps(k)}: {describe_space(s)}" for k, s in space.spaces.items()]
        return f"Dict({', '.join(entries)})"
    if isinstance(space, spaces.Tuple):
        return f"Tuple({', '.join(map(describe_space, space.spaces))})"
    return f"Box({space.shape}, {space.dtype})" if isinstance(space, spaces.Box) else str(space)


def view_of(observation_space: Any, action_space: Any) -> View:
    """Return spaces as a learner sees them; a Dict or Tuple is flattened for it."""
    from gymnasium import spaces

    pictures = tuple(find_pictures(observation_space))
    described = describe_space(observation_space)
    if isinstance(observation_space, spaces.Dict | spaces.Tuple):
        observation_space = spaces.flatten_space(observation_space)
    names: tuple[ActionSpace, ...] = get_args(ActionSpace)
    [actions] = [n for n in names if isinstance(action_space, getattr(spaces, n))]
    return View(
        shape=tuple(map(int, observation_space.shape)) or (1,),
        actions=actions,
        pictures=pictures,
        indices=not isinstance(observation_space, spaces.Box),
        described=described,
        obstacle=_find_obstacle(observation_space, action_space),
    )


def _find_obstacle(observation_space: Any, action_space: Any) -> str | None:
    """Return why learners of stable-baselines3 cannot use spaces, and what helps, or None."""
    from gymnasium import spaces

    for kind, space in (("observations", observation_space), ("actions", action_space)):
        if np.any(getattr(space, "start", 0)):
            return f"{kind} of {space} do not begin at 0; shift them in a wrapper"
        if isinstance(space, spaces.MultiDiscrete) and len(space.shape) > 1:
            return f"{kind} of {space} have several dimensions; flatten them in a wrapper"
    if isinstance(action_space, spaces.Box) and not np.issubdtype(action_space.dtype, np.floating):
        return (
            f"actions of {action_space} are whole numbers, but learners act in a Box with any "
            "number; make it Discrete or MultiDiscrete in a wrapper"
        )
    if isinstance(action_space, spaces.MultiBinary) and len(action_space.shape) > 1:
        return f"actions of {action_space} have several dimensions; flatten them in a wrapper"
    if isinstance(action_space, spaces.Box) and not action_space.is_bounded():
        return "actions have no bounds; give their Box bounds, or wrap the environment"
    return None


def is_picture(space: Any) -> bool:
    """Return whether stable-baselines3 takes a space for pictures.

    As its `is_image_space`, which would import torch.
    """
    if not hasattr(space, "low") or space.dtype != np.uint8 or len(space.shape) != 3:
        return False
    return bool((space.low == 0).all() and (space.high == 255).all())


def find_pictures(space: Any, start: int = 0) -> Iterator[Picture]:
    """Yield the pictures of a space, in the order of gymnasium's `flatten`."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict | spaces.Tuple):
        entries = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        for entry in entries:
            yield from find_pictures(entry, start)
            start += spaces.flatdim(entry)
    elif is_picture(space):
        yield Picture(start, tuple(map(int, space.shape)))
