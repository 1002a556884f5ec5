from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shaperun.training.algorithms.episode_batch import Array
from shaperun.training.algorithms.grpo import Grpo, group_advantages, k3
from tests.helpers.episodic import BOX, DISCRETE, model_over, played

HYPERPARAMETERS = {
    "gamma": 0.9,
    "group_size": 2,
    "n_epochs": 1,
    "batch_size": 1000,
    "kl_coef": 0.3,
    "reference_updates": 2,
    "ent_coef": 0.02,
    "max_grad_norm": 0.5,
}
some_returns = arrays(float, (6,), elements=st.floats(-1e3, 1e3))


def learner(model: Any, **changes: Any) -> Grpo:
    return Grpo(model, HYPERPARAMETERS | changes, np.random.RandomState(0))


@settings(deadline=None)
@given(some_returns)
def test_advantages_are_standardised_within_a_group(returns: Array) -> None:
    found = group_advantages(returns, 3).reshape(2, 3)
    for group, advantages in zip(returns.reshape(2, 3), found, strict=True):
        if np.ptp(group) == 0:
            assert not advantages.any()
        elif group.std() > 1e-3:
            assert advantages.mean() == pytest.approx(0, abs=1e-6)
            assert advantages.std() == pytest.approx(1, abs=1e-4)
            assert (np.diff(advantages[np.argsort(group)]) >= 0).all()


@settings(deadline=None)
@given(some_returns, st.lists(st.floats(-100, 100), min_size=2, max_size=2))
def test_what_a_group_has_in_common_changes_nothing(returns: Array, common: list[float]) -> None:
    """Such as −Φ(s₀), which is all that potential-based shaping does to a return."""
    if min(group.std() for group in returns.reshape(2, 3)) < 1e-2:
        return
    shaped = returns - np.repeat(common, 3)
    assert group_advantages(shaped, 3) == pytest.approx(group_advantages(returns, 3), abs=1e-6)


@settings(deadline=None)
@given(arrays(float, (2, 4), elements=st.floats(0.01, 1)))
def test_the_mean_of_k3_is_the_divergence(weights: Array) -> None:
    policy, reference = torch.from_numpy(weights / weights.sum(1, keepdims=True))
    x = reference.log() - policy.log()
    assert (k3(x) >= 0).all()
    divergence = (policy * (policy.log() - reference.log())).sum()
    assert float((policy * k3(x)).sum()) == pytest.approx(float(divergence), abs=1e-9)


@pytest.mark.parametrize("space", [DISCRETE, BOX], ids=["discrete", "box"])
def test_an_update_goes_along_the_formula(space: Any) -> None:
    """The second of two, where neither π_old nor π_ref is the policy any more."""
    model, expected = model_over(space), model_over(space)
    reference = model_over(space).policy
    batch = played(model, [5, 3, 8, 8])
    learner(model, n_epochs=2).update(batch, 1.0)

    advantages = group_advantages(batch.returns_to_go(0.9)[:, 0], 2)
    with torch.no_grad():
        old = expected.policy.evaluate_actions(batch.obs, batch.actions)[1]
        of_reference = reference.evaluate_actions(batch.obs, batch.actions)[1]
    for _ in range(2):
        _, log_prob, entropy = expected.policy.evaluate_actions(batch.obs, batch.actions)
        ends = np.cumsum(batch.lengths)
        objective = torch.zeros(())
        for episode, (end, length) in enumerate(zip(ends, batch.lengths, strict=True)):
            own = slice(end - length, end)
            ratio = (log_prob[own] - old[own]).exp()
            a = float(advantages[episode])
            least = torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a)
            x = of_reference[own] - log_prob[own]
            objective = objective + (least - 0.3 * (x.exp() - x - 1)).mean() / len(ends)
        assert entropy is not None
        loss = -objective - 0.02 * entropy.mean()
        expected.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(expected.policy.parameters(), 0.5)
        expected.policy.optimizer.step()
    for name, parameter in model.policy.state_dict().items():
        wanted = expected.policy.state_dict()[name]
        assert parameter.numpy() == pytest.approx(wanted.numpy(), abs=1e-5), name


def test_minibatches_pull_as_the_whole_batch_does_on_average() -> None:
    """Over one epoch with tiny steps: every transition is seen once, weighed by its episode."""
    moved = []
    for batch_size in (4, 1000):
        model = model_over(DISCRETE, optimizer_class=torch.optim.SGD, learning_rate=1e-4)
        before = torch.cat([p.detach().flatten().clone() for p in model.policy.parameters()])
        batch = played(model, [6, 2, 9, 3])  # 20 transitions: five minibatches of four
        learner(model, batch_size=batch_size, max_grad_norm=1e9, ent_coef=0.0).update(batch, 1.0)
        after = torch.cat([p.detach().flatten() for p in model.policy.parameters()])
        moved.append((after - before).numpy())
    assert moved[0] / 5 == pytest.approx(moved[1], rel=1e-2, abs=1e-7)


def test_a_group_that_did_equally_well_teaches_nothing() -> None:
    model = model_over(DISCRETE)
    batch = played(model, [4, 4])
    batch.rewards[:] = 1.0
    before = [p.detach().clone() for p in model.policy.parameters()]
    learner(model, kl_coef=0.0, ent_coef=0.0).update(batch, 1.0)
    for one, other in zip(before, model.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_reference_is_renewed_and_kept() -> None:
    models = [model_over(DISCRETE) for _ in range(2)]
    whole, parts = (learner(model) for model in models)
    shuffle = np.random.RandomState(0)
    for number in range(1, 5):
        batch = played(models[0], [4, 6])
        whole.update(batch, 1.0)
        kept = parts.get_state()
        parts = Grpo(models[1], HYPERPARAMETERS, shuffle)
        parts.set_state(kept)
        parts.update(batch, 1.0)
        now = models[0].policy.state_dict()
        reference = whole.get_state()["reference"]
        renewed = all(np.array_equal(reference[name], now[name].numpy()) for name in now)
        assert renewed == (number % 2 == 0)
    for one, other in zip(*(model.policy.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="another policy"):
        whole.set_state({"reference": {}, "updates": 0})
