"""The environments of one run as stable-baselines3 sees them; every episode in them is recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from shaperun.reward import RewardKernel, Rewards, check_identity
from shaperun.study import RunConfig
from shaperun.terms import Environment, Transition
from shaperun.wrapper import (
    NotTheSameError,
    Remembering,
    VectorRewardShapingWrapper,
    make_environment,
)

Row = dict[str, object]


def episode_columns(kernel: RewardKernel) -> list[str]:
    """The columns of a recorded training episode: undiscounted sums, terms by their raw values.

    `timesteps` counts the environment steps of the whole run up to the episode's end. Where the
    reward has a schedule, `schedule` is its mean factor over the episode.
    """
    rewards = ["return", "shaping", "shaped_return"]
    sums = [f"sum_{term}" for term in kernel.names]
    schedule = ["schedule"] if kernel.scheduled else []
    return ["timesteps", "copy", "length", "outcome", *rewards, *schedule, *sums]


class EpisodeRecorder:
    """Adds up the steps of N copies of an environment, and emits a row when an episode ends."""

    def __init__(
        self,
        environment: Environment,
        kernel: RewardKernel,
        copies: int,
        emit: Callable[[Row], None],
    ) -> None:
        self.timesteps = 0
        self.recent_returns: deque[float] = deque(maxlen=100)
        self._environment, self._kernel, self._emit = environment, kernel, emit
        self._lengths = np.zeros(copies, dtype=int)
        # Per copy: the raw terms, then environment reward, shaping, shaped reward and schedule.
        self._sums = np.zeros((copies, len(kernel.names) + 4))
        self._step = np.zeros_like(self._sums)
        self._all_steps, self._all_episodes = np.zeros((2, len(kernel.names) + 4))

    def step(self, transition: Transition, rewards: Rewards) -> None:
        """Take in one step of every copy."""
        step = self._step
        step[:, :-4] = rewards.raw
        step[:, -4], step[:, -3], step[:, -2] = rewards.env_reward, rewards.shaping, rewards.shaped
        step[:, -1] = rewards.schedule
        self._sums += step
        self._all_steps += step.sum(axis=0)
        self._lengths += 1
        self.timesteps += len(self._lengths)
        ended = transition.terminated | transition.truncated
        if ended.any():
            done = np.flatnonzero(ended)
            self._end(done, transition.take(done))

    def memory(self) -> dict[str, Any]:
        """The sums so far."""
        return {
            "timesteps": self.timesteps,
            "recent_returns": list(self.recent_returns),
            "lengths": self._lengths.copy(),
            "sums": self._sums.copy(),
            "all_steps": self._all_steps.copy(),
            "all_episodes": self._all_episodes.copy(),
        }

    def restore(self, memory: dict[str, Any]) -> None:
        """Go on from there."""
        self.timesteps = memory["timesteps"]
        self.recent_returns.extend(memory["recent_returns"])
        self._lengths, self._sums = memory["lengths"], memory["sums"]
        self._all_steps, self._all_episodes = memory["all_steps"], memory["all_episodes"]

    def check(self) -> None:
        """The recorded episodes and those under way must add up to all the steps there were.

        Raises:
            ArithmeticError: they do not.
        """
        check_identity("sum of all steps", self._all_steps, self._all_episodes + self._sums.sum(0))

    def _end(self, copies: npt.NDArray[np.intp], ends: Transition) -> None:
        sums = self._sums[copies]
        raw, (env_return, shaping, shaped, schedule) = sums[:, :-4], sums[:, -4:].T
        # What changes within an episode does not follow from the sums alone.
        if not (self._kernel.mode == "potential" or self._kernel.scheduled):
            check_identity("shaping of an episode", shaping, raw @ self._kernel.weights)
        if not (self._kernel.mode == "replace" and self._kernel.scheduled):
            check_identity("shaped return", shaped, self._kernel.shaped(env_return, shaping))
        outcomes = self._environment.outcome(ends)
        for row, copy in enumerate(copies):
            self._emit(
                {
                    "timesteps": self.timesteps,
                    "copy": int(copy),
                    "length": int(self._lengths[copy]),
                    "outcome": str(outcomes[row]),
                    "return": float(env_return[row]),
                    "shaping": float(shaping[row]),
                    "shaped_return": float(shaped[row]),
                    **(
                        {"schedule": float(schedule[row] / self._lengths[copy])}
                        if self._kernel.scheduled
                        else {}
                    ),
                    **{
                        f"sum_{name}": float(value)
                        for name, value in zip(self._kernel.names, raw[row], strict=True)
                    },
                }
            )
            self.recent_returns.append(float(env_return[row]))
        self._all_episodes += sums.sum(axis=0)
        self._sums[copies] = 0.0
        self._lengths[copies] = 0


class Copies(VectorEnv[Any, Any, Any]):
    """N environments stepped one after the other; one that is done restarts in the same step.

    As gymnasium's own SyncVectorEnv, but for two things that cost a tenth of LunarLander's time:
    nobody reads infos here, so none are gathered, and a choice is handed on as a plain integer,
    which an environment checks in a tenth of the time that it takes with one of numpy's.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, envs: Sequence[Remembering]) -> None:
        self.envs = envs
        self.num_envs = len(envs)
        self.spec = envs[0].spec
        self.single_observation_space = envs[0].observation_space
        self.single_action_space = envs[0].action_space
        self._plain = isinstance(self.single_action_space, spaces.Discrete)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Start every copy from its seed."""
        seeds = seed if isinstance(seed, list) else [seed] * self.num_envs
        obs = self._empty()
        for copy, env in enumerate(self.envs):
            obs[copy], _ = env.reset(seed=seeds[copy], options=options)
        return obs, {}

    def step(self, actions: npt.NDArray[Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every copy; `final_obs` (N, …) holds the last observations of those that ended."""
        obs, final_obs = self._empty(), None
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        each = actions.tolist() if self._plain else actions
        for copy, (env, action) in enumerate(zip(self.envs, each, strict=True)):
            obs[copy], rewards[copy], ended, cut, _ = env.step(action)
            if ended or cut:
                final_obs = self._empty() if final_obs is None else final_obs
                final_obs[copy] = obs[copy]
                terminated[copy], truncated[copy] = ended, cut
                obs[copy], _ = env.reset()
        return obs, rewards, terminated, truncated, {"final_obs": final_obs}

    def close(self, **kwargs: Any) -> None:
        """Close every copy."""
        for env in self.envs:
            env.close()

    def _empty(self) -> npt.NDArray[Any]:
        space = self.single_observation_space
        return np.zeros((self.num_envs, *(space.shape or ())), space.dtype)


class TrainingEnvs(VecEnv):
    """N shaped copies of a run's environment behind stable-baselines3's interface.

    Args:
        config: the run.
        seeds: what each copy is seeded with, once.
        emit: is given a row for every episode that ends.
    """

    def __init__(self, config: RunConfig, seeds: list[int], emit: Callable[[Row], None]) -> None:
        self._copies = Copies([Remembering(make_environment(config.environment)) for _ in seeds])
        self._vector = VectorRewardShapingWrapper(
            self._copies,
            config.reward,
            gamma=config.training.gamma,
            total_timesteps=config.training.total_timesteps,
        )
        self._reset_with: list[int | None] = list(seeds)
        self._actions: npt.NDArray[Any]
        self._obs: npt.NDArray[Any]  # the last ones
        environment = config.environment.describe()
        self.kernel = self._vector.kernel
        self.recorder = EpisodeRecorder(environment, self.kernel, len(seeds), emit)
        super().__init__(
            len(seeds), self._vector.single_observation_space, self._vector.single_action_space
        )

    def reset(self) -> npt.NDArray[Any]:
        """Start the copies from their seeds; afterwards they go on with their own generators."""
        obs: npt.NDArray[Any] = self._vector.reset(seed=self._reset_with)[0]
        self._obs = obs
        return obs

    def memory(self) -> dict[str, Any]:
        """Everything that the copies and their recording need to go on."""
        return {
            "copies": [copy.memory() for copy in self._copies.envs],
            "obs": np.array(self._obs),
            "vector": self._vector.memory(),
            "recorder": self.recorder.memory(),
        }

    def restore(self, memory: dict[str, Any]) -> None:
        """Go on from there: every copy plays its episode again.

        Raises:
            NotTheSameError: an environment went another way than it did.
        """
        for copy, remembered in zip(self._copies.envs, memory["copies"], strict=True):
            copy.restore(remembered)
        if not np.array_equal(self.reset(), memory["obs"]):
            raise NotTheSameError("the environment shows another state than it did")
        self._vector.restore(memory["vector"])
        self.recorder.restore(memory["recorder"])

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Remember the actions (N, …)."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        """Step the copies; one that is done restarts at once and hands on its last observation."""
        obs, shaped, terminated, truncated, info = self._vector.step(self._actions)
        self._obs = obs
        self.recorder.step(self._vector.transition, self._vector.rewards)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for copy in np.flatnonzero(done):
            infos[copy] = {
                "terminal_observation": info["final_obs"][copy],
                "TimeLimit.truncated": bool(truncated[copy] and not terminated[copy]),
            }
        return obs, shaped.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the copies."""
        self._vector.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of some copies."""
        return [
            self._copies.envs[copy].get_wrapper_attr(attr_name)
            for copy in self._get_indices(indices)
        ]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: nothing may change an environment from outside while it is recorded."""
        raise NotImplementedError("the environments of a run cannot be changed from outside")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refused, for the same reason."""
        raise NotImplementedError("the environments of a run cannot be changed from outside")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """No copy has a wrapper that stable-baselines3 looks for."""
        return [False for _ in self._get_indices(indices)]
