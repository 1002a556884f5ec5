"""Vector environment of a run: N copies, restarted within the step that ends their episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsFloat, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from shaperun.common.errors import ContractError
from shaperun.envs.base import scalar_reward
from shaperun.envs.info import Info, record_info
from shaperun.envs.wrappers import BaseEnv, ViewedEnv
from shaperun.study.environment import EnvironmentConfig

Array = npt.NDArray[Any]


class Step(NamedTuple):
    """Result of one step of N environments: observations (N, …), the others (N,).

    Where an episode ended, `obs` is the first observation of the next episode and `last_obs` the
    last one of the ended episode; elsewhere `last_obs` is 0, and None if no episode ended. `infos`
    are recorded if the reward reads them. `base` is set if learners see the environment through
    wrappers, or an observation is not of the type of its space.
    """

    obs: Array
    env_reward: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    last_obs: Array | None
    infos: list[Info] | None = None
    base: BaseStep | None = None


class BaseStep(NamedTuple):
    """Step as the environments themselves observe it, behind the wrappers of the learner.

    The observations (N, …) that it reached and that the next step begins with, in float64 if they
    are not of their space's type, and the actions.
    """

    next_obs: Array
    obs: Array
    actions: Array


class _Rows:
    """Observations (N, …) in the type of their space, and exactly as returned if they differ."""

    def __init__(self, count: int, space: spaces.Space[Any]) -> None:
        self.obs: Array = np.zeros((count, *(space.shape or ())), space.dtype)
        self.exact: Array | None = None

    def put(self, index: int, obs: Any) -> None:
        returned = np.asarray(obs)
        self.obs[index] = returned
        if returned.dtype != self.obs.dtype or self.exact is not None:
            self.exact = self.obs.astype(np.float64) if self.exact is None else self.exact
            self.exact[index] = returned

    @property
    def own(self) -> Array:
        return self.obs if self.exact is None else self.exact


class SequentialVectorEnv:
    """N gymnasium environments, stepped one after the other.

    Like gymnasium's SyncVectorEnv with AutoresetMode.SAME_STEP, but a tenth faster on LunarLander:
    infos are not gathered unless the reward reads them, and discrete actions are passed as plain
    integers, which environments check in a tenth of the time of numpy's.
    """

    def __init__(self, envs: Sequence[ReplayableEnv], *, reads_info: bool = False) -> None:
        self.envs = envs
        self._reads_info = reads_info
        self.observation_space: spaces.Space[Any] = envs[0].observation_space
        self.action_space: spaces.Space[Any] = envs[0].action_space
        self._discrete = isinstance(self.action_space, spaces.Discrete)
        self._bases = [env.base for env in envs if env.base]
        self._actions: Array  # as sent
        self._exact_obs: Array | None = None  # latest ones, if they are not of their space's type

    @classmethod
    def from_config(
        cls, environment: EnvironmentConfig, count: int, *, reads_info: bool = False
    ) -> SequentialVectorEnv:
        """Make `count` copies of a study's environment."""
        envs = [ReplayableEnv(environment.make()) for _ in range(count)]
        return cls(envs, reads_info=reads_info)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Reset every environment with its seed; return observations (N, …)."""
        rows = self._empty_rows()
        for index, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            first, _ = env.reset(seed=seed)
            if np.shape(first) != rows.obs.shape[1:]:
                raise ContractError(
                    f"reset returned an observation of shape {np.shape(first)}, but the "
                    f"observation space has shape {rows.obs.shape[1:]}; correct the environment"
                )
            rows.put(index, first)
        self._exact_obs = rows.exact
        return rows.obs

    @property
    def base_obs(self) -> Array | None:
        """Latest observations (N, …) of the environments themselves, if learners see others."""
        return np.array([base.obs for base in self._bases]) if self._bases else self._exact_obs

    def step(self, actions: Array) -> Step:
        """Step every environment with its action (N, …)."""
        self.send(actions)
        return self.receive()

    def send(self, actions: Array) -> None:
        """Send every environment its action (N, …)."""
        self._actions = actions

    def receive(self) -> Step:
        """Take the step and return its result."""
        rows, last = self._empty_rows(), None
        infos: list[Info] | None = [] if self._reads_info else None
        bases = self._bases
        reached: list[Array] = []
        rewards = np.zeros(len(self.envs))
        terminated, truncated = np.zeros((2, len(self.envs)), dtype=bool)
        # A copy, since an environment may change its action in place.
        actions = self._actions.tolist() if self._discrete else self._actions.copy()
        for index, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            obs, reward, ended, cut, info = env.step(action)
            rows.put(index, obs)
            if infos is not None:
                infos.append(record_info(info))
            if bases:
                reached.append(bases[index].obs)
            rewards[index] = reward if type(reward) is float else scalar_reward(reward)
            if ended or cut:
                last = self._empty_rows() if last is None else last
                last.put(index, obs)
                terminated[index], truncated[index] = ended, cut
                rows.put(index, env.reset()[0])
        self._exact_obs = rows.exact
        base, last_obs = None, None if last is None else last.obs
        if bases:
            next_obs, taken = np.array(reached), np.array([base.action for base in bases])
            latest = next_obs if last_obs is None else np.array([base.obs for base in bases])
            base = BaseStep(next_obs, latest, taken)
        elif rows.exact is not None or (last and last.exact is not None):
            next_obs = rows.own.astype(np.float64)
            if last:
                ended_here = terminated | truncated
                next_obs[ended_here] = last.own[ended_here]
            base = BaseStep(next_obs, rows.own, self._actions)
        return Step(rows.obs, rewards, terminated, truncated, last_obs, infos, base)

    def get_state(self) -> list[dict[str, Any]]:
        """Return the state of every environment."""
        return [env.get_state() for env in self.envs]

    def set_state(self, states: Sequence[dict[str, Any]]) -> Array:
        """Replay every environment's episode up to its state; return observations (N, …).

        Raises:
            ReplayMismatchError: a replayed episode differs.
        """
        for env, state in zip(self.envs, states, strict=True):
            env.set_state(state)
        return self.reset([0] * len(self.envs))  # replays; seeds are ignored

    def get_attr(self, name: str) -> list[Any]:
        """Return an attribute of every environment."""
        return [env.get_wrapper_attr(name) for env in self.envs]

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def _empty_rows(self) -> _Rows:
        return _Rows(len(self.envs), self.observation_space)


class ReplayableEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose current episode can be replayed.

    A physics world can be neither copied nor stored. But the generator before its reset and its
    actions determine an episode, unless the environment keeps other state, such as a generator of
    its own: a replay that then pays other rewards or reaches another observation is noticed, and
    the run restarts.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.base: BaseEnv | None = env.base if isinstance(env, ViewedEnv) else None
        while type(env).step is gym.Wrapper.step:  # skip wrappers that only forward the call
            env = cast(Any, env).env
        self._step = env.step
        self._start: Any = None  # a seed, or the state of the generator
        self._actions: list[npt.NDArray[Any]] = []
        self._rewards: list[float] = []
        self._pending: dict[str, Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, or replay the one that `set_state` restores."""
        if self._pending:
            return self._replay(self._pending)
        self._start = seed
        if seed is None:
            self._start = self.unwrapped.np_random.bit_generator.state
        self._actions, self._rewards = [], []
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and log the action and the reward."""
        self._actions.append(action.copy() if isinstance(action, np.ndarray) else action)
        result = self._step(action)
        reward = result[1]
        self._rewards.append(reward if type(reward) is float else scalar_reward(reward))
        return result

    def get_state(self) -> dict[str, Any]:
        """Return the start of the episode, and its actions (T, …) and rewards (T,) so far."""
        return {
            "start": self._start,
            "actions": np.array(self._actions),
            "rewards": np.array(self._rewards, dtype=np.float64),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Replay an episode at the next reset."""
        self._pending = state

    def _replay(self, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._pending = None
        start = state["start"]
        if isinstance(start, int):
            obs, info = self.reset(seed=start)
        else:
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = start
            self.unwrapped.np_random = generator
            obs, info = self.reset()
        for action in state["actions"]:
            obs, _, terminated, truncated, info = self.step(action)
            if terminated or truncated:
                raise ReplayMismatchError("the replayed episode ended early")
        # States of earlier versions have no rewards.
        rewards = state.get("rewards", self._rewards)
        if not np.array_equal(rewards, self._rewards, equal_nan=True):
            raise ReplayMismatchError("the replayed episode has other rewards")
        return obs, info


class ReplayMismatchError(RuntimeError):
    """A replayed episode differs from the original."""
