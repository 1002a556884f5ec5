"""Vector environment of EnvPool, with the interface of `SequentialVectorEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.info import record_vector_info
from shaperun.study.environment import EnvironmentConfig
from shaperun.training.vector_env import Array, Step

_SEED_LIMIT = 2**31  # EnvPool takes 32 bits, signed

# Numbers that LunarLander draws from its generator at every reset and every step. The others draw
# at resets only. Counted in EnvPool 1.2.5; if they change, restored observations differ.
_DRAWS_PER_RESET, _DRAWS_PER_STEP = 22, 4
_FALL_STEPS = 40  # steps that an idle lander stays in the air, at least


class EnvPoolVectorEnv:
    """A pool of N environments, restarted within the step that ends their episode.

    Their generators can be neither read nor set. But an episode is determined by the number of
    resets and (LunarLander) steps before it, and by its actions: so it can be replayed.
    """

    def __init__(
        self, env_id: str, count: int, max_steps: int, spaces: Any, *, reads_info: bool = False
    ) -> None:
        self._reads_info = reads_info
        self.base_obs: Array | None = None  # learners see what the environments observe
        self._id, self._count, self._max_steps = env_id, count, max_steps
        self._ids = np.arange(count, dtype=np.int32)
        self.observation_space, self.action_space = spaces
        self._pool: Any
        self._seeds: list[int] = []
        self._resets, self._steps_before = np.zeros((2, count), np.int64)  # in ended episodes
        self._actions: list[list[Any]] = [[] for _ in range(count)]

    @classmethod
    def from_config(
        cls, environment: EnvironmentConfig, count: int, *, reads_info: bool = False
    ) -> EnvPoolVectorEnv:
        """Make `count` copies of a study's environment."""
        env = environment.make()  # EnvPool's spaces have no bounds, or wrong ones
        spaces = env.observation_space, env.action_space
        assert env.spec is not None  # noqa: S101 (EnvPool's environments are registered)
        max_steps = env.spec.max_episode_steps
        env.close()
        return cls(environment.id, count, int(max_steps or 0), spaces, reads_info=reads_info)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Reset every environment with its seed; return observations (N, …)."""
        self._make_pool([seed % _SEED_LIMIT for seed in seeds])
        self._resets += 1
        return np.asarray(self._pool.reset()[0])

    def step(self, actions: Array) -> Step:
        """Step every environment with its action (N, …)."""
        self.send(actions)
        return self.receive()

    def send(self, actions: Array) -> None:
        """Send every environment its action (N, …); the pool steps in the background."""
        if actions.shape != (self._count, *(self.action_space.shape or ())):
            raise ValueError(f"invalid shape of actions: {actions.shape}")  # EnvPool would crash
        actions = actions.astype(self.action_space.dtype)
        for log, action in zip(self._actions, actions, strict=True):
            log.append(action)
        # A dictionary with ids spares the pool some work at every step.
        action = actions.astype(self._dtype)
        self._pool.send({"action": action, "env_id": self._ids, "players.env_id": self._ids})

    def receive(self) -> Step:
        """Wait for the step and return its result."""
        obs, rewards, terminated, _, info = self._pool.recv()
        truncated = info["elapsed_step"] >= self._max_steps
        infos = list(record_vector_info(info, self._count)) if self._reads_info else None
        ended, last_obs = np.flatnonzero(terminated | truncated), None
        if len(ended):
            last_obs = np.zeros_like(obs)
            last_obs[ended] = obs[ended]
            obs[ended] = self._restart(ended)
        return Step(obs, rewards.astype(np.float64), terminated, truncated, last_obs, infos)

    def get_state(self) -> list[dict[str, Any]]:
        """Return the state of every environment."""
        return [
            {
                "seed": self._seeds[index],
                "resets": int(self._resets[index]),
                "before": int(self._steps_before[index]),
                "actions": np.array(self._actions[index]),
            }
            for index in range(self._count)
        ]

    def set_state(self, states: Sequence[dict[str, Any]]) -> Array:
        """Replay every environment's episode up to its state; return observations (N, …).

        Raises:
            ValueError: the states belong to another environment.
        """
        # EnvPool checks the first actions only, and reads past the end of shorter ones.
        space = self.action_space
        logs = [state["actions"].astype(space.dtype) for state in states]
        fits = all(not len(log) or log.shape[1:] == (space.shape or ()) for log in logs)
        if not fits or len(states) != self._count:
            raise ValueError("its actions belong to another environment")
        self._make_pool([state["seed"] for state in states])
        resets, before = (np.array([state[k] for state in states]) for k in ("resets", "before"))
        self._advance_generators(resets - 1, before)
        obs = np.array(self._pool.reset()[0])
        for step in range(max(map(len, logs))):
            active = np.array([index for index, log in enumerate(logs) if len(log) > step])
            actions = np.stack([logs[index][step] for index in active])
            obs[active] = self._pool.step(actions, active.astype(np.int32))[0]
        self._resets, self._steps_before = resets, before
        self._actions = [list(log) for log in logs]
        return obs

    def get_attr(self, name: str) -> list[Any]:
        """Return an attribute of every environment; only `render_mode` is supported."""
        if name != "render_mode":
            raise AttributeError(f"unsupported attribute of EnvPool's environments: {name}")
        return [None] * self._count

    def close(self) -> None:
        """Release the pool and its threads."""
        self._pool = None

    def _make_pool(self, seeds: list[int]) -> None:
        import envpool  # takes a second; pools must not be made before a process forks

        # At the last allowed step EnvPool reports an episode that ends by itself as truncated only;
        # gymnasium reports both. So truncation is decided here, and the pool's limit never reached.
        self._pool = envpool.make_gymnasium(
            self._id,
            num_envs=self._count,
            seed=seeds,
            num_threads=1,
            max_episode_steps=self._max_steps + 1,
        )
        self._dtype = self._pool.spec.action_array_spec["action"].dtype
        self._seeds = seeds
        self._resets, self._steps_before = np.zeros((2, self._count), np.int64)
        self._actions = [[] for _ in seeds]

    def _restart(self, ended: npt.NDArray[np.intp]) -> Array:
        self._resets[ended] += 1
        for index in ended:
            self._steps_before[index] += len(self._actions[index])
            self._actions[index] = []
        return np.asarray(self._pool.reset(ended.astype(np.int32))[0])

    def _advance_generators(
        self, resets: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]
    ) -> None:
        """Advance new generators by numbers of resets and steps (N,)."""
        if self._id.startswith("LunarLander"):
            resets, steps = _discard_draws(resets, steps)
        else:
            steps = np.zeros_like(steps)
        idle = np.zeros((self._count, *self.action_space.shape), self.action_space.dtype)
        for episode in range(int(resets.max(initial=0))):
            active = np.flatnonzero(resets > episode).astype(np.int32)
            self._pool.reset(active)
            for step in range(_FALL_STEPS):
                falling = active[steps[active] > episode * _FALL_STEPS + step]
                if not len(falling):
                    break
                self._pool.step(idle[falling], falling)


def _discard_draws(
    resets: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return numbers of resets and idle steps in the air that draw as many numbers as these."""
    draws = _DRAWS_PER_RESET * resets + _DRAWS_PER_STEP * steps
    fewer = -(-draws // (_DRAWS_PER_RESET + _DRAWS_PER_STEP * _FALL_STEPS))
    fewer += (fewer - resets) % 2  # the remaining draws must be whole steps
    return fewer, (draws - _DRAWS_PER_RESET * fewer) // _DRAWS_PER_STEP
