from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from shaperun.training.stacked.actor import extract_features
from shaperun.training.stacked.distributions import choose_distribution
from shaperun.training.stacked.policy import StackedPolicy
from tests.helpers.lockstep import ENVIRONMENTS, build_learner

torch.set_num_threads(1)
NETWORK = {"net_arch": {"pi": [9], "vf": [33, 5]}, "activation_fn": "gelu"}


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
@pytest.mark.parametrize("policy_kwargs", [{}, NETWORK], ids=["default", "other"])
def test_values_and_probabilities_match_each_policy(
    environment: str, policy_kwargs: dict[str, Any]
) -> None:
    models = [build_learner(environment, seed, policy_kwargs=policy_kwargs) for seed in (1, 2, 3)]
    stacked = StackedPolicy([model.policy for model in models])
    features, actions = rollout_tensors(models)
    values, log_probs = stacked.evaluate_actions(features, actions)
    entropy = stacked.forward(features[3]).distribution.entropy()
    for run, model in enumerate(models):
        buffer = model.rollout_buffer
        assert values[:, run].numpy() == pytest.approx(buffer.values, abs=1e-5)
        assert log_probs[:, run].numpy() == pytest.approx(buffer.log_probs, abs=1e-5)
        obs = torch.from_numpy(buffer.observations[3])
        theirs = model.policy.get_distribution(obs.view(4, *model.observation_space.shape or ()))
        expected = theirs.entropy()
        assert expected is not None
        assert entropy[run].numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5)
        last = stacked.predict_values(features[-1])[run]
        assert last.numpy() == pytest.approx(buffer.values[-1], abs=1e-5)


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
def test_evaluations_do_not_depend_on_other_runs(environment: str) -> None:
    models = [build_learner(environment, seed, n_steps=150) for seed in range(5)]
    alone = [evaluate_to_bytes([model])[0] for model in models]
    for chosen in ([0, 1, 2, 3, 4], [4, 2], [3, 1, 0]):
        assert evaluate_to_bytes([models[run] for run in chosen]) == [alone[run] for run in chosen]
    assert len(set(alone)) == 5


def evaluate_to_bytes(models: list[PPO]) -> list[bytes]:
    """Return values, log-probabilities and entropies of the rollouts, by run."""
    stacked = StackedPolicy([model.policy for model in models])
    features, actions = rollout_tensors(models)
    entropy = stacked.forward(features.transpose(0, 1).flatten(1, 2)).distribution.entropy()
    values, log_probs = stacked.evaluate_actions(features, actions)
    return [
        b"".join(part.numpy().tobytes() for part in (values[:, r], log_probs[:, r], entropy[r]))
        for r in range(len(models))
    ]


def rollout_tensors(models: list[PPO]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (T, R, E, F) and actions (T, R, E, D) of the rollouts."""
    space = models[0].observation_space
    obs = np.stack([model.rollout_buffer.observations for model in models], 1)
    steps = obs.reshape(len(obs), -1, *(space.shape or ()))
    features = extract_features(steps, space).astype(np.float32).reshape(*obs.shape[:3], -1)
    actions = np.stack([model.rollout_buffer.actions for model in models], 1)
    return torch.from_numpy(features), torch.from_numpy(actions)


def test_parameters_are_loaded_and_exported_unchanged() -> None:
    models = [build_learner("several", seed, policy_kwargs=NETWORK) for seed in (1, 2)]
    stacked = StackedPolicy([model.policy for model in models])
    for run, model in enumerate(models):
        for name, parameter in model.policy.state_dict().items():
            assert torch.equal(stacked.state_dict(run)[name], parameter), name
    stacked.load_run(0, models[1].policy.state_dict())
    assert torch.equal(stacked.rows[0], stacked.rows[1])
    names = [name for name, _ in models[0].policy.named_parameters()]
    assert list(stacked.state_dict(0)) == names  # the order of Adam's indices


def test_blocks_begin_at_cache_lines() -> None:
    policy = build_learner("several", 1, policy_kwargs=NETWORK).policy
    layout = StackedPolicy([policy]).layout
    assert all(offset % 16 == 0 for offset in [*layout.offsets.values(), layout.width])


def test_unsupported_policies_are_refused() -> None:
    with pytest.raises(ValueError, match="gSDE"):
        StackedPolicy([build_learner("box", 1, use_sde=True).policy])
    wide = build_learner("box", 1, policy_kwargs={"net_arch": [8]}).policy
    with pytest.raises(ValueError, match="different architectures"):
        StackedPolicy([build_learner("box", 1).policy, wide])
    with pytest.raises(ValueError, match="unsupported action space"):
        choose_distribution(spaces.Text(3))
