from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shaperun.rewards.kernel import RewardError
from shaperun.study.models import RunConfig, parse_study
from shaperun.training.algorithms.episode_batch import EpisodeBatch
from shaperun.training.episode_recorder import Row
from shaperun.training.episodic_envs import EpisodicEnvs
from shaperun.training.vector_env import ReplayMismatchError

MANY_STEPS = 100_000


def make_config(
    reward: dict[str, Any] | None = None, algorithm: str = "GRPO", **hyperparameters: Any
) -> RunConfig:
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": "CartPole-v1"},
            "training": {
                "algorithm": algorithm,
                "total_timesteps": 1000,
                "n_envs": 6,
                "hyperparameters": {"group_size": 3, "gamma": 0.9, **hyperparameters},
            },
            "arms": {"arm": reward or {}},
        }
    )
    return study.run_config(study.arms["arm"], 0)


def make_envs(run: RunConfig, rows: list[Row] | None = None) -> EpisodicEnvs:
    return EpisodicEnvs(run, [2**62 + 5] * 6, (rows if rows is not None else []).append)


def random_policy(seed: int) -> Any:
    rng = np.random.default_rng(seed)

    def act(obs: Any, playing: list[int]) -> Any:
        return rng.integers(0, 2, len(obs))

    return act


class ObservingPolicy:
    """A random policy that stores its observations."""

    def __init__(self) -> None:
        self.obs: list[Any] = []
        self._act = random_policy(1)

    def __call__(self, obs: Any, playing: list[int]) -> Any:
        self.obs.append(obs)
        return self._act(obs, playing)


def test_only_episodes_of_a_group_begin_in_the_same_state() -> None:
    seen, later = ObservingPolicy(), ObservingPolicy()
    played = make_envs(make_config())
    played.play_episodes(seen, MANY_STEPS)
    played.play_episodes(later, MANY_STEPS)
    starts = [tuple(row) for first in (seen.obs[0], later.obs[0]) for row in first]
    assert [starts.count(start) for start in starts] == [3] * 12
    alone = ObservingPolicy()
    make_envs(make_config(algorithm="REINFORCE")).play_episodes(alone, MANY_STEPS)
    assert len({tuple(row) for row in alone.obs[0]}) == 6


def test_every_step_is_shaped_and_recorded() -> None:
    rows: list[Row] = []
    reward = {"mode": "add", "weights": {"upright": 2}}
    played = make_envs(make_config(reward), rows)
    rewards = played.play_episodes(random_policy(0), MANY_STEPS)
    assert rewards is not None
    assert [row["copy"] for row in rows] == list(range(6))
    assert [row["length"] for row in rows] == [len(episode) for episode in rewards]
    assert [row["timesteps"] for row in rows] == np.cumsum([len(e) for e in rewards]).tolist()
    assert [row["shaped_return"] for row in rows] == pytest.approx([e.sum() for e in rewards])
    played.recorder.check()


def test_a_schedule_continues_across_episodes() -> None:
    rows: list[Row] = []
    schedule = {"kind": "linear", "to": 0.0}
    played = make_envs(
        make_config({"mode": "add", "weights": {"upright": 1}, "schedule": schedule}), rows
    )
    for _ in range(2):
        assert played.play_episodes(random_policy(0), MANY_STEPS)
    for row in rows:
        start = float(str(row["timesteps"])) - float(str(row["length"]))
        middle = (start + float(str(row["timesteps"])) - 1) / 2
        assert row["schedule"] == pytest.approx(max(0.0, 1 - middle / 1000), abs=2e-3)


def test_potential_based_shaping_shifts_the_returns_of_a_group_equally() -> None:
    """With the same γ it subtracts Φ(s₀), which leaves the advantages of GRPO unchanged."""
    returns = []
    for reward in ({}, {"mode": "potential", "weights": {"upright": 5, "centred": 2}}):
        rewards = make_envs(make_config(reward)).play_episodes(random_policy(0), MANY_STEPS)
        assert rewards is not None
        longest = max(map(len, rewards))
        batch = EpisodeBatch.from_episodes(
            np.zeros((longest, 6, 1)), np.zeros((longest, 6)), rewards
        )
        returns.append(batch.returns_to_go(0.9)[:, 0])
    shifts = (returns[1] - returns[0]).reshape(2, 3)
    assert np.abs(shifts).min() > 0.1
    assert shifts == pytest.approx(np.repeat(shifts[:, :1], 3, axis=1), abs=1e-9)


def test_episodes_beyond_the_limit_are_not_recorded() -> None:
    rows: list[Row] = []
    played = make_envs(make_config(), rows)
    assert played.play_episodes(random_policy(0), 30) is None
    assert not rows
    assert played.recorder.timesteps == 0
    assert played.play_episodes(random_policy(0), MANY_STEPS)


def test_restored_environments_continue_exactly() -> None:
    whole = make_envs(make_config())
    whole.play_episodes(random_policy(0), MANY_STEPS)
    state = whole.get_state()
    expected = whole.play_episodes(random_policy(1), MANY_STEPS)
    restored = make_envs(make_config())
    restored.set_state(state)
    rewards = restored.play_episodes(random_policy(1), MANY_STEPS)
    assert rewards is not None
    assert expected is not None
    for one, other in zip(rewards, expected, strict=True):
        assert np.array_equal(one, other)
    assert restored.recorder.timesteps == whole.recorder.timesteps
    with pytest.raises(ReplayMismatchError, match="another state"):
        make_envs(make_config()).set_state(state | {"obs": state["obs"] + 1})


def test_an_infinite_reward_is_located() -> None:
    reward = {"mode": "add", "terms": {"gone": "log(0.02 - x)"}, "weights": {"gone": 1}}
    with pytest.raises(RewardError, match=r"episode \d+, step \d+"):
        make_envs(make_config(reward)).play_episodes(random_policy(0), MANY_STEPS)
