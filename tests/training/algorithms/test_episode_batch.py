from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.training.algorithms.episode_batch import Array, EpisodeBatch

rewards = st.lists(
    st.lists(st.floats(-100, 100), min_size=1, max_size=12).map(np.array), min_size=1, max_size=5
)


def batch(episodes: list[Array]) -> EpisodeBatch:
    """Episodes whose observations and actions say where they are from."""
    longest = max(map(len, episodes))
    where = np.array([[[e, t] for e in range(len(episodes))] for t in range(longest)], np.float32)
    return EpisodeBatch.from_episodes(where, where[..., 0].astype(np.int64), episodes)


@settings(deadline=None)
@given(rewards, st.floats(0.01, 1))
def test_a_return_is_what_is_paid_from_a_step_on(episodes: list[Array], gamma: float) -> None:
    found = batch(episodes).returns_to_go(gamma)
    for row, episode in zip(found, episodes, strict=True):
        for step in range(len(row)):
            later = episode[step:]
            expected = sum(reward * gamma**k for k, reward in enumerate(later))
            assert row[step] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(rewards)
def test_steps_stand_episode_by_episode(episodes: list[Array]) -> None:
    made = batch(episodes)
    where = [[e, t] for e, episode in enumerate(episodes) for t in range(len(episode))]
    assert made.obs.tolist() == where
    assert made.actions.tolist() == [episode for episode, _ in where]
    values = np.array([[100 * e + t for t in range(20)] for e in range(len(episodes))], float)
    picked = made.gather_steps(values[:, : made.rewards.shape[1]])
    assert picked.tolist() == [100 * e + t for e, t in where]
