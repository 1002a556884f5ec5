"""Distances between rewards that are known to be 0, 1 or undefined."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from shaperun.check.behaviors import Behavior, record_behaviors
from shaperun.check.distances import Distances, reward_distances
from shaperun.check.ranking import behavior_returns
from shaperun.envs.base import Transition
from shaperun.envs.memory import Recall
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.environment import EnvironmentConfig

GAMMA = 0.99


def environment(env_id: str) -> EnvironmentConfig:
    return EnvironmentConfig(id=env_id, options={"max_episode_steps": 200})


@cache
def behaviors(env_id: str) -> tuple[Behavior, ...]:
    return tuple(record_behaviors(environment(env_id), 3))


def measure(env_id: str, **arms: RewardConfig) -> Distances:
    described = environment(env_id).describe()
    kernels = {name: RewardKernel(described, config, GAMMA) for name, config in arms.items()}
    shaped = {
        name: np.concatenate(
            [p.rewards.shaped for p in behavior_returns(kernel, behaviors(env_id), GAMMA)]
        )
        for name, kernel in kernels.items()
    }
    return reward_distances(described, kernels, behaviors(env_id), shaped, GAMMA)


def arm(mode: Any, scale: float = 1.0, **weights: float) -> RewardConfig:
    return RewardConfig(mode=mode, weights=weights, scale=scale)


def test_equivalent_rewards_have_distance_zero() -> None:
    result = measure(
        "LunarLander-v3",
        plain=arm("log"),
        same=arm("replace", environment=3.0),
        opposite=arm("replace", environment=-1.0),
        potential=arm("potential", distance=100.0, legs=10.0),
        other=arm("replace", distance=1.0),
    )
    assert result.names == ["environment", "same", "opposite", "potential", "other"]
    for matrix in (result.pearson, result.epic):
        assert matrix == pytest.approx(matrix.T)
        assert (np.diag(matrix) == 0).all()
        assert ((matrix >= 0) & (matrix <= 1)).all()
        assert matrix[0, 1] == pytest.approx(0, abs=1e-6)
        assert matrix[0, 2] == pytest.approx(1, abs=1e-6)
        assert 0.05 < matrix[0, 4] < 0.95
    assert result.epic[0, 3] == pytest.approx(0, abs=1e-6)
    assert result.pearson[0, 3] > 0.3


def test_the_triangle_inequality() -> None:
    weights = ({"distance": 1.0}, {"velocity": 1.0}, {"angle": 1.0, "legs": 1.0})
    arms = {f"arm{i}": arm("replace", **w) for i, w in enumerate(weights)}
    result = measure("LunarLander-v3", **arms)
    for matrix in (result.pearson, result.epic):
        for a, b, c in np.ndindex(4, 4, 4):
            assert matrix[a, c] <= matrix[a, b] + matrix[b, c] + 1e-9


def test_constant_reward_has_no_distance() -> None:
    result = measure("CartPole-v1", upright=arm("replace", upright=1.0))
    assert np.isnan(result.pearson[0, 1])  # CartPole pays 1 on every step


def test_epic_is_undefined_without_a_declared_reward() -> None:
    far = RewardConfig(mode="add", weights={"far": 1.0}, terms={"far": "obs[0]"})
    alone = far.model_copy(update={"mode": "replace"})
    twice = alone.model_copy(update={"scale": 2.0})
    result = measure("CliffWalking-v1", far=far, alone=alone, twice=twice)
    assert np.isnan(result.epic[0]).all()
    assert np.isnan(result.epic[1]).all()
    assert result.epic[2, 3] == pytest.approx(0, abs=1e-6)
    assert result.pearson[0, 1] > 0
    assert "EPIC is missing for rewards that include the environment's" in result.note


def total_x(transition: Transition, memory: Recall) -> Any:
    return memory.total("x", transition.next_obs[:, 0])


@pytest.mark.parametrize("definition", ["highest(x)", 'info.get("lap", 0) + x', total_x])
def test_epic_is_undefined_for_terms_beyond_the_transition(definition: Any) -> None:
    own = RewardConfig(mode="replace", terms={"own": definition}, weights={"own": 1.0})
    distances = measure("LunarLander-v3", own=own, distance=arm("replace", distance=1))
    column = distances.names.index("own")
    assert np.isnan(np.delete(distances.epic[column], column)).all()
    assert np.isfinite(distances.pearson).all()
    other = distances.names.index("distance")
    assert np.isfinite(distances.epic[other, 0])
