from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from shaperun.stacked_actions import distribution_over, draw_noise
from shaperun.stacked_policy import StackedPolicy
from tests.lockstep import ENVIRONMENTS, learner

torch.set_num_threads(1)
NETWORK = {"net_arch": {"pi": [9], "vf": [33, 5]}, "activation_fn": "gelu"}


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
@pytest.mark.parametrize("policy_kwargs", [{}, NETWORK], ids=["default", "other"])
def test_actions_values_and_probabilities_are_those_of_each_policy(
    environment: str, policy_kwargs: dict[str, Any]
) -> None:
    models = [learner(environment, seed, policy_kwargs=policy_kwargs) for seed in (1, 2, 3)]
    stacked = StackedPolicy([model.policy for model in models])
    steps = [model.rollout_buffer.observations[3] for model in models]
    shape = models[0].observation_space.shape or ()
    obs = torch.from_numpy(np.stack(steps)).view(3, 4, *shape)
    actions = torch.from_numpy(np.stack([m.rollout_buffer.actions[3] for m in models]))
    made = stacked.forward(stacked.features(obs))
    distribution, values = made.distribution, made.values
    for run, model in enumerate(models):
        one = torch.from_numpy(steps[run]).view(4, *shape)
        taken = actions[run].flatten() if len(actions[run].shape) < 2 else actions[run]
        if isinstance(model.action_space, spaces.Discrete):
            taken = taken.flatten()
        with torch.no_grad():
            theirs = model.policy.evaluate_actions(one, taken.float())
            mode = model.policy.get_distribution(one).mode()
        value, log_prob, entropy = theirs
        assert values[run].numpy() == pytest.approx(value.flatten().numpy(), abs=1e-5)
        assert distribution.log_prob(actions)[run].numpy() == pytest.approx(
            log_prob.numpy(), abs=1e-5
        )
        assert entropy is not None
        assert distribution.entropy()[run].numpy() == pytest.approx(entropy.numpy(), abs=1e-5)
        found = distribution.mode()[run].view(mode.shape).numpy()
        assert found == pytest.approx(mode.numpy(), abs=1e-5)


@pytest.mark.parametrize("environment", sorted(ENVIRONMENTS))
def test_samples_are_distributed_as_the_policy_says(environment: str) -> None:
    """The mean of −log p over samples is the entropy."""
    model = learner(environment, 1, learning_rate=0.05)
    np.random.seed(1)
    model.train()  # away from the even odds that policies begin with
    stacked = StackedPolicy([model.policy])
    obs = torch.from_numpy(model.rollout_buffer.observations[:1]).view(
        1, 1, *(model.observation_space.shape or ())
    )
    count = 20_000
    features = stacked.features(obs).expand(1, count, -1)
    noise = draw_noise(
        model.action_space,
        stacked.rows.dtype,
        (count, stacked.outputs),
        torch.Generator().manual_seed(0),
    )
    distribution = stacked.forward(features).distribution
    surprise = -distribution.log_prob(distribution.sample(noise[None]))[0]
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
    """The actions of each run in the states of its rollout, with what is known of them."""
    stacked = StackedPolicy([model.policy for model in models])
    states = [torch.from_numpy(model.rollout_buffer.observations) for model in models]
    obs = torch.stack(states).view(len(models), -1, *(models[0].observation_space.shape or ()))
    shape = (obs.shape[1], stacked.outputs)
    space = models[0].action_space
    noise = [
        draw_noise(space, stacked.rows.dtype, shape, torch.Generator().manual_seed(s))
        for s in seeds
    ]
    made = stacked.forward(stacked.features(obs))
    actions = made.distribution.sample(torch.stack(noise))
    known = (made.distribution.log_prob(actions), made.distribution.entropy(), made.values)
    parts = (actions, *known)
    return [
        b"".join(part[run].contiguous().numpy().tobytes() for part in parts)
        for run in range(len(models))
    ]


def test_parameters_go_in_and_out_unchanged() -> None:
    models = [learner("several", seed, policy_kwargs=NETWORK) for seed in (1, 2)]
    stacked = StackedPolicy([model.policy for model in models])
    for run, model in enumerate(models):
        for name, parameter in model.policy.state_dict().items():
            assert torch.equal(stacked.state_dict(run)[name], parameter), name
    stacked.load(0, models[1].policy.state_dict())
    assert torch.equal(stacked.rows[0], stacked.rows[1])
    names = [name for name, _ in models[0].policy.named_parameters()]
    assert list(stacked.state_dict(0)) == names  # the order in which Adam counts them


def test_blocks_begin_at_cache_lines() -> None:
    policy = learner("several", 1, policy_kwargs=NETWORK).policy
    layout = StackedPolicy([policy]).layout
    assert all(offset % 16 == 0 for offset in [*layout.offsets.values(), layout.width])


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(ValueError, match="gSDE"):
        StackedPolicy([learner("box", 1, use_sde=True).policy])
    wide = learner("box", 1, policy_kwargs={"net_arch": [8]}).policy
    with pytest.raises(ValueError, match="different architectures"):
        StackedPolicy([learner("box", 1).policy, wide])
    with pytest.raises(ValueError, match="no policy"):
        distribution_over(spaces.Text(3))
