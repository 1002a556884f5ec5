"""Make a gymnasium environment, and check that it is the one its terms describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym

from shaperun.envs.base import Environment
from shaperun.envs.generic import from_spaces


def make_environment(
    environment: Environment, options: Mapping[str, Any], *, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """Make an environment, unshaped, with these keyword arguments of `gymnasium.make`.

    Without a render mode by default: with one, LunarLander makes a physics body of every puff of
    smoke, which changes nothing and costs half of the simulator's speed.
    """
    # Not every environment takes the argument.
    rendering = {"render_mode": render_mode} if render_mode else {}
    keywords: dict[str, Any] = {**options, **rendering}
    env = gym.make(environment.id, disable_env_checker=True, **keywords)
    _check_spaces(env, environment)
    hook = environment.before_reset
    return BeforeReset(env, hook) if hook else env


def _check_spaces(env: gym.Env[Any, Any], environment: Environment) -> None:
    """An option of the environment may make it another one, which its terms cannot read.

    Raises:
        ValueError: says what differs.
    """
    real = from_spaces(environment.id, env.observation_space, env.action_space)
    for what, here, there in (
        ("observation", real.observation_size, environment.observation_size),
        ("action", real.action_size, environment.action_size),
    ):
        if here != there:
            sizes = ["one of a few choices" if n is None else f"{n} numbers" for n in (here, there)]
            raise ValueError(
                f"with these options an {what} is {sizes[0]}, and the terms of {environment.id} "
                f"take {sizes[1]}; perhaps another environment fits"
            )


class BeforeReset(gym.Wrapper[Any, Any, Any, Any]):
    """Calls a function with the bare environment before each reset."""

    def __init__(self, env: gym.Env[Any, Any], hook: Callable[[Any], None]) -> None:
        super().__init__(env)
        self._hook = hook

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Call the function, then reset."""
        self._hook(self.unwrapped)
        return super().reset(seed=seed, options=options)
