"""N copies of a run's environment, stepped together; one that is done restarts in the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsFloat, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from shaperun.study.environment import EnvironmentConfig

Array = npt.NDArray[Any]


class Step(NamedTuple):
    """What N copies did in one step: observations (N, …), the others (N,).

    Where an episode ended, `obs` has the first observation of the next one, and `last_obs` the last
    one of that which ended; elsewhere that is 0. Where none ended it is None.
    """

    obs: Array
    env_reward: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    last_obs: Array | None


class SequentialVectorEnv:
    """N environments of gymnasium, stepped one after the other.

    As gymnasium's own SyncVectorEnv with restarts in the same step, but for two things that cost a
    tenth of LunarLander's time: nobody reads infos here, so none are gathered, and a choice is
    handed on as a plain integer, which an environment checks in a tenth of the time that it takes
    with one of numpy's.
    """

    def __init__(self, envs: Sequence[ReplayableEnv]) -> None:
        self.envs = envs
        self.observation_space: spaces.Space[Any] = envs[0].observation_space
        self.action_space: spaces.Space[Any] = envs[0].action_space
        self._plain = isinstance(self.action_space, spaces.Discrete)
        self._actions: Array  # that were sent

    @classmethod
    def from_config(cls, environment: EnvironmentConfig, count: int) -> SequentialVectorEnv:
        """So many copies of a study's environment."""
        return cls([ReplayableEnv(environment.make()) for _ in range(count)])

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start every copy from its seed; first observations (N, …)."""
        obs = self._empty()
        for copy, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            obs[copy], _ = env.reset(seed=seed)
        return obs

    def step(self, actions: Array) -> Step:
        """Step every copy with its action (N, …)."""
        self.send(actions)
        return self.receive()

    def send(self, actions: Array) -> None:
        """Give every copy its action (N, …)."""
        self._actions = actions

    def receive(self) -> Step:
        """What they came to."""
        actions, obs, last_obs = self._actions, self._empty(), None
        rewards = np.zeros(len(self.envs))
        terminated, truncated = np.zeros((2, len(self.envs)), dtype=bool)
        each = actions.tolist() if self._plain else actions
        for copy, (env, action) in enumerate(zip(self.envs, each, strict=True)):
            obs[copy], rewards[copy], ended, cut, _ = env.step(action)
            if ended or cut:
                last_obs = self._empty() if last_obs is None else last_obs
                last_obs[copy] = obs[copy]
                terminated[copy], truncated[copy] = ended, cut
                obs[copy], _ = env.reset()
        return Step(obs, rewards, terminated, truncated, last_obs)

    def get_state(self) -> list[dict[str, Any]]:
        """What every copy needs to go on."""
        return [env.get_state() for env in self.envs]

    def set_state(self, memory: Sequence[dict[str, Any]]) -> Array:
        """Play every copy's episode again, up to where it was; observations there (N, …).

        Raises:
            ReplayMismatchError: an environment went another way than it did.
        """
        for env, remembered in zip(self.envs, memory, strict=True):
            env.set_state(remembered)
        return self.reset([0] * len(self.envs))  # which plays them again, whatever the seeds

    def attribute(self, name: str) -> list[Any]:
        """An attribute of every copy."""
        return [env.get_wrapper_attr(name) for env in self.envs]

    def close(self) -> None:
        """Close every copy."""
        for env in self.envs:
            env.close()

    def _empty(self) -> Array:
        space = self.observation_space
        return np.zeros((len(self.envs), *(space.shape or ())), space.dtype)


class ReplayableEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers how its episode began and what was done since, so that it can be played again.

    A physics world can be neither copied nor stored. But an episode is determined by the generator
    before its reset and by its actions; `make_environment` sees to it that nothing else is.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        while type(env).step is gym.Wrapper.step:  # only handed on: a call less for each
            env = cast(Any, env).env
        self._step = env.step
        self._start: Any = None  # a seed, or the state of the generator
        self._actions: list[npt.NDArray[Any]] = []
        self._again: dict[str, Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; or play the one again that was to be restored, up to where it was."""
        if self._again:
            return self._replay(self._again)
        self._start = seed
        if seed is None:
            self._start = self.unwrapped.np_random.bit_generator.state
        self._actions = []
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and remember the action."""
        self._actions.append(action.copy() if isinstance(action, np.ndarray) else action)
        return self._step(action)

    def get_state(self) -> dict[str, Any]:
        """How the episode began, and its actions so far (T, …)."""
        return {"start": self._start, "actions": np.array(self._actions)}

    def set_state(self, memory: dict[str, Any]) -> None:
        """Let the next reset play a remembered episode again."""
        self._again = memory

    def _replay(self, memory: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._again = None
        start = memory["start"]
        if isinstance(start, int):
            obs, info = self.reset(seed=start)
        else:
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = start
            self.unwrapped.np_random = generator
            obs, info = self.reset()
        for action in memory["actions"]:
            obs, _, terminated, truncated, info = self.step(action)
            if terminated or truncated:
                raise ReplayMismatchError("the environment ended an episode that had not ended")
        return obs, info


class ReplayMismatchError(RuntimeError):
    """Played again, an episode went another way."""
