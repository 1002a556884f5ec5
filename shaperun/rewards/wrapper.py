"""Reward shaping as gymnasium wrappers, for single and vector environments."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from shaperun.envs.base import Array, Environment, Transition, flatten_rows
from shaperun.envs.builtin import environments
from shaperun.envs.generic import from_spaces
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import START, Progress, RewardError, RewardKernel, Rewards


class RewardShapingWrapper(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Replaces the reward of an environment with a shaped reward, and reports its parts.

    Observations, episode ends and other infos are unchanged. After each step,
    ``info["reward_components"]`` is a dict of floats:

    - the raw value of each term of the environment and the reward, weighted or not, by its name;
    - ``env_reward``: the reward of the environment;
    - ``shaping``: the weighted terms, times the factor of the schedule;
    - ``shaped``: the reward that the step returns;
    - ``schedule``: the factor of the schedule at this step, only for rewards with a schedule.

    Args:
        env: the environment to wrap. `shaperun terms` lists environments with built-in terms; for
            any other environment, define terms as formulas over ``obs`` and ``action``.
        config: the reward.
        gamma: the discount factor of the learner; required in mode `potential`.
        total_timesteps: the length of training in steps; required by a schedule.

    Raises:
        ValueError: the reward is invalid for the environment, or a required argument is missing.
        RewardError: on a step, if a term raises, or a term or reward is not finite.

    Example:
        >>> import gymnasium as gym
        >>> from shaperun import RewardConfig, RewardShapingWrapper
        >>> config = RewardConfig(mode="potential", weights={"upright": 2.0})
        >>> env = RewardShapingWrapper(gym.make("CartPole-v1"), config, gamma=0.99)
        >>> obs, info = env.reset(seed=0)
        >>> obs, reward, terminated, truncated, info = env.step(1)
        >>> info["reward_components"]["env_reward"]
        1.0
        >>> info["reward_components"]["shaped"] == reward
        True
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        config: RewardConfig,
        *,
        gamma: float | None = None,
        total_timesteps: int | None = None,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(
            self, config=config, gamma=gamma, total_timesteps=total_timesteps
        )
        super().__init__(env)
        environment = _environment(env.spec, env.observation_space, env.action_space)
        self.kernel = RewardKernel(environment, config, gamma)
        self._clock = Clock(self.kernel, total_timesteps)
        self._episode = -1
        self._length = 0
        self._obs: Array
        self._last_action: npt.NDArray[Any]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = flatten_rows([obs])
        self._episode += 1
        self._length = 0
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and return the shaped reward, with its parts in the info."""
        obs, env_reward, terminated, truncated, info = self.env.step(action)
        next_obs, actions = flatten_rows([obs]), np.array([action])
        transition = Transition(
            obs=self._obs,
            action=actions,
            next_obs=next_obs,
            env_reward=np.array([env_reward], dtype=np.float64),
            terminated=np.array([terminated]),
            truncated=np.array([truncated]),
            last_action=self._last_action if self._length else actions,
        )
        try:
            rewards = self.kernel(transition, self._clock.tick(1))
        except RewardError as error:
            raise error.at(self._episode, self._length) from None
        self._obs, self._last_action = next_obs, actions
        self._length += 1
        parts = {
            name: float(column[0])
            for name, column in component_columns(self.kernel, rewards).items()
        }
        info = {**info, "reward_components": parts}
        return obs, parts["shaped"], terminated, truncated, info


class VectorRewardShapingWrapper(VectorWrapper[Any, Any, Any]):
    """Replaces the rewards of a vector environment with shaped rewards, and reports their parts.

    This is `RewardShapingWrapper` for N environments and any autoreset mode.
    ``info["reward_components"]`` has the same entries, each an array of shape (N,). With next-step
    autoreset, the step that resets an environment is not a transition, and its entries are 0.

    Arguments and errors are those of `RewardShapingWrapper`; ``total_timesteps`` is the sum over
    the N environments. After each step, the attributes ``transition`` and ``rewards`` have the
    transitions and the rewards with their parts.

    Example:
        >>> import gymnasium as gym
        >>> from shaperun import RewardConfig, VectorRewardShapingWrapper
        >>> config = RewardConfig(mode="add", weights={"upright": 0.5})
        >>> envs = VectorRewardShapingWrapper(gym.make_vec("CartPole-v1", num_envs=4), config)
        >>> obs, info = envs.reset(seed=0)
        >>> obs, rewards, terminated, truncated, info = envs.step(envs.action_space.sample())
        >>> info["reward_components"]["shaping"].shape
        (4,)
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        config: RewardConfig,
        *,
        gamma: float | None = None,
        total_timesteps: int | None = None,
    ) -> None:
        super().__init__(env)
        spec = env.spec or env.get_attr("spec")[0]  # type: ignore[attr-defined]
        environment = _environment(spec, env.single_observation_space, env.single_action_space)
        self.kernel = RewardKernel(environment, config, gamma)
        self._clock = Clock(self.kernel, total_timesteps)
        self._autoreset = env.metadata["autoreset_mode"]
        self.transition: Transition
        self.rewards: Rewards
        self._obs: Array
        self._last_action: npt.NDArray[Any] | None = None
        self._resets = np.zeros(env.num_envs, dtype=bool)
        self._lengths, self._episodes = np.zeros((2, env.num_envs), dtype=int)
        self._any_first_step = True

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments, or those selected by the option `reset_mask`."""
        # The base class declares an int only; all vector environments accept a list as well.
        obs, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._obs = flatten_rows(obs)
        self._resets[:] = False
        self._lengths[(options or {}).get("reset_mask", slice(None))] = 0
        self._any_first_step = True
        return obs, info

    def step(
        self, actions: Any
    ) -> tuple[Any, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step the environments and return the shaped rewards, with their parts in the info."""
        obs, env_reward, terminated, truncated, info = self.env.step(actions)
        next_obs = flatten_rows(obs)
        done = terminated | truncated
        reached = next_obs
        if self._resets.any():  # not a transition: start from the first observation
            self._obs[self._resets] = next_obs[self._resets]
        any_done = bool(done.any())
        if self._autoreset == AutoresetMode.SAME_STEP and any_done:
            # `obs` belongs to the next episode already.
            reached = next_obs.copy()
            reached[done] = flatten_rows(list(info["final_obs"][done]))
        self.transition = Transition(
            self._obs,
            np.asarray(actions),
            reached,
            env_reward,
            terminated,
            truncated,
            self._update_last_actions(np.array(actions)),
        )
        try:
            rewards = self.kernel(self.transition, self._clock.tick(self.num_envs))
        except RewardError as error:
            row = error.row or 0
            raise error.at(int(self._episodes[row]), int(self._lengths[row])) from None
        if self._autoreset == AutoresetMode.NEXT_STEP:
            for column in (rewards.raw, rewards.shaping, rewards.shaped):
                column[self._resets] = 0.0
        self._update_counters(done, any_done=any_done)
        self._obs, self.rewards = next_obs, rewards
        info["reward_components"] = component_columns(self.kernel, rewards)
        return obs, rewards.shaped, terminated, truncated, info

    def _update_counters(self, done: npt.NDArray[np.bool_], *, any_done: bool) -> None:
        """Update the episode and step of each environment."""
        self._lengths += 1
        self._any_first_step = any_done
        if self._autoreset == AutoresetMode.NEXT_STEP:
            self._lengths[self._resets] = 0
            self._any_first_step = bool(self._resets.any())
            self._resets = done
        elif any_done:
            self._lengths[done] = 0
        if any_done:
            self._episodes += done

    def _update_last_actions(self, actions: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the previous actions; on the first step of an episode, the present ones."""
        previous, self._last_action = self._last_action, actions
        if previous is None:
            return actions
        if not self._any_first_step:
            return previous
        first = self._lengths == 0
        return np.where(first.reshape(-1, *[1] * (actions.ndim - 1)), actions, previous)


def component_columns(kernel: RewardKernel, rewards: Rewards) -> dict[str, Array]:
    """Return all parts of the rewards by name: raw terms, rewards and, with one, the schedule."""
    parts = {
        **dict(zip(kernel.names, rewards.raw.T, strict=True)),
        "env_reward": rewards.env_reward,
        "shaping": rewards.shaping,
        "shaped": rewards.shaped,
    }
    if kernel.scheduled:
        parts["schedule"] = np.full(len(rewards.shaped), rewards.schedule)
    return parts


class Clock:
    """Training progress from the number of `steps`; constant for rewards without a schedule."""

    def __init__(self, kernel: RewardKernel, total_timesteps: int | None) -> None:
        if kernel.scheduled and not total_timesteps:
            raise ValueError("a schedule requires total_timesteps, the length of training")
        self._total = total_timesteps if kernel.scheduled else None
        self.steps = 0

    def tick(self, steps: int) -> Progress:
        """Count simultaneous steps, and return the progress before and after them."""
        shares = self.shares(1, steps)
        self.steps += steps
        return shares

    def shares(self, steps: int, n_envs: int) -> Progress:
        """Return the progress before and after each of T steps of N environments, (T · N,)."""
        if not self._total:
            return START
        if steps == 1:
            return self._share(self.steps), self._share(self.steps + n_envs)
        shares = [self._share(self.steps + step * n_envs) for step in range(steps + 1)]
        return np.repeat(shares[:-1], n_envs), np.repeat(shares[1:], n_envs)

    def _share(self, steps: int) -> float:
        return min(1.0, steps / self._total) if self._total else 0.0


def _environment(
    spec: gym.envs.registration.EnvSpec | None, observation_space: Any, action_space: Any
) -> Environment:
    name = spec.id if spec else "an unregistered environment"
    return environments().get(name) or from_spaces(name, observation_space, action_space)
