"""The environments of one run: shaped for its learner, and every episode in them recorded.

Stepping and shaping are two things here. stable-baselines3 asks for both at every step; who acts
without looking at rewards may step through a whole rollout first, and have it shaped at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv

from shaperun.envs.base import Array, Transition, flatten_rows
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.rewards.wrapper import Clock
from shaperun.study.models import RunConfig
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.episode_recorder import EpisodeRecorder, Row
from shaperun.training.vector_env import ReplayMismatchError, SequentialVectorEnv, Step

ENDS = ("terminated", "truncated")
StepResult = tuple[npt.NDArray[Any], Step]
"""The actions (N, …) of one step, and what they came to."""


def training_seeds(stream: np.random.SeedSequence, count: int) -> list[int]:
    """What episodes of training are seeded with: no episode that is held out, and no other run's.

    They are above 2³², where no evaluation episode is seeded, and have 63 bits.
    """
    words = stream.generate_state(count, np.uint64)
    return [int(word >> np.uint64(2)) + 2**62 for word in words]


class TrainingEnvs(VecEnv):
    """N shaped copies of a run's environment, behind stable-baselines3's interface.

    Args:
        config: the run.
        seeds: what each copy is seeded with, once.
        emit: is given a row for every episode that ends.
    """

    def __init__(self, config: RunConfig, seeds: list[int], emit: Callable[[Row], None]) -> None:
        environment = config.environment.describe()
        self.kernel = RewardKernel(environment, config.reward, config.training.gamma)
        self.recorder = EpisodeRecorder(environment, self.kernel, len(seeds), emit)
        copies = (
            EnvPoolVectorEnv if config.environment.backend == "envpool" else SequentialVectorEnv
        )
        self._copies: SequentialVectorEnv | EnvPoolVectorEnv = copies.from_config(
            config.environment, len(seeds)
        )
        self._clock = Clock(self.kernel, config.training.total_timesteps)
        self._reset_with = seeds
        self._obs: npt.NDArray[Any]  # after the last step
        self._seen: Array  # after the last step that was shaped, as the kernel takes them
        self._last_action: npt.NDArray[Any] | None = None  # of that step
        self._taken: list[StepResult] = []  # since then
        self._actions: npt.NDArray[Any]
        super().__init__(len(seeds), self._copies.observation_space, self._copies.action_space)

    def reset(self) -> npt.NDArray[Any]:
        """Start the copies from their seeds; afterwards they go on with their own generators."""
        return self._start_episodes(self._copies.reset(self._reset_with))

    def send(self, actions: npt.NDArray[Any]) -> None:
        """Give the copies their actions (N, …)."""
        self._actions = np.array(actions)
        self._copies.send(actions)

    def receive(self) -> Step:
        """What they came to; shaping is left for later."""
        step = self._copies.receive()
        self._taken.append((self._actions, step))
        self._obs = step.obs
        return step

    def shaped(self) -> Array:
        """The shaped rewards (T, N) of the T steps since this was last asked for, now recorded.

        Raises:
            RewardError: a term or the reward is not finite; the message says where. All that came
                before it is recorded.
            ArithmeticError: the recorded columns do not add up.
        """
        taken, self._taken = self._taken, []
        try:
            return self._shape(taken)
        except RewardError:
            if len(taken) == 1:
                raise
        for one in taken:  # up to that which it is about
            self._shape([one])
        raise AssertionError("a reward is another one when it is asked for again")

    def get_state(self) -> dict[str, Any]:
        """Everything that the copies and their recording need to go on, between two rollouts."""
        return {
            "copies": self._copies.get_state(),
            "obs": np.array(self._obs),
            "last_action": self._last_action,
            "steps": self._clock.steps,
            "recorder": self.recorder.get_state(),
        }

    def set_state(self, memory: dict[str, Any]) -> None:
        """Go on from there: every copy plays its episode again.

        Raises:
            ReplayMismatchError: an environment went another way than it did.
        """
        obs = self._start_episodes(self._copies.set_state(memory["copies"]))
        if not np.array_equal(obs, memory["obs"]):
            raise ReplayMismatchError("the environment shows another state than it did")
        self._last_action, self._clock.steps = memory["last_action"], memory["steps"]
        self.recorder.set_state(memory["recorder"])

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Give the copies their actions (N, …)."""
        self.send(actions)

    def step_wait(self) -> tuple[Any, npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        """What they came to; one that is done restarts at once, its last observation handed on."""
        step = self.receive()
        done = step.terminated | step.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if step.last_obs is not None:
            for copy in np.flatnonzero(done):
                infos[copy] = {
                    "terminal_observation": step.last_obs[copy],
                    "TimeLimit.truncated": bool(step.truncated[copy] and not step.terminated[copy]),
                }
        return step.obs, self.shaped()[0].astype(np.float32), done, infos

    def close(self) -> None:
        """Close the copies."""
        self._copies.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of some copies."""
        found = self._copies.attribute(attr_name)
        return [found[copy] for copy in self._get_indices(indices)]

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

    def _start_episodes(self, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        self._obs, self._seen = obs, flatten_rows(obs)
        return obs

    def _shape(self, taken: Sequence[StepResult]) -> Array:
        """Shape and record some steps, and go on from there."""
        transition = self._transition(taken)
        try:
            rewards = self.kernel(transition, self._clock.shares(len(taken), self.num_envs))
        except RewardError as error:
            copy = (error.row or 0) % self.num_envs  # in the one step; of more, nobody asks
            raise self.recorder.locate(error, copy) from None
        self._clock.steps += len(transition)
        self._seen, self._last_action = flatten_rows(taken[-1][1].obs), taken[-1][0]
        self.recorder.record(transition, rewards)
        return rewards.shaped.reshape(len(taken), self.num_envs)

    def _transition(self, taken: Sequence[StepResult]) -> Transition:
        """T steps of N copies as T · N transitions, one step after the other."""
        steps = [step for _, step in taken]
        shown = flatten_rows(np.concatenate([step.obs for step in steps]))
        reached = shown.copy()
        for number, step in enumerate(steps):
            if step.last_obs is not None:  # what is shown begins the next episode already
                ended = np.flatnonzero(step.terminated | step.truncated)
                reached[number * self.num_envs + ended] = flatten_rows(step.last_obs[ended])
        terminated, truncated = (np.stack([getattr(s, n) for s in steps]) for n in ENDS)
        return Transition(
            obs=np.concatenate([self._seen, shown[: -self.num_envs]]),
            action=np.concatenate([actions for actions, _ in taken]),
            next_obs=reached,
            env_reward=np.concatenate([step.env_reward for step in steps]),
            terminated=terminated.reshape(-1),
            truncated=truncated.reshape(-1),
            last_action=self._actions_before(taken, terminated | truncated),
        )

    def _actions_before(
        self, taken: Sequence[StepResult], ended: npt.NDArray[np.bool_]
    ) -> npt.NDArray[Any]:
        """Each copy's action of the step before; its own on the first step of an episode."""
        actions = np.stack([actions for actions, _ in taken])
        first = actions[0] if self._last_action is None else self._last_action
        before = np.concatenate([first[None], actions[:-1]])
        begins = np.concatenate([(self.recorder.lengths == 0)[None], ended[:-1]])
        before[begins] = actions[begins]
        return before.reshape(-1, *before.shape[2:])
