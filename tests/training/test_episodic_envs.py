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

PLENTY = 100_000


def config(
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


def envs(run: RunConfig, rows: list[Row] | None = None) -> EpisodicEnvs:
    return EpisodicEnvs(run, [2**62 + 5] * 6, (rows if rows is not None else []).append)


def at_random(seed: int) -> Any:
    luck = np.random.default_rng(seed)

    def act(obs: Any, playing: list[int]) -> Any:
        return luck.integers(0, 2, len(obs))

    return act


class Seen:
    """Acts at random and keeps what it saw."""

    def __init__(self) -> None:
        self.obs: list[Any] = []
        self._act = at_random(1)

    def __call__(self, obs: Any, playing: list[int]) -> Any:
        self.obs.append(obs)
        return self._act(obs, playing)


def test_a_group_begins_alike_and_no_other_does() -> None:
    seen, later = Seen(), Seen()
    played = envs(config())
    played.play_episodes(seen, PLENTY)
    played.play_episodes(later, PLENTY)
    starts = [tuple(row) for first in (seen.obs[0], later.obs[0]) for row in first]
    assert [starts.count(start) for start in starts] == [3] * 12
    alone = Seen()
    envs(config(algorithm="REINFORCE")).play_episodes(alone, PLENTY)
    assert len({tuple(row) for row in alone.obs[0]}) == 6


def test_every_step_is_shaped_and_recorded() -> None:
    rows: list[Row] = []
    reward = {"mode": "add", "weights": {"upright": 2}}
    played = envs(config(reward), rows)
    rewards = played.play_episodes(at_random(0), PLENTY)
    assert rewards is not None
    assert [row["copy"] for row in rows] == list(range(6))
    assert [row["length"] for row in rows] == [len(episode) for episode in rewards]
    assert [row["timesteps"] for row in rows] == np.cumsum([len(e) for e in rewards]).tolist()
    assert [row["shaped_return"] for row in rows] == pytest.approx([e.sum() for e in rewards])
    played.recorder.check()


def test_a_schedule_goes_on_from_episode_to_episode() -> None:
    rows: list[Row] = []
    schedule = {"kind": "linear", "to": 0.0}
    played = envs(config({"mode": "add", "weights": {"upright": 1}, "schedule": schedule}), rows)
    for _ in range(2):
        assert played.play_episodes(at_random(0), PLENTY)
    for row in rows:
        begun = float(str(row["timesteps"])) - float(str(row["length"]))
        middle = (begun + float(str(row["timesteps"])) - 1) / 2
        assert row["schedule"] == pytest.approx(max(0.0, 1 - middle / 1000), abs=2e-3)


def test_potential_based_shaping_takes_what_a_group_has_in_common() -> None:
    """Of a return with the same γ it takes Φ(s₀): for GRPO it is as if it were not there."""
    returns = []
    for reward in ({}, {"mode": "potential", "weights": {"upright": 5, "centred": 2}}):
        rewards = envs(config(reward)).play_episodes(at_random(0), PLENTY)
        assert rewards is not None
        longest = max(map(len, rewards))
        batch = EpisodeBatch.from_episodes(
            np.zeros((longest, 6, 1)), np.zeros((longest, 6)), rewards
        )
        returns.append(batch.returns_to_go(0.9)[:, 0])
    taken = (returns[1] - returns[0]).reshape(2, 3)
    assert np.abs(taken).min() > 0.1
    assert taken == pytest.approx(np.repeat(taken[:, :1], 3, axis=1), abs=1e-9)


def test_what_does_not_fit_is_not_recorded() -> None:
    rows: list[Row] = []
    played = envs(config(), rows)
    assert played.play_episodes(at_random(0), 30) is None
    assert not rows
    assert played.recorder.timesteps == 0
    assert played.play_episodes(at_random(0), PLENTY)


def test_it_goes_on_as_it_would_have() -> None:
    whole = envs(config())
    whole.play_episodes(at_random(0), PLENTY)
    memory = whole.get_state()
    expected = whole.play_episodes(at_random(1), PLENTY)
    again = envs(config())
    again.set_state(memory)
    found = again.play_episodes(at_random(1), PLENTY)
    assert found is not None
    assert expected is not None
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
    assert again.recorder.timesteps == whole.recorder.timesteps
    elsewhere = envs(config())
    with pytest.raises(ReplayMismatchError, match="another state"):
        elsewhere.set_state(memory | {"obs": memory["obs"] + 1})


def test_a_reward_that_is_not_finite_says_where() -> None:
    reward = {"mode": "add", "terms": {"gone": "log(0.02 - x)"}, "weights": {"gone": 1}}
    with pytest.raises(RewardError, match=r"episode \d+, step \d+"):
        envs(config(reward)).play_episodes(at_random(0), PLENTY)
