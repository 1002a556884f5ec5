"""Vector environment of one run: shape rewards for its learner, and record every episode.

Stepping and shaping are separate: stable-baselines3 needs both at every step, but the lockstep
engine steps through a whole rollout first and shapes it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv

from shaperun.envs.base import Array, Transition
from shaperun.envs.episodes import ObservationError, check_observations
from shaperun.envs.layout import flatten_rows
from shaperun.envs.memory import EpisodeMemory
from shaperun.envs.metrics import mean_metric
from shaperun.rewards.clock import Clock
from shaperun.rewards.kernel import RewardError
from shaperun.rewards.schedule import EarnedSchedule
from shaperun.study.models import RunConfig
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.episode_recorder import EpisodeRecorder, Row
from shaperun.training.vector_env import ReplayMismatchError, SequentialVectorEnv, Step

StepResult = tuple[npt.NDArray[Any], Step]
"""The actions (N, …) of one step, and its result."""


def training_seeds(stream: np.random.SeedSequence, count: int) -> list[int]:
    """Return seeds of training episodes, which no held-out episode and no other run has.

    They have 63 bits and are above 2³²; the seeds of held-out episodes are below.
    """
    words = stream.generate_state(count, np.uint64)
    return [int(word >> np.uint64(2)) + 2**62 for word in words]


class TrainingEnvs(VecEnv):
    """N shaped copies of a run's environment, one per seed, as a VecEnv of stable-baselines3."""

    def __init__(self, config: RunConfig, seeds: list[int], emit: Callable[[Row], None]) -> None:
        environment = config.environment.describe()
        self.kernel = config.training.kernel(environment, config.reward)
        self.recorder = EpisodeRecorder(environment, self.kernel, len(seeds), emit)
        envpool = config.environment.backend == "envpool"
        simulator = EnvPoolVectorEnv if envpool else SequentialVectorEnv
        self._vector_env: SequentialVectorEnv | EnvPoolVectorEnv = simulator.from_config(
            config.environment, len(seeds), reads_info=self.kernel.reads_info
        )
        self._memory = EpisodeMemory(len(seeds))
        schedule = config.reward.schedule
        self._earned = schedule if isinstance(schedule, EarnedSchedule) else None
        self._clock = Clock(
            config.training.total_timesteps,
            scheduled=self.kernel.scheduled,
            is_earned=self._earned is not None,
        )
        self._environment, self._total_timesteps = environment, config.training.total_timesteps
        self._env_seeds = seeds
        self._obs: npt.NDArray[Any]  # after the last step
        self._previous_obs: Array  # after the last shaped step, flat as the kernel takes them
        self._last_action: npt.NDArray[Any] | None = None  # of the last shaped step
        self._pending: list[StepResult] = []  # steps that are not shaped yet
        self._actions: npt.NDArray[Any]
        observations, actions = self._vector_env.observation_space, self._vector_env.action_space
        super().__init__(len(seeds), observations, actions)

    def reset(self) -> npt.NDArray[Any]:
        """Reset all copies with their seeds; later episodes continue their generators."""
        return self._start_episodes(self._vector_env.reset(self._env_seeds))

    def send(self, actions: npt.NDArray[Any]) -> None:
        """Send the copies their actions (N, …)."""
        self._actions = np.array(actions)
        self._vector_env.send(actions)

    def receive(self) -> Step:
        """Return the result of the step, which is shaped later."""
        step = self._vector_env.receive()
        self._pending.append((self._actions, step))
        self._obs = step.obs
        self._check_observations(step)
        return step

    def shape_rewards(self) -> Array:
        """Shape and record the T pending steps; return their rewards (T, N).

        Raises:
            RewardError: a term raised, or a term or the reward is not finite; the message says
                where, unless it depends on how many steps are shaped at once. All steps before it
                are recorded.
            ArithmeticError: the recorded columns do not add up.
        """
        steps, self._pending = self._pending, []
        try:
            return self._shape(steps)
        except RewardError as error:
            first = error
        for step in steps:  # up to the one with the error, which raises it again
            try:
                self._shape([step])
            except RewardError as error:
                copy = error.row or 0  # of one step
                raise self.recorder.locate(error, copy) from error.__cause__
        raise first

    def evaluation_progress(self, timesteps: int) -> float:
        """Return the progress of training, or of an earned schedule, in an evaluation."""
        if self._earned:
            return self._clock.share(timesteps)
        return min(1.0, timesteps / self._total_timesteps)

    def on_evaluation(self, timesteps: int, rows: list[Row]) -> None:
        """Take the progress of an earned schedule from the rows of an evaluation."""
        if self._earned:
            value = mean_metric(self._earned.metric, self._environment, rows)
            self._clock.earn(timesteps, self._earned.share(value))

    def get_state(self) -> dict[str, Any]:
        """Return the state of the copies and their recorder between two rollouts."""
        return {
            "copies": self._vector_env.get_state(),
            "obs": np.array(self._obs),
            "base_obs": self._vector_env.base_obs,
            "last_action": self._last_action,
            **self._clock.get_state(),
            "recorder": self.recorder.get_state(),
            "memory": self._memory.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume from a state: every copy replays its episode.

        Raises:
            ReplayMismatchError: a replayed episode differs.
        """
        obs = self._start_episodes(self._vector_env.set_state(state["copies"]))
        base_obs = self._vector_env.base_obs
        # States of earlier versions have no base_obs.
        is_same = np.array_equal(base_obs, state.get("base_obs", base_obs))  # type: ignore[arg-type]
        if not is_same or not np.array_equal(obs, state["obs"]):
            raise ReplayMismatchError("a replayed episode reached another state")
        self._last_action = state["last_action"]
        self._clock.set_state(state)
        self.recorder.set_state(state["recorder"])
        if "memory" in state:  # not in those of earlier versions
            self._memory.set_state(state["memory"])

    step_async = send

    def step_wait(self) -> tuple[Any, npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        """Return observations, shaped rewards, ends and infos of the step."""
        step = self.receive()
        done = step.terminated | step.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if step.last_obs is not None:
            for copy in np.flatnonzero(done):
                infos[copy] = {
                    "terminal_observation": step.last_obs[copy],
                    "TimeLimit.truncated": bool(step.truncated[copy] and not step.terminated[copy]),
                }
        return step.obs, self.shape_rewards()[0].astype(np.float32), done, infos

    def close(self) -> None:
        """Close the copies."""
        self._vector_env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of some copies."""
        values = self._vector_env.get_attr(attr_name)
        return [values[copy] for copy in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Raise NotImplementedError: recorded environments must not be changed."""
        raise NotImplementedError("the environments of a run cannot be changed from outside")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Raise NotImplementedError, as `set_attr` does."""
        raise NotImplementedError("the environments of a run cannot be changed from outside")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Return False: no copy has a wrapper that stable-baselines3 looks for."""
        return [False for _ in self._get_indices(indices)]

    def _start_episodes(self, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        try:
            check_observations(obs, self._environment.id)
        except ObservationError as error:
            raise error.at(0, 0) from None
        base = self._vector_env.base_obs
        self._obs, self._previous_obs = obs, flatten_rows(obs if base is None else base)
        return obs

    def _check_observations(self, step: Step) -> None:
        """Raise ObservationError, after recording the steps before, if one is not finite."""
        try:
            if step.last_obs is not None:
                check_observations(step.last_obs, self._environment.id)
            check_observations(step.obs, self._environment.id)
        except ObservationError as error:
            self._pending.pop()
            if self._pending:
                self.shape_rewards()
            raise self.recorder.locate(error, error.row, 1) from None

    def _shape(self, pending: Sequence[StepResult]) -> Array:
        """Shape and record T steps; return their rewards (T, N)."""
        steps = [step for _, step in pending]
        actions = np.stack([step.base.actions if step.base else taken for taken, step in pending])
        transition = self._transition(actions, steps)
        shares = self._clock.shares(len(steps), self.num_envs)
        rewards = self.kernel(transition, shares, self._memory)
        self._clock.steps += len(transition)
        last = steps[-1]
        self._previous_obs = flatten_rows(last.base.obs if last.base else last.obs)
        self._last_action = actions[-1]
        self.recorder.record(transition, rewards)
        return rewards.shaped.reshape(len(steps), self.num_envs)

    def _transition(self, actions: npt.NDArray[Any], steps: Sequence[Step]) -> Transition:
        """Return T steps of N copies as T · N transitions, in order of time."""
        obs, next_obs = self._states(steps)
        terminated = np.stack([step.terminated for step in steps])
        truncated = np.stack([step.truncated for step in steps])
        return Transition(
            obs=np.concatenate([self._previous_obs, obs[: -self.num_envs]]),
            action=actions.reshape(-1, *actions.shape[2:]),
            next_obs=next_obs,
            env_reward=np.concatenate([step.env_reward for step in steps]),
            terminated=terminated.reshape(-1),
            truncated=truncated.reshape(-1),
            last_action=self._previous_actions(actions, terminated | truncated),
            info=_concatenate_infos(steps),
        )

    def _states(self, steps: Sequence[Step]) -> tuple[Array, Array]:
        """Return where the step after each step begins, and the state that it reached."""
        if any(step.base for step in steps):
            parts = [
                self._states([s]) if s.base is None else (s.base.obs, s.base.next_obs)
                for s in steps
            ]
            obs, next_obs = (
                flatten_rows(np.concatenate(part)) for part in zip(*parts, strict=True)
            )
            return obs, next_obs
        obs = flatten_rows(np.concatenate([step.obs for step in steps]))
        next_obs = obs.copy()
        for index, step in enumerate(steps):
            if step.last_obs is not None:  # obs is the first of the next episode there
                ended = np.flatnonzero(step.terminated | step.truncated)
                next_obs[index * self.num_envs + ended] = flatten_rows(step.last_obs[ended])
        return obs, next_obs

    def _previous_actions(
        self, actions: npt.NDArray[Any], ended: npt.NDArray[np.bool_]
    ) -> npt.NDArray[Any]:
        """Return the action before each (T · N, …); at the start of an episode the same one."""
        first = actions[0] if self._last_action is None else self._last_action
        previous = np.concatenate([first[None], actions[:-1]])
        starts = np.concatenate([(self.recorder.lengths == 0)[None], ended[:-1]])
        previous[starts] = actions[starts]
        return previous.reshape(-1, *previous.shape[2:])


def _concatenate_infos(steps: Sequence[Step]) -> npt.NDArray[np.object_] | None:
    if steps[0].infos is None:
        return None
    return np.array([info for step in steps for info in step.infos or ()], dtype=object)
