"""Whole episodes, one at a time: which ones are held out, and how one is played."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shaperun.envs.base import Environment, Transition

if TYPE_CHECKING:
    import gymnasium as gym

# Any constant will do, as long as it stays: the held-out episodes of all studies come from it.
_ENTROPY = 0x5EED_0F_E7A1


def held_out_seeds(count: int) -> list[int]:
    """Reset seeds of the held-out episodes; fewer episodes are the first of more.

    They are below 2³²; the environments that a policy is trained on are seeded above that.
    """
    words = np.random.SeedSequence(_ENTROPY).generate_state(count, np.uint32)
    return [int(word) for word in words]


@dataclass(frozen=True)
class Episode:
    """One episode of T steps: its transitions (T,) in order, and how it ended."""

    transition: Transition
    outcome: str

    def __len__(self) -> int:
        return len(self.transition)


def play_episode(
    env: gym.Env[Any, Any],
    environment: Environment,
    act: Callable[[Any], Any],
    seed: int,
    *,
    on_step: Callable[[float], None] | None = None,
    max_steps: float = float("inf"),
) -> Episode:
    """Play one episode to its end.

    Args:
        env: the environment, unshaped.
        environment: what is known about it.
        act: the policy, from an observation as the environment returns it to an action.
        seed: what the environment is reset with.
        watch: is called after the reset and after every step with the step's reward.
        most: the episode is cut off after so many steps; not every environment ends by itself.
    """
    obs, _ = env.reset(seed=seed)
    if on_step:
        on_step(0.0)
    # Copies: an environment or a policy may hand out the same array again and again.
    states, actions, env_rewards, over = [np.array(obs)], [], [], False
    terminated = truncated = False
    while not over:
        action = act(obs)
        obs, reward, terminated, truncated, _ = env.step(action)
        states.append(np.array(obs))
        actions.append(np.array(action))
        env_rewards.append(float(reward))
        truncated = truncated or len(actions) >= max_steps
        over = terminated or truncated
        if on_step:
            on_step(float(reward))
    transition = episode_transitions(states, actions, env_rewards, terminated, truncated)
    end = transition.take(np.array([-1]))
    return Episode(transition, str(environment.outcome(end)[0]))


@dataclass
class EpisodeBuilder:
    """An episode of an environment whose policy plays several: states are one more than steps."""

    env: gym.Env[Any, Any]
    number: int
    seed: int
    states: list[npt.NDArray[Any]]
    actions: list[Any] = field(default_factory=list)
    env_rewards: list[float] = field(default_factory=list)
    ended: tuple[bool, bool] = (False, False)  # terminated, truncated

    @classmethod
    def begin(cls, env: gym.Env[Any, Any], number: int, seed: int) -> EpisodeBuilder:
        """Reset the environment."""
        obs, _ = env.reset(seed=seed)
        return cls(env, number, seed, [np.array(obs)])

    def step(self, action: Any) -> bool:
        """Go on; whether the episode is over."""
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self.states.append(np.array(obs))  # an environment may hand out the same array every time
        self.actions.append(action)
        self.env_rewards.append(float(reward))
        self.ended = terminated, truncated
        return terminated or truncated

    def transitions(self) -> Transition:
        """Its steps so far (T,)."""
        return episode_transitions(self.states, self.actions, self.env_rewards, *self.ended)


def episode_transitions(
    states: Sequence[Any],
    actions: Sequence[Any],
    env_rewards: Sequence[float],
    terminated: bool,
    truncated: bool,
) -> Transition:
    """An episode of T steps as transitions (T,).

    Args:
        states: observations as the environment returned them, one more than steps.
        actions: one a step.
        env_rewards: one a step.
        terminated: whether it ended so.
        truncated: whether it was cut off.
    """
    from shaperun.envs.base import flatten_rows

    all_states, all_actions = flatten_rows(states), np.array(actions)
    last = np.arange(len(actions)) == len(actions) - 1
    return Transition(
        obs=all_states[:-1],
        action=all_actions,
        next_obs=all_states[1:],
        env_reward=np.array(env_rewards),
        terminated=last & terminated,
        truncated=last & truncated,
        last_action=np.concatenate([all_actions[:1], all_actions[:-1]]),
    )


def concatenate_episodes(episodes: list[Episode]) -> tuple[Transition, npt.NDArray[np.intp]]:
    """The transitions of several episodes one after the other, and where each episode begins."""
    together = Transition.concatenate([episode.transition for episode in episodes])
    lengths = np.array([len(episode) for episode in episodes])
    return together, np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.intp)
