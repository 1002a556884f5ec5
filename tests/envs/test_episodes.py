"""Whole episodes: held-out seeds, and the transitions and outcome of an episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces

from shaperun.envs.base import Environment, Transition
from shaperun.envs.builtin import environments
from shaperun.envs.episodes import Episode, concatenate_episodes, held_out_seeds, play_episode
from shaperun.envs.spaces import from_spaces

DISCRETE, THROTTLES = spaces.Discrete(3), spaces.Box(-1, 1, (2,), dtype=np.float32)
PICTURE = spaces.Box(0, 255, (2, 3), dtype=np.uint8)
NUMBER = spaces.Discrete(500)


class Walk(gym.Env[Any, Any]):
    """An environment that ends after a number of steps and records everything."""

    def __init__(
        self,
        length: int,
        *,
        observation_space: spaces.Space[Any] = PICTURE,
        terminated: bool = True,
        truncated: bool = False,
    ) -> None:
        self.observation_space, self.action_space = observation_space, DISCRETE
        self.length, self.ends = length, (terminated, truncated)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.seeds = [*getattr(self, "seeds", []), seed]
        self.states, self.actions = [self.observation_space.sample()], list[Any]()
        return self.states[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.states.append(self.observation_space.sample())
        self.actions.append(action)
        over = len(self.actions) == self.length
        reward = np.float32(len(self.actions) / 4)  # as in many environments, not a Python float
        terminated, truncated = self.ends
        return self.states[-1], reward, over and terminated, over and truncated, {}


def known(env: Walk) -> Environment:
    return from_spaces("Walk-v0", env.observation_space, DISCRETE)


def counting() -> Callable[[Any], int]:
    """Return a policy that takes the actions 0, 1, 2, 0, …"""
    actions: list[int] = []

    def act(obs: Any) -> int:
        actions.append(len(actions) % 3)
        return actions[-1]

    return act


def random(seed: int) -> Callable[[Any], npt.NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return lambda obs: generator.uniform(-1, 1, 2).astype(np.float32)


def assert_consistent(t: Transition) -> None:
    """Check that steps are consecutive and that only the last one ends the episode."""
    assert t.obs.dtype == t.next_obs.dtype in (np.float64, np.uint8)
    assert t.env_reward.dtype == np.float64
    assert t.obs[1:].tolist() == t.next_obs[:-1].tolist()
    assert t.last_action[0].tolist() == t.action[0].tolist()
    assert t.last_action[1:].tolist() == t.action[:-1].tolist()
    assert t.ended.tolist() == [False] * (len(t) - 1) + [True]
    sizes = {len(getattr(t, name)) for name in Transition.__dataclass_fields__}
    assert sizes == {len(t)}


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("space", [PICTURE, NUMBER], ids=["picture", "number"])
def test_episode_contains_every_step(length: int, space: spaces.Space[Any]) -> None:
    env = Walk(length, observation_space=space)
    seen: list[Any] = []

    def act(obs: Any) -> int:
        seen.append(obs)
        return (len(seen) - 1) % 3

    episode = play_episode(env, known(env), act, seed=11)
    t = episode.transition
    assert len(episode) == len(t) == length
    assert_consistent(t)
    flat = [np.ravel(state).astype(float).tolist() for state in env.states]
    assert t.obs.tolist() == flat[:-1]
    assert t.next_obs.tolist() == flat[1:]
    assert t.action.tolist() == env.actions == [step % 3 for step in range(length)]
    assert t.env_reward.tolist() == [(step + 1) / 4 for step in range(length)]
    assert env.seeds == [11]
    for obs, state in zip(seen, env.states, strict=False):
        assert obs is state  # the policy sees what the environment returned
    assert len(seen) == length


@pytest.mark.parametrize(
    ("terminated", "truncated", "outcome"),
    [
        (True, False, "terminated"),
        (False, True, "truncated"),
        (True, True, "terminated"),
    ],
)
def test_outcome_depends_on_termination(terminated: bool, truncated: bool, outcome: str) -> None:
    env = Walk(4, terminated=terminated, truncated=truncated)
    episode = play_episode(env, known(env), counting(), seed=0)
    assert episode.outcome == outcome
    assert type(episode.outcome) is str
    assert episode.transition.terminated.tolist() == [False] * 3 + [terminated]
    assert episode.transition.truncated.tolist() == [False] * 3 + [truncated]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "LunarLanderContinuous-v3"])
def test_episode_of_a_real_environment(env_id: str) -> None:
    environment = environments()[env_id]
    env = gym.make(env_id)
    env.action_space.seed(5)
    episode = play_episode(env, environment, lambda obs: env.action_space.sample(), seed=5)
    assert_consistent(episode.transition)
    assert episode.transition.obs.shape == (len(episode), environment.observation_size)
    size = () if environment.action_size is None else (environment.action_size,)
    assert episode.transition.action.shape == (len(episode), *size)
    assert episode.outcome in environment.outcomes
    ended = environment.built_in[episode.outcome](episode.transition)
    assert ended.tolist() == [0.0] * (len(episode) - 1) + [1.0]
    first, _ = env.reset(seed=5)
    assert episode.transition.obs[0].tolist() == first.tolist()
    env.close()


def test_outcome_is_named_by_the_environment() -> None:
    env = gym.make("CartPole-v1", max_episode_steps=3)
    cartpole = environments()["CartPole-v1"]
    assert play_episode(env, cartpole, lambda obs: 0, seed=1).outcome == "balanced"
    env = gym.make("CartPole-v1")
    assert play_episode(env, cartpole, lambda obs: 0, seed=1).outcome == "fell"


def test_seed_determines_the_episode() -> None:
    env = gym.make("LunarLanderContinuous-v3")
    environment = environments()["LunarLanderContinuous-v3"]
    one, again, other = (play_episode(env, environment, random(0), seed=seed) for seed in (3, 3, 4))
    for name in Transition.__dataclass_fields__:
        assert getattr(one.transition, name).tolist() == getattr(again.transition, name).tolist()
    assert one.transition.obs[0].tolist() != other.transition.obs[0].tolist()


@pytest.mark.parametrize("length", [1, 6])
def test_callback_is_called_for_every_frame(length: int) -> None:
    env = Walk(length)
    calls: list[tuple[float, int]] = []

    def on_step(reward: float) -> None:
        calls.append((reward, len(env.actions)))

    play_episode(env, known(env), counting(), 0, on_step=on_step)
    rewards = [0.0, *((step + 1) / 4 for step in range(length))]
    assert calls == [(reward, step) for step, reward in enumerate(rewards)]
    assert all(type(reward) is float for reward, _ in calls)


@pytest.mark.parametrize("max_steps", [1, 3])
def test_endless_episode_is_truncated(max_steps: int) -> None:
    env = Walk(10**9)
    episode = play_episode(env, known(env), counting(), 0, max_steps=max_steps)
    assert_consistent(episode.transition)
    assert len(episode) == max_steps
    assert episode.outcome == "truncated"
    assert not episode.transition.terminated.any()


def test_episode_within_the_limit_is_unchanged() -> None:
    for max_steps in (5, 6, 100):
        env = Walk(5)
        episode = play_episode(env, known(env), counting(), 0, max_steps=max_steps)
        assert (len(episode), episode.outcome) == (5, "terminated")


def episodes(*lengths: int) -> list[Episode]:
    played = []
    for seed, length in enumerate(lengths):
        env = Walk(length, terminated=bool(seed % 2), truncated=not seed % 2)
        played.append(play_episode(env, known(env), counting(), seed))
    return played


@pytest.mark.parametrize("lengths", [(4,), (1, 1, 1), (3, 1, 5, 2)])
def test_episodes_are_concatenated_in_order(lengths: tuple[int, ...]) -> None:
    played = episodes(*lengths)
    transitions, begins = concatenate_episodes(played)
    assert begins.dtype == np.intp
    assert begins.tolist() == [sum(lengths[:i]) for i in range(len(lengths))]
    assert len(transitions) == sum(lengths)
    for episode, begin in zip(played, begins, strict=True):
        part = transitions.take(np.arange(begin, begin + len(episode)))
        for name in Transition.__dataclass_fields__:
            values, expected = getattr(part, name), getattr(episode.transition, name)
            assert values.tolist() == expected.tolist()
            assert values.dtype == expected.dtype
    assert np.add.reduceat(transitions.env_reward, begins).tolist() == [
        episode.transition.env_reward.sum() for episode in played
    ]


def test_continuous_actions_keep_their_shape() -> None:
    environment = environments()["LunarLanderContinuous-v3"]
    env = gym.make("LunarLanderContinuous-v3", max_episode_steps=4)
    played = [play_episode(env, environment, random(seed), seed) for seed in range(3)]
    transitions, begins = concatenate_episodes(played)
    assert transitions.action.shape == transitions.last_action.shape == (12, 2)
    assert begins.tolist() == [0, 4, 8]
    assert transitions.last_action[begins].tolist() == transitions.action[begins].tolist()


def test_held_out_seeds_never_change() -> None:
    assert held_out_seeds(5) == [4179709664, 51647308, 53082393, 982965811, 2058009003]
    assert held_out_seeds(0) == []
    assert all(type(seed) is int for seed in held_out_seeds(3))
    for count in (1, 7, 40):
        assert held_out_seeds(count) == held_out_seeds(100)[:count]
