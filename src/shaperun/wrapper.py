"""The kernel as gymnasium wrappers: one environment, or a vector of them.

Each step's ``info["reward_components"]`` holds every raw term by its name, the environment's own
reward as ``env_reward``, ``shaping``, and ``shaped``, the reward that was returned.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from shaperun import envs
from shaperun.reward import RewardKernel, Rewards
from shaperun.study import EnvironmentConfig, RewardConfig
from shaperun.terms import Array, Environment, Transition


class RewardShapingWrapper(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Returns an arm's reward in place of the environment's: the N = 1 case of the kernel.

    Args:
        env: an environment that shaperun knows the terms of (`shaperun terms` lists them).
        config: the reward.
        gamma: the learner's own discount factor; needed in the mode `potential`.

    Raises:
        ValueError: the environment is unknown, or the reward does not fit it.
    """

    def __init__(
        self, env: gym.Env[Any, Any], config: RewardConfig, *, gamma: float | None = None
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, config=config, gamma=gamma)
        super().__init__(env)
        self.kernel = RewardKernel(_environment(env.spec), config, gamma)
        self._obs: Array

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and remember the first observation."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = _batch([obs])
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment; the reward is the arm's, its parts are in the info."""
        obs, env_reward, terminated, truncated, info = self.env.step(action)
        next_obs = _batch([obs])
        rewards = self.kernel(
            Transition(
                obs=self._obs,
                action=np.asarray([action]),
                next_obs=next_obs,
                env_reward=np.array([env_reward], dtype=np.float64),
                terminated=np.array([terminated]),
                truncated=np.array([truncated]),
            )
        )
        self._obs = next_obs
        parts = {name: float(column[0]) for name, column in columns(self.kernel, rewards).items()}
        info = {**info, "reward_components": parts}
        return obs, parts["shaped"], terminated, truncated, info


class VectorRewardShapingWrapper(VectorWrapper[Any, Any, Any]):
    """The same for a vector of environments, whichever way they reset themselves.

    ``info["reward_components"]`` maps each name to an array (N,). With next-step autoreset, the
    step on which a copy only resets has no transition: its row is 0 throughout.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], config: RewardConfig, *, gamma: float | None = None
    ) -> None:
        super().__init__(env)
        spec = env.spec or env.get_attr("spec")[0]  # type: ignore[attr-defined]
        self.kernel = RewardKernel(_environment(spec), config, gamma)
        self._autoreset = env.metadata["autoreset_mode"]
        self.transition: Transition  # the last step of every copy
        self.rewards: Rewards  # and what the kernel made of it
        self._obs: Array
        self._resets = np.zeros(env.num_envs, dtype=bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments and remember their first observations."""
        # The base class names an int only; every vector environment takes a list as well.
        obs, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._obs = _batch(obs)
        self._resets[:] = False
        return obs, info

    def step(
        self, actions: Any
    ) -> tuple[Any, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step the environments; the rewards are the arm's, their parts are in the info."""
        obs, env_reward, terminated, truncated, info = self.env.step(actions)
        next_obs = _batch(obs)
        done = terminated | truncated
        reached = next_obs
        if self._autoreset == AutoresetMode.SAME_STEP and done.any():
            # `obs` already starts the next episode; the one that ended has its last one here.
            reached = next_obs.copy()
            reached[done] = _batch(list(info["final_obs"][done]))
        self.transition = Transition(
            self._obs, np.asarray(actions), reached, env_reward, terminated, truncated
        )
        rewards = self.kernel(self.transition)
        if self._autoreset == AutoresetMode.NEXT_STEP:
            for column in (rewards.raw, rewards.shaping, rewards.shaped):
                column[self._resets] = 0.0
            self._resets = done
        self._obs, self.rewards = next_obs, rewards
        info["reward_components"] = columns(self.kernel, rewards)
        return obs, rewards.shaped, terminated, truncated, info


def make_environment(
    config: EnvironmentConfig, *, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """The environment of a study, unshaped.

    Without a render mode by default: with one, LunarLander makes a physics body of every puff of
    smoke, which changes nothing and costs half of the simulator's speed.
    """
    options: dict[str, Any] = dict(config.options)
    if render_mode:  # not every environment takes the argument
        options["render_mode"] = render_mode
    return gym.make(config.id, disable_env_checker=True, **options)


def columns(kernel: RewardKernel, rewards: Rewards) -> dict[str, Array]:
    """Every part of the rewards by its name: the raw terms, and the three sums."""
    return {
        **dict(zip(kernel.names, rewards.raw.T, strict=True)),
        "env_reward": rewards.env_reward,
        "shaping": rewards.shaping,
        "shaped": rewards.shaped,
    }


def _batch(obs: Any) -> Array:
    # Always a copy: a vector environment may hand out the same buffer at every step.
    return np.array(obs, dtype=np.float64)


def _environment(spec: gym.envs.registration.EnvSpec | None) -> Environment:
    known = envs.environments()
    if spec is None or spec.id not in known:
        name = spec.id if spec else "an unregistered environment"
        raise ValueError(f"no terms are known for {name}, only for {', '.join(known)}")
    return known[spec.id]
