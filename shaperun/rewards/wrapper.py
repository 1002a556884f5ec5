"""The kernel as gymnasium wrappers: one environment, or a vector of them.

Each step's ``info["reward_components"]`` holds every raw term by its name, the environment's own
reward as ``env_reward``, ``shaping``, and ``shaped``, the reward that was returned; where the
reward has a schedule, its factor of the moment is there as ``schedule``.
"""

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
    """Returns an arm's reward in place of the environment's: the N = 1 case of the kernel.

    Args:
        env: any environment; `shaperun terms` lists those that have terms of their own.
        config: the reward.
        gamma: the learner's own discount factor; needed in the mode `potential`.
        total_timesteps: how many steps training will take; needed by a schedule.

    Raises:
        ValueError: the reward does not fit the environment, or something it needs is missing.
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
        """Reset the environment and remember the first observation."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = flatten_rows([obs])
        self._episode += 1
        self._length = 0
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment; the reward is the arm's, its parts are in the info."""
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
    """The same for a vector of environments, whichever way they reset themselves.

    ``info["reward_components"]`` maps each name to an array (N,). With next-step autoreset, the
    step on which a copy only resets has no transition: its row is 0 throughout.
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
        self.transition: Transition  # the last step of every copy
        self.rewards: Rewards  # and what the kernel made of it
        self._obs: Array
        self._last_action: npt.NDArray[Any] | None = None
        self._resets = np.zeros(env.num_envs, dtype=bool)
        self._lengths, self._episodes = np.zeros((2, env.num_envs), dtype=int)
        self._some_begin = True

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments and remember their first observations."""
        # The base class names an int only; every vector environment takes a list as well.
        obs, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self._obs = flatten_rows(obs)
        self._resets[:] = False
        # Where environments do not reset themselves, only some of them may be told to.
        self._lengths[(options or {}).get("reset_mask", slice(None))] = 0
        self._some_begin = True
        return obs, info

    def step(
        self, actions: Any
    ) -> tuple[Any, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step the environments; the rewards are the arm's, their parts are in the info."""
        obs, env_reward, terminated, truncated, info = self.env.step(actions)
        next_obs = flatten_rows(obs)
        done = terminated | truncated
        reached = next_obs
        if self._resets.any():  # no transition: stay where the new episode begins
            self._obs[self._resets] = next_obs[self._resets]
        any_done = bool(done.any())
        if self._autoreset == AutoresetMode.SAME_STEP and any_done:
            # `obs` already starts the next episode; the one that ended has its last one here.
            reached = next_obs.copy()
            reached[done] = flatten_rows(list(info["final_obs"][done]))
        self.transition = Transition(
            self._obs,
            np.asarray(actions),
            reached,
            env_reward,
            terminated,
            truncated,
            self._actions_before(np.array(actions)),
        )
        try:
            rewards = self.kernel(self.transition, self._clock.tick(self.num_envs))
        except RewardError as error:
            row = error.row or 0
            raise error.at(int(self._episodes[row]), int(self._lengths[row])) from None
        if self._autoreset == AutoresetMode.NEXT_STEP:
            for column in (rewards.raw, rewards.shaping, rewards.shaped):
                column[self._resets] = 0.0
        self._count(done, any_done=any_done)
        self._obs, self.rewards = next_obs, rewards
        info["reward_components"] = component_columns(self.kernel, rewards)
        return obs, rewards.shaped, terminated, truncated, info

    def _count(self, done: npt.NDArray[np.bool_], *, any_done: bool) -> None:
        """Take note of how far each copy is in which episode."""
        self._lengths += 1
        self._some_begin = any_done
        if self._autoreset == AutoresetMode.NEXT_STEP:
            self._lengths[self._resets] = 0
            self._some_begin = bool(self._resets.any())
            self._resets = done
        elif any_done:
            self._lengths[done] = 0
        if any_done:
            self._episodes += done

    def _actions_before(self, actions: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Each copy's action of the step before; its own on the first step of an episode."""
        if self._last_action is None:
            self._last_action = actions
        before, self._last_action = self._last_action, actions
        if not self._some_begin:  # as on most steps
            return before
        first = self._lengths == 0
        return np.where(first.reshape(-1, *[1] * (actions.ndim - 1)), actions, before)


def component_columns(kernel: RewardKernel, rewards: Rewards) -> dict[str, Array]:
    """Every part of the rewards by its name: the raw terms, the three sums, and the schedule."""
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
    """Which share of training is done, by the `steps` that were taken."""

    def __init__(self, kernel: RewardKernel, total_timesteps: int | None) -> None:
        if kernel.scheduled and not total_timesteps:
            raise ValueError("a schedule needs total_timesteps, the length of the training")
        self._total = total_timesteps if kernel.scheduled else None
        self.steps = 0

    def tick(self, steps: int) -> Progress:
        """Take some steps at once; the shares before and after them."""
        shares = self.shares(1, steps)
        self.steps += steps
        return shares

    def shares(self, steps: int, copies: int) -> Progress:
        """The shares before and after each of the next T steps of N copies, (T · N,) of several."""
        if not self._total:
            return START
        if steps == 1:
            return self._share(self.steps), self._share(self.steps + copies)
        at = [self._share(self.steps + step * copies) for step in range(steps + 1)]
        return np.repeat(at[:-1], copies), np.repeat(at[1:], copies)

    def _share(self, steps: int) -> float:
        return min(1.0, steps / self._total) if self._total else 0.0


def _environment(
    spec: gym.envs.registration.EnvSpec | None, observation_space: Any, action_space: Any
) -> Environment:
    name = spec.id if spec else "an unregistered environment"
    return environments().get(name) or from_spaces(name, observation_space, action_space)
