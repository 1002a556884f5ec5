"""N copies of an environment as EnvPool simulates them in C++, behind the interface of `Copies`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shaperun.study.environment import EnvironmentConfig
from shaperun.training.vector_env import Array, Step

_SEEDS = 2**31  # EnvPool takes 32 bits, signed

# What a lander draws from its generator, at a reset and at every step, whatever it does. All other
# environments draw at resets alone. Counted in EnvPool 1.2.5; `set_state` finds out if it changes.
_PER_RESET, _PER_STEP = 22, 4
_TERMINAL_FALL = 40  # steps that a lander which does nothing stays in the air for, at least


class EnvPoolVectorEnv:
    """A pool of N copies; one that is done restarts in the same step.

    Its generators can be neither read nor set. But an episode is determined by how often its copy
    was reset and (of a lander) stepped before, and by its actions; so it can be brought back.
    """

    def __init__(self, env_id: str, count: int, limit: int, spaces: Any) -> None:
        self._id, self._count, self._limit = env_id, count, limit
        self._ids = np.arange(count, dtype=np.int32)
        self.observation_space, self.action_space = spaces
        self._pool: Any
        self._seeds: list[int] = []
        self._resets, self._before = np.zeros((2, count), np.int64)  # steps of ended episodes
        self._actions: list[list[Any]] = [[] for _ in range(count)]

    @classmethod
    def from_config(cls, environment: EnvironmentConfig, count: int) -> EnvPoolVectorEnv:
        """So many copies of a study's environment."""
        env = environment.make()  # EnvPool's own spaces have no bounds, or wrong ones
        spaces = env.observation_space, env.action_space
        assert env.spec is not None  # noqa: S101 (all that EnvPool has are registered)
        limit = env.spec.max_episode_steps
        env.close()
        return cls(environment.id, count, int(limit or 0), spaces)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Start every copy from its seed; first observations (N, …)."""
        self._make([seed % _SEEDS for seed in seeds])
        self._resets += 1
        return np.asarray(self._pool.reset()[0])

    def step(self, actions: Array) -> Step:
        """Step every copy with its action (N, …)."""
        self.send(actions)
        return self.receive()

    def send(self, actions: Array) -> None:
        """Give every copy its action (N, …); the pool steps them while others are given theirs."""
        if actions.shape != (self._count, *(self.action_space.shape or ())):
            raise ValueError(f"actions of the shape {actions.shape}")  # EnvPool would crash
        taken = actions.astype(self.action_space.dtype)
        for actions_of, action in zip(self._actions, taken, strict=True):
            actions_of.append(action)
        # Named, so that the pool need not find out at every step whose they are.
        action = taken.astype(self._dtype)
        self._pool.send({"action": action, "env_id": self._ids, "players.env_id": self._ids})

    def receive(self) -> Step:
        """What they came to."""
        obs, rewards, terminated, _, info = self._pool.recv()
        truncated = info["elapsed_step"] >= self._limit
        ended, last_obs = np.flatnonzero(terminated | truncated), None
        if len(ended):
            last_obs = np.zeros_like(obs)
            last_obs[ended] = obs[ended]
            obs[ended] = self._restart(ended)
        return Step(obs, rewards.astype(np.float64), terminated, truncated, last_obs)

    def get_state(self) -> list[dict[str, Any]]:
        """What every copy needs to go on."""
        return [
            {
                "seed": self._seeds[copy],
                "resets": int(self._resets[copy]),
                "before": int(self._before[copy]),
                "actions": np.array(self._actions[copy]),
            }
            for copy in range(self._count)
        ]

    def set_state(self, memory: Sequence[dict[str, Any]]) -> Array:
        """Play every copy's episode again, up to where it was; observations there (N, …).

        Raises:
            ValueError: the memory is of another environment.
        """
        # EnvPool looks at the first actions only, and reads past the end of any that do not fit.
        space = self.action_space
        played = [copy["actions"].astype(space.dtype) for copy in memory]
        fits = all(not len(some) or some.shape[1:] == (space.shape or ()) for some in played)
        if not fits or len(memory) != self._count:
            raise ValueError("its actions are of another environment")
        self._make([copy["seed"] for copy in memory])
        resets, before = (np.array([copy[key] for copy in memory]) for key in ("resets", "before"))
        self._advance_generators(resets - 1, before)
        obs = np.array(self._pool.reset()[0])
        for step in range(max(map(len, played))):
            which = np.array([c for c, actions in enumerate(played) if len(actions) > step])
            actions = np.stack([played[copy][step] for copy in which])
            obs[which] = self._pool.step(actions, which.astype(np.int32))[0]
        self._resets, self._before = resets, before
        self._actions = [list(actions) for actions in played]
        return obs

    def attribute(self, name: str) -> list[Any]:
        """An attribute of every copy: only that nothing is rendered."""
        if name != "render_mode":
            raise AttributeError(f"the copies of a pool have no {name}")
        return [None] * self._count

    def close(self) -> None:
        """Let go of the pool, and of its threads."""
        self._pool = None

    def _make(self, seeds: list[int]) -> None:
        import envpool  # takes a second; and a pool must not be made before a process forks

        # EnvPool calls an episode truncated that ends by itself with the last step it may have.
        # gymnasium says both; so the limit is kept here, and the pool's own is never reached.
        self._pool = envpool.make_gymnasium(
            self._id,
            num_envs=self._count,
            seed=seeds,
            num_threads=1,
            max_episode_steps=self._limit + 1,
        )
        self._dtype = self._pool.spec.action_array_spec["action"].dtype
        self._seeds = seeds
        self._resets, self._before = np.zeros((2, self._count), np.int64)
        self._actions = [[] for _ in seeds]

    def _restart(self, ended: npt.NDArray[np.intp]) -> Array:
        self._resets[ended] += 1
        for copy in ended:
            self._before[copy] += len(self._actions[copy])
            self._actions[copy] = []
        return np.asarray(self._pool.reset(ended.astype(np.int32))[0])

    def _advance_generators(
        self, resets: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]
    ) -> None:
        """Bring fresh generators to where they were after so many resets and steps (N,) each."""
        if self._id.startswith("LunarLander"):
            resets, steps = _discard_draws(resets, steps)
        else:
            steps = np.zeros_like(steps)
        nothing = np.zeros((self._count, *self.action_space.shape), self.action_space.dtype)
        for number in range(int(resets.max(initial=0))):
            which = np.flatnonzero(resets > number).astype(np.int32)
            self._pool.reset(which)
            for step in range(_TERMINAL_FALL):
                falling = which[steps[which] > number * _TERMINAL_FALL + step]
                if not len(falling):
                    break
                self._pool.step(nothing[falling], falling)


def _discard_draws(
    resets: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Resets and idle steps that draw as much as these did, with no lander on the ground."""
    drawn = _PER_RESET * resets + _PER_STEP * steps
    fewer = -(-drawn // (_PER_RESET + _PER_STEP * _TERMINAL_FALL))
    fewer += (fewer - resets) % 2  # what is left must be whole steps
    return fewer, (drawn - _PER_RESET * fewer) // _PER_STEP
