from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.preprocessing import preprocess_obs

from shaperun.training.stacked.actor import draw_noise, features_of
from shaperun.training.stacked.policy import StackedPolicy
from tests.helpers.lockstep import ENVIRONMENTS, learner

torch.set_num_threads(1)
NETWORK = {"net_arch": {"pi": [9], "vf": [33, 5]}, "activation_fn": "gelu"}


def states(model: PPO) -> Any:
    """What a learner saw in its rollout (B, …)."""
    seen = model.rollout_buffer.observations
    return seen.reshape(-1, *(model.observation_space.shape or ()))


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
@pytest.mark.parametrize("policy_kwargs", [{}, NETWORK], ids=["default", "other"])
def test_the_likeliest_actions_are_those_of_each_policy(
    environment: str, policy_kwargs: dict[str, Any]
) -> None:
    models = [learner(environment, seed, policy_kwargs=policy_kwargs) for seed in (1, 2, 3)]
    obs = np.stack([states(model) for model in models])
    found = StackedPolicy([model.policy for model in models]).actor().act(obs)
    for run, model in enumerate(models):
        expected, _ = model.predict(obs[run], deterministic=True)
        assert found[run].shape == expected.shape
        assert found[run] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
def test_samples_are_distributed_as_the_policy_says(environment: str) -> None:
    """The mean of −log p over samples is the entropy."""
    model = learner(environment, 1, learning_rate=0.05)
    np.random.seed(1)
    model.train()  # away from the even odds that policies begin with
    stacked = StackedPolicy([model.policy])
    actor, count = stacked.actor(), 20_000
    features = np.repeat(actor.features(states(model)[None, :1]), count, axis=1)
    noise = draw_noise(
        model.action_space,
        stacked.rows.dtype,
        (1, count, stacked.outputs),
        torch.Generator().manual_seed(0),
    )
    actions = torch.from_numpy(actor.actions(features, noise))
    distribution = stacked.forward(torch.from_numpy(features)).distribution
    surprise = -distribution.log_prob(actions)[0]
    entropy = float(distribution.entropy()[0, 0])
    spread = float(surprise.std()) / count**0.5
    assert abs(float(surprise.mean()) - entropy) < 4 * spread + 1e-5


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
def test_what_a_run_draws_depends_on_nobody(environment: str) -> None:
    models = [learner(environment, seed) for seed in range(5)]
    alone = [sampled([models[run]], [run])[0] for run in range(5)]
    for chosen in ([0, 1, 2, 3, 4], [4, 2], [3, 1, 0]):
        together = sampled([models[run] for run in chosen], chosen)
        assert together == [alone[run] for run in chosen]
    assert len(set(alone)) == 5


def sampled(models: list[PPO], seeds: list[int]) -> list[bytes]:
    """What each run does in the states of its rollout."""
    stacked = StackedPolicy([model.policy for model in models])
    actor = stacked.actor()
    obs = np.stack([states(model) for model in models])
    space, shape = models[0].action_space, (obs.shape[1], stacked.outputs)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = np.stack([draw_noise(space, stacked.rows.dtype, shape, g) for g in generators])
    actions = actor.actions(actor.features(obs), noise)
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
def test_features_are_those_of_stable_baselines3(space: spaces.Space[Any]) -> None:
    space.seed(0)
    obs = np.array([[space.sample() for _ in range(4)] for _ in range(2)])
    for run, seen in enumerate(features_of(obs, space)):
        theirs = preprocess_obs(torch.from_numpy(obs[run]), space)
        assert isinstance(theirs, torch.Tensor)
        assert np.array_equal(seen.astype(np.float32), theirs.flatten(1).numpy())


def test_throttles_are_kept_within_their_bounds() -> None:
    actor = StackedPolicy([learner("several", 1).policy]).actor()
    beyond = np.array([[[-9.0, 0.5, 9.0]]])
    assert actor.to_environment(beyond).tolist() == [[[-2.0, 0.5, 2.0]]]


def test_a_policy_that_has_diverged_acts_in_silence() -> None:
    models = [learner("discrete", seed) for seed in (1, 2)]
    stacked = StackedPolicy([model.policy for model in models])
    obs = np.stack([states(model) for model in models])
    before = stacked.actor().act(obs)
    stacked.rows[0] = torch.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = stacked.actor().act(obs)
    assert np.array_equal(before[1], after[1])
