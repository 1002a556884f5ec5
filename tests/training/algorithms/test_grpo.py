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
from tests.helpers.episodic import BOX, DISCRETE, build_model, make_batch

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


def make_learner(model: Any, **changes: Any) -> Grpo:
    return Grpo(model, HYPERPARAMETERS | changes, np.random.RandomState(0))


@settings(deadline=None)
@given(some_returns)
def test_advantages_are_standardized_within_a_group(returns: Array) -> None:
    by_group = group_advantages(returns, 3).reshape(2, 3)
    for group, advantages in zip(returns.reshape(2, 3), by_group, strict=True):
        if np.ptp(group) == 0:
            assert not advantages.any()
        elif group.std() > 1e-3:
            assert advantages.mean() == pytest.approx(0, abs=1e-6)
            assert advantages.std() == pytest.approx(1, abs=1e-4)
            assert (np.diff(advantages[np.argsort(group)]) >= 0).all()


@settings(deadline=None)
@given(some_returns, st.lists(st.floats(-100, 100), min_size=2, max_size=2))
def test_a_common_offset_of_a_group_changes_nothing(returns: Array, common: list[float]) -> None:
    """Potential-based shaping adds the offset −Φ(s₀)."""
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
def test_an_update_follows_the_formula(space: Any) -> None:
    """Compare two epochs: in the second, the policy differs from π_old and π_ref."""
    model, expected = build_model(space), build_model(space)
    reference = build_model(space).policy
    batch = make_batch(model, [5, 3, 8, 8])
    make_learner(model, n_epochs=2).update(batch, 1.0)

    advantages = group_advantages(batch.returns_to_go(0.9)[:, 0], 2)
    with torch.no_grad():
        old = expected.policy.evaluate_actions(batch.obs, batch.actions)[1]
        of_reference = reference.evaluate_actions(batch.obs, batch.actions)[1]
    for _ in range(2):
        _, log_prob, entropy = expected.policy.evaluate_actions(batch.obs, batch.actions)
        ends = np.cumsum(batch.lengths)
        objective = torch.zeros(())
        for episode, (end, length) in enumerate(zip(ends, batch.lengths, strict=True)):
            steps = slice(end - length, end)
            ratio = (log_prob[steps] - old[steps]).exp()
            a = float(advantages[episode])
            least = torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a)
            x = of_reference[steps] - log_prob[steps]
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


def test_minibatches_match_the_whole_batch_on_average() -> None:
    """Compare one epoch with tiny steps, in which every transition counts once."""
    moved = []
    for batch_size in (4, 1000):
        model = build_model(DISCRETE, optimizer_class=torch.optim.SGD, learning_rate=1e-4)
        before = torch.cat([p.detach().flatten().clone() for p in model.policy.parameters()])
        batch = make_batch(model, [6, 2, 9, 3])  # 20 transitions: five minibatches of four
        make_learner(model, batch_size=batch_size, max_grad_norm=1e9, ent_coef=0.0).update(
            batch, 1.0
        )
        after = torch.cat([p.detach().flatten() for p in model.policy.parameters()])
        moved.append((after - before).numpy())
    assert moved[0] / 5 == pytest.approx(moved[1], rel=1e-2, abs=1e-7)


def test_a_group_with_equal_returns_changes_nothing() -> None:
    model = build_model(DISCRETE)
    batch = make_batch(model, [4, 4])
    batch.rewards[:] = 1.0
    before = [p.detach().clone() for p in model.policy.parameters()]
    make_learner(model, kl_coef=0.0, ent_coef=0.0).update(batch, 1.0)
    for one, other in zip(before, model.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_reference_is_refreshed_and_restored() -> None:
    models = [build_model(DISCRETE) for _ in range(2)]
    whole, parts = (make_learner(model) for model in models)
    shuffle = np.random.RandomState(0)
    for update in range(1, 5):
        batch = make_batch(models[0], [4, 6])
        whole.update(batch, 1.0)
        state = parts.get_state()
        parts = Grpo(models[1], HYPERPARAMETERS, shuffle)
        parts.set_state(state)
        parts.update(batch, 1.0)
        now = models[0].policy.state_dict()
        reference = whole.get_state()["reference"]
        refreshed = all(np.array_equal(reference[name], now[name].numpy()) for name in now)
        assert refreshed == (update % 2 == 0)
    for one, other in zip(*(model.policy.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="another policy"):
        whole.set_state({"reference": {}, "updates": 0})
