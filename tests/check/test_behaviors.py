"""Controllers recorded on held-out starts are repeatable, in every environment."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from shaperun.check.behaviors import (
    MAX_EPISODE_STEPS,
    MAX_STEPS,
    MIN_EPISODES,
    Behavior,
    no_op,
    record_behaviors,
)
from shaperun.envs.builtin import environments
from shaperun.envs.episodes import held_out_seeds
from shaperun.study.environment import EnvironmentConfig


@cache
def recorded(env_id: str, episodes: int = 3) -> dict[str, Behavior]:
    return {b.name: b for b in record_behaviors(EnvironmentConfig(id=env_id), episodes)}


class Endless(gym.Env[Any, Any]):
    """An environment whose episodes never end."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: object = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        super().reset(seed=seed)
        return np.zeros(2), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        return np.full(2, float(action)), 1.0, False, False, {}


@pytest.fixture(scope="module", autouse=True)
def endless() -> None:
    if "Endless-v0" not in gym.registry:
        gym.register("Endless-v0", lambda **_: Endless(), max_episode_steps=10**6)


def test_default_controllers_come_last() -> None:
    names = list(recorded("CartPole-v1"))
    assert names[-2:] == ["do_nothing", "act_randomly"]
    assert names[:-2] == list(environments()["CartPole-v1"].controllers)


def test_all_controllers_have_the_same_starts() -> None:
    starts = [
        [tuple(episode.transition.obs[0]) for episode in behavior.episodes]
        for behavior in recorded("CartPole-v1").values()
    ]
    assert all(start == starts[0] for start in starts)
    assert len(set(starts[0])) == 3
    env = gym.make("CartPole-v1")
    first = env.reset(seed=held_out_seeds(1)[0])[0]
    assert starts[0][0] == tuple(first.astype(float))


def test_recording_is_repeatable() -> None:
    again = {b.name: b for b in record_behaviors(EnvironmentConfig(id="CartPole-v1"), 3)}
    for name, behavior in recorded("CartPole-v1").items():
        assert behavior.transition.obs.tobytes() == again[name].transition.obs.tobytes()
        assert behavior.transition.action.tobytes() == again[name].transition.action.tobytes()


def test_random_actions_differ_between_episodes() -> None:
    episodes = recorded("CartPole-v1", 5)["act_randomly"].episodes
    assert len({tuple(e.transition.action[:8].tolist()) for e in episodes}) > 1


def test_sums_per_episode() -> None:
    behavior = recorded("CartPole-v1")["act_randomly"]
    steps = np.arange(len(behavior.transition), dtype=float)
    sums = behavior.sum_per_episode(steps, 0.9)
    start = 0
    for number, episode in enumerate(behavior.episodes):
        part = steps[start : start + len(episode)]
        assert sums[number] == pytest.approx((part * 0.9 ** np.arange(len(episode))).sum())
        assert behavior.returns[number] == episode.transition.env_reward.sum()
        start += len(episode)


def test_endless_episodes_are_truncated() -> None:
    behavior = recorded("Endless-v0", 20)["repeat_action_0"]
    assert {len(episode) for episode in behavior.episodes} == {MAX_EPISODE_STEPS}
    assert behavior.outcomes == {"truncated": len(behavior.episodes)}
    assert len(behavior.episodes) == max(MIN_EPISODES, MAX_STEPS // MAX_EPISODE_STEPS + 1)


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (gym.spaces.Discrete(3), 0),
        (gym.spaces.Box(-1, 1, (2,)), [0, 0]),
        (gym.spaces.Box(2, 5, (2,)), [2, 2]),
        (gym.spaces.MultiDiscrete([2, 3]), [0, 0]),
        (gym.spaces.MultiBinary(2), [0, 0]),
    ],
)
def test_no_op_is_a_valid_action(space: gym.Space[Any], action: Any) -> None:
    assert np.array_equal(no_op(space), action)
    assert space.contains(no_op(space))
