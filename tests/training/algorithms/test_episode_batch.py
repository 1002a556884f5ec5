from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.training.algorithms.episode_batch import Array, EpisodeBatch

rewards = st.lists(
    st.lists(st.floats(-100, 100), min_size=1, max_size=12).map(np.array), min_size=1, max_size=5
)


def make_batch(episodes: list[Array]) -> EpisodeBatch:
    """Make episodes whose observations are (episode, step), and actions the episode."""
    longest = max(map(len, episodes))
    indices = np.array([[[e, t] for e in range(len(episodes))] for t in range(longest)], np.float32)
    return EpisodeBatch.from_episodes(indices, indices[..., 0].astype(np.int64), episodes)


@settings(deadline=None)
@given(rewards, st.floats(0.01, 1))
def test_returns_are_discounted_sums_of_later_rewards(episodes: list[Array], gamma: float) -> None:
    returns = make_batch(episodes).returns_to_go(gamma)
    for row, episode in zip(returns, episodes, strict=True):
        for step in range(len(row)):
            later = episode[step:]
            expected = sum(reward * gamma**k for k, reward in enumerate(later))
            assert row[step] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(rewards)
def test_steps_are_ordered_by_episode(episodes: list[Array]) -> None:
    batch = make_batch(episodes)
    indices = [[e, t] for e, episode in enumerate(episodes) for t in range(len(episode))]
    assert batch.obs.tolist() == indices
    assert batch.actions.tolist() == [episode for episode, _ in indices]
    values = np.array([[100 * e + t for t in range(20)] for e in range(len(episodes))], float)
    picked = batch.gather_steps(values[:, : batch.rewards.shape[1]])
    assert picked.tolist() == [100 * e + t for e, t in indices]
