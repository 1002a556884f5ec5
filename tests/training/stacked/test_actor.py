from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.preprocessing import preprocess_obs

from shaperun.training.stacked.actor import draw_noise, extract_features
from shaperun.training.stacked.policy import StackedPolicy
from tests.helpers.lockstep import ENVIRONMENTS, build_learner

torch.set_num_threads(1)
NETWORK = {"net_arch": {"pi": [9], "vf": [33, 5]}, "activation_fn": "gelu"}


def rollout_states(model: PPO) -> Any:
    """Return the observations of a rollout (B, …)."""
    obs = model.rollout_buffer.observations
    return obs.reshape(-1, *(model.observation_space.shape or ()))


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
@pytest.mark.parametrize("policy_kwargs", [{}, NETWORK], ids=["default", "other"])
def test_most_likely_actions_match_each_policy(
    environment: str, policy_kwargs: dict[str, Any]
) -> None:
    models = [build_learner(environment, seed, policy_kwargs=policy_kwargs) for seed in (1, 2, 3)]
    obs = np.stack([rollout_states(model) for model in models])
    actions = StackedPolicy([model.policy for model in models]).build_actor().act(obs)
    for run, model in enumerate(models):
        expected, _ = model.predict(obs[run], deterministic=True)
        assert actions[run].shape == expected.shape
        assert actions[run] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
def test_samples_follow_the_distribution_of_the_policy(environment: str) -> None:
    """Compare the mean of −log p over samples with the entropy."""
    model = build_learner(environment, 1, learning_rate=0.05)
    np.random.seed(1)
    model.train()  # away from uniform probabilities
    stacked = StackedPolicy([model.policy])
    actor, count = stacked.build_actor(), 20_000
    features = np.repeat(actor.extract_features(rollout_states(model)[None, :1]), count, axis=1)
    noise = draw_noise(
        model.action_space,
        stacked.rows.dtype,
        (1, count, stacked.outputs),
        torch.Generator().manual_seed(0),
    )
    actions = torch.from_numpy(actor.compute_actions(features, noise))
    distribution = stacked.forward(torch.from_numpy(features)).distribution
    surprise = -distribution.log_prob(actions)[0]
    entropy = float(distribution.entropy()[0, 0])
    spread = float(surprise.std()) / count**0.5
    assert abs(float(surprise.mean()) - entropy) < 4 * spread + 1e-5


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
def test_samples_do_not_depend_on_other_runs(environment: str) -> None:
    models = [build_learner(environment, seed) for seed in range(5)]
    alone = [sample_to_bytes([models[run]], [run])[0] for run in range(5)]
    for chosen in ([0, 1, 2, 3, 4], [4, 2], [3, 1, 0]):
        together = sample_to_bytes([models[run] for run in chosen], chosen)
        assert together == [alone[run] for run in chosen]
    assert len(set(alone)) == 5


def sample_to_bytes(models: list[PPO], seeds: list[int]) -> list[bytes]:
    """Return the sampled actions of each run in the states of its rollout."""
    stacked = StackedPolicy([model.policy for model in models])
    actor = stacked.build_actor()
    obs = np.stack([rollout_states(model) for model in models])
    space, shape = models[0].action_space, (obs.shape[1], stacked.outputs)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = np.stack([draw_noise(space, stacked.rows.dtype, shape, g) for g in generators])
    actions = actor.compute_actions(actor.extract_features(obs), noise)
    return [run.tobytes() for run in actions]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 3), np.float64),
        spaces.Box(0, 255, (4, 4, 1), np.uint8),
        spaces.Discrete(5),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
    ],
    ids=str,
)
def test_features_match_stable_baselines3(space: spaces.Space[Any]) -> None:
    space.seed(0)
    obs = np.array([[space.sample() for _ in range(4)] for _ in range(2)])
    for run, features in enumerate(extract_features(obs, space)):
        expected = preprocess_obs(torch.from_numpy(obs[run]), space)
        assert isinstance(expected, torch.Tensor)
        assert np.array_equal(features.astype(np.float32), expected.flatten(1).numpy())


def test_continuous_actions_are_clipped_to_their_bounds() -> None:
    actor = StackedPolicy([build_learner("several", 1).policy]).build_actor()
    beyond = np.array([[[-9.0, 0.5, 9.0]]])
    assert actor.to_environment(beyond).tolist() == [[[-2.0, 0.5, 2.0]]]


def test_a_diverged_policy_raises_no_warnings() -> None:
    models = [build_learner("discrete", seed) for seed in (1, 2)]
    stacked = StackedPolicy([model.policy for model in models])
    obs = np.stack([rollout_states(model) for model in models])
    before = stacked.build_actor().act(obs)
    stacked.rows[0] = torch.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = stacked.build_actor().act(obs)
    assert np.array_equal(before[1], after[1])
