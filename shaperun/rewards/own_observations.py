"""Check that wrappers pass on the observations and actions of an environment unchanged.

Terms of a declared environment read the entries of its own observations and actions by position.
Stacked or normalized observations have other entries, rescaled actions other values, and both would
give wrong numbers silently.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorActionWrapper, VectorObservationWrapper

_METHODS = ("reset", "step")


class OwnObservations:
    """Calls an environment's `reset` and `step`, and checks the first observation of each.

    Wrappers around the environment may do anything else: limit time, change rewards, record or
    render. Those that change actions are known by their class.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._unchecked = set(_METHODS)
        for make in getattr(env.unwrapped, "env_fns", ())[:1]:  # of a vector of environments
            with closing(make()) as single:
                own = OwnObservations(single)
                own("reset", seed=0)
                own("step", single.action_space.sample())
        if _space(env).shape != _space(env.unwrapped).shape:
            raise self._error()
        for layer in layers_of(env):
            if isinstance(layer, gym.ActionWrapper | VectorActionWrapper):
                raise self._error("actions", type(layer).__name__)

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the result of the method.

        Raises:
            ValueError: a wrapper changed the observation; the message names it.
        """
        call = getattr(self._env, method)
        if method not in self._unchecked or self._env.unwrapped is self._env:
            return call(*args, **kwargs)
        with _recorded(self._env.unwrapped) as own:
            result = call(*args, **kwargs)
        # Nothing is recorded if a wrapper kept the methods themselves; then this cannot be checked.
        if own and not _equal(result[0], own[-1]):
            raise self._error()
        self._unchecked.remove(method)
        return result

    def _error(self, what: str = "observations", name: str = "") -> ValueError:
        spec = self._env.spec
        name, env_id = name or _find_culprit(self._env), spec.id if spec else "the environment"
        return ValueError(
            f"the terms read the {what} of {env_id} itself, but {name} changes them; apply "
            f"the reward first, as in {name}(RewardShapingWrapper(env, …), …)"
        )


@contextmanager
def _recorded(base: Any) -> Iterator[list[Any]]:
    """Record a copy of each observation that the bare environment returns."""
    own: list[Any] = []

    def recorder(method: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            own.append(copy.deepcopy(result[0]))
            return result

        return record

    before = dict(vars(base))
    for name in _METHODS:
        setattr(base, name, recorder(getattr(base, name)))
    try:
        yield own
    finally:
        for name in _METHODS:
            if name in before:
                setattr(base, name, before[name])
            else:
                delattr(base, name)


def _equal(received: Any, own: Any) -> bool:
    if isinstance(own, Mapping):
        same_keys = isinstance(received, Mapping) and received.keys() == own.keys()
        return same_keys and all(_equal(received[key], own[key]) for key in own)
    if isinstance(own, tuple):
        same_size = isinstance(received, tuple) and len(received) == len(own)
        return same_size and all(map(_equal, received, own))
    received, own = np.asarray(received), np.asarray(own)
    # The same numbers in another precision or shape are read alike.
    return received.size == own.size and bool(
        np.allclose(received.ravel(), own.ravel(), rtol=1e-6, atol=0, equal_nan=True)
    )


def layers_of(env: Any) -> list[Any]:
    """Return an environment and all it wraps, the bare environment last."""
    layers = [env]
    while layers[-1] is not env.unwrapped:
        layers.append(layers[-1].env)
    return layers


def _find_culprit(env: Any) -> str:
    """Return the class of the innermost wrapper that seems to change observations."""
    layers = layers_of(env)
    names = [type(layer).__name__ for layer in layers]
    for index in range(len(layers) - 2, -1, -1):
        layer, inner = layers[index : index + 2]
        transforms = isinstance(layer, gym.ObservationWrapper | VectorObservationWrapper)
        if transforms or _space(layer) != _space(inner):
            return names[index]
    return names[0]


def _space(env: Any) -> Any:
    """Return the observation space of one environment, also of a vector."""
    return getattr(env, "single_observation_space", None) or env.observation_space
