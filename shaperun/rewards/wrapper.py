"""Reward shaping as gymnasium wrappers, for single and vector environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from shaperun.envs.base import Array, Environment, Transition, scalar_reward
from shaperun.envs.builtin import environments
from shaperun.envs.declared import find_own_declaration
from shaperun.envs.info import record_info, record_vector_info
from shaperun.envs.layout import flatten_rows
from shaperun.envs.memory import EpisodeMemory
from shaperun.envs.spaces import complete, from_spaces
from shaperun.rewards.clock import Clock
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel, Rewards
from shaperun.rewards.own_observations import OwnObservations, layers_of
from shaperun.rewards.schedule import EarnedSchedule


class RewardShapingWrapper(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Replaces the reward of an environment with a shaped reward, and reports its parts.

    Observations, episode ends and other infos are unchanged. After each step,
    ``info["reward_components"]`` is a dict of floats:

    - the raw value of each term of the environment and the reward, weighted or not, by its name;
    - ``env_reward``: the reward of the environment;
    - ``shaping``: the weighted terms, times the factor of the schedule;
    - ``shaped``: the reward that the step returns;
    - ``schedule``: the factor of the schedule at this step, only for rewards with a schedule.

    The info of the last step of an episode also has the sum of each part over the episode, as
    ``sum_distance`` or ``sum_shaped``, which stable-baselines3's
    ``Monitor(env, info_keywords=("sum_distance",))`` can log.

    Built-in terms read the environment's own observations and actions. Wrappers that change them,
    such as `FrameStackObservation` or `RescaleAction`, belong around this one, and `TimeLimit`
    inside, so that this one sees every end of an episode.

    Args:
        env: the environment to wrap. `shaperun terms` lists environments with built-in terms; for
            any other environment, define terms as formulas over ``obs`` and ``action``, or as
            functions.
        config: the reward, or a mapping with its fields.
        gamma: the discount factor of the learner; required in mode `potential`.
        total_timesteps: the length of training in steps; required by a schedule.
        bootstraps: whether the learner bootstraps from the last observation of a truncated episode,
            as learners with a critic do; otherwise a potential is 0 there.

    Raises:
        ValueError: the reward is invalid for the environment, a required argument is missing, or
            a wrapper inside changes the observations (found at the latest on the first step) or
            actions of built-in terms, shapes the reward already, or joins episodes.
        ResetNeeded: on a step before the first reset.
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
        config: RewardConfig | Mapping[str, Any],
        *,
        gamma: float | None = None,
        total_timesteps: int | None = None,
        bootstraps: bool = True,
    ) -> None:
        config = RewardConfig.model_validate(config)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            config=config.model_dump(mode="json"),
            gamma=gamma,
            total_timesteps=total_timesteps,
            bootstraps=bootstraps,
        )
        super().__init__(env)
        self._config = config, gamma, bootstraps
        self.kernel, self._call = self._prepare()
        self._clock = _make_clock(self.kernel, config, total_timesteps)
        self._memory = EpisodeMemory()
        self._episode = -1
        self._length = 0
        self._sums: Array = np.zeros(0)
        self._obs: Array | None = None
        self._last_action: npt.NDArray[Any]

    def _prepare(self) -> tuple[RewardKernel, Callable[..., Any]]:
        config, gamma, bootstraps = self._config
        env = self.env
        environment, call = _environment(env, env.observation_space, env.action_space)
        self._layout = environment.observation_layout
        return RewardKernel(environment, config, gamma, bootstraps=bootstraps), call

    def __getstate__(self) -> dict[str, Any]:
        # The functions of terms cannot be pickled; the configuration defines them.
        return {k: v for k, v in vars(self).items() if k not in ("kernel", "_call")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.kernel, self._call = self._prepare()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self._call("reset", seed=seed, options=options)
        self._obs = flatten_rows([obs], self._layout)
        self._memory.reset()
        self._episode += 1
        self._length = 0
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and return the shaped reward, with its parts in the info."""
        if self._obs is None:
            raise gym.error.ResetNeeded("call reset before step")
        actions = np.array([action])  # a copy, which the environment cannot change
        obs, env_reward, terminated, truncated, info = self._call("step", action)
        next_obs = flatten_rows([obs], self._layout)
        transition = Transition(
            obs=self._obs,
            action=actions,
            next_obs=next_obs,
            env_reward=np.array([scalar_reward(env_reward)]),
            terminated=np.array([bool(terminated)]),
            truncated=np.array([bool(truncated)]),
            last_action=self._last_action if self._length else actions,
            info=np.array([record_info(info)]) if self.kernel.reads_info else None,
        )
        try:
            rewards = self.kernel(transition, self._clock.tick(1), self._memory)
        except RewardError as error:
            raise error.at(self._episode, self._length) from error.__cause__
        self._obs, self._last_action = next_obs, actions
        columns = component_columns(self.kernel, rewards)
        parts = {name: float(column[0]) for name, column in columns.items()}
        info = {**info, "reward_components": parts}
        values = _summands(rewards)[0]
        self._sums = self._sums + values if self._length else values
        self._length += 1
        if terminated or truncated:
            info |= zip(_sum_names(self.kernel), self._sums.tolist(), strict=True)
        return obs, parts["shaped"], terminated, truncated, info


class VectorRewardShapingWrapper(VectorWrapper[Any, Any, Any]):
    """Replaces the rewards of a vector environment with shaped rewards, and reports their parts.

    This is `RewardShapingWrapper` for N environments and any autoreset mode.
    ``info["reward_components"]`` has the same entries, each an array of shape (N,), and so have the
    sums over episodes, which are those of the environments in the mask ``info["_sum_shaped"]``, as
    in all infos of vectors. With next-step autoreset, the step that resets an environment is not a
    transition, and its entries are 0.

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
        config: RewardConfig | Mapping[str, Any],
        *,
        gamma: float | None = None,
        total_timesteps: int | None = None,
        bootstraps: bool = True,
    ) -> None:
        config = RewardConfig.model_validate(config)
        super().__init__(env)
        spaces = env.single_observation_space, env.single_action_space
        environment, self._call = _environment(env, *spaces)
        self.kernel = RewardKernel(environment, config, gamma, bootstraps=bootstraps)
        self._layout = environment.observation_layout
        self._clock = _make_clock(self.kernel, config, total_timesteps)
        self._autoreset = env.metadata["autoreset_mode"]
        self._memory = EpisodeMemory(env.num_envs)
        self.transition: Transition
        self.rewards: Rewards
        self._obs: Array | None = None
        self._last_action: npt.NDArray[Any] | None = None
        self._resets = np.zeros(env.num_envs, dtype=bool)
        self._lengths, self._episodes = np.zeros((2, env.num_envs), dtype=int)
        self._sums = np.zeros((env.num_envs, len(_sum_names(self.kernel))))
        self._any_first_step = True

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments, or those selected by the option `reset_mask`."""
        # Read first: gymnasium removes the mask from the options.
        selected = (options or {}).get("reset_mask", slice(None))
        obs, info = self._call("reset", seed=seed, options=options)
        self._obs = flatten_rows(obs, self._layout)
        self._resets[selected] = False
        self._lengths[selected] = 0
        self._memory.reset(selected)
        self._any_first_step = True
        return obs, info

    def step(
        self, actions: Any
    ) -> tuple[Any, Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step the environments and return the shaped rewards, with their parts in the info."""
        if self._obs is None:
            raise gym.error.ResetNeeded("call reset before step")
        taken = np.array(actions)  # a copy, which the environments cannot change
        obs, env_reward, terminated, truncated, info = self._call("step", actions)
        next_obs = flatten_rows(obs, self._layout)
        done = terminated | truncated
        reached = next_obs
        if self._resets.any():  # not a transition: start from the first observation
            self._obs[self._resets] = next_obs[self._resets]
        any_done = bool(done.any())
        if self._autoreset == AutoresetMode.SAME_STEP and any_done:
            # `obs` belongs to the next episode already.
            reached = next_obs.copy()
            reached[done] = flatten_rows(list(info["final_obs"][done]), self._layout)
        self.transition = Transition(
            self._obs,
            taken,
            reached,
            env_reward,
            terminated,
            truncated,
            self._update_last_actions(taken),
            self._record_info(info) if self.kernel.reads_info else None,
        )
        try:
            rewards = self.kernel(self.transition, self._clock.tick(self.num_envs), self._memory)
        except RewardError as error:
            row = error.row or 0  # if it is unknown, so is the position
            located = error.at(int(self._episodes[row]), int(self._lengths[row]))
            raise located from error.__cause__
        if self._autoreset == AutoresetMode.NEXT_STEP:
            for column in (rewards.raw, rewards.shaping, rewards.shaped):
                column[self._resets] = 0.0
        info["reward_components"] = component_columns(self.kernel, rewards)
        values = _summands(rewards)
        self._sums = np.where(self._lengths[:, None] > 0, self._sums, 0.0) + values
        if any_done:
            for name, column in zip(_sum_names(self.kernel), self._sums.T, strict=True):
                info |= {name: np.where(done, column, 0.0), f"_{name}": done}
        self._update_counters(done, any_done=any_done)
        self._obs, self.rewards = next_obs, rewards
        return obs, rewards.shaped, terminated, truncated, info

    def _update_counters(self, done: npt.NDArray[np.bool_], *, any_done: bool) -> None:
        """Update the episode and step of each environment."""
        self._lengths += 1
        self._any_first_step = any_done
        if self._autoreset == AutoresetMode.NEXT_STEP:
            self._lengths[self._resets] = 0
            self._memory.reset(self._resets)
            self._any_first_step = bool(self._resets.any())
            self._resets = done
        elif any_done:
            self._lengths[done] = 0
        if any_done:
            self._episodes += done

    def _record_info(self, info: dict[str, Any]) -> npt.NDArray[np.object_]:
        infos = record_vector_info(info, self.num_envs)
        if self._resets.any():  # not a transition: repeat an info that terms accept
            before: Any = self.transition.info
            infos[self._resets] = before[self._resets]
        return infos

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


def _sum_names(kernel: RewardKernel) -> list[str]:
    return [f"sum_{name}" for name in (*kernel.names, "env_reward", "shaping", "shaped")]


def _summands(rewards: Rewards) -> Array:
    """Return the parts of the rewards that have sums, (N, K + 3)."""
    return np.column_stack([rewards.raw, rewards.env_reward, rewards.shaping, rewards.shaped])


def _make_clock(kernel: RewardKernel, config: RewardConfig, total_timesteps: int | None) -> Clock:
    if isinstance(config.schedule, EarnedSchedule):
        raise ValueError("an earned schedule needs the evaluations of shaperun train")
    return Clock(total_timesteps, scheduled=kernel.scheduled)


def _environment(
    env: Any, observation_space: Any, action_space: Any
) -> tuple[Environment, Callable[..., Any]]:
    """Return the declaration of an environment, and a function that calls its methods."""
    for layer in layers_of(env):
        if isinstance(layer, RewardShapingWrapper | VectorRewardShapingWrapper):
            raise ValueError("the reward is already shaped; give one wrapper all of the terms")
        if isinstance(layer, gym.wrappers.Autoreset):
            raise ValueError(
                "Autoreset joins episodes; apply the reward first, as in "
                "Autoreset(RewardShapingWrapper(env, …))"
            )
    base = env.unwrapped
    spec = env.spec
    if spec is None and isinstance(base, VectorEnv):
        spec = base.get_attr("spec")[0]  # type: ignore[attr-defined]
    name = spec.id if spec else type(base).__name__
    declared = find_own_declaration(base, spec)
    if declared and declared.id in environments():
        return declared, OwnObservations(env)
    seen = from_spaces(name, observation_space, action_space)
    if declared:
        return complete(declared, seen), OwnObservations(env)
    return seen, lambda method, *args, **kwargs: getattr(env, method)(*args, **kwargs)
