from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shaperun.training.algorithms.episode_batch import Array, EpisodeBatch
from shaperun.training.algorithms.reinforce import Reinforce, leave_one_out_mean
from tests.helpers.episodic import BOX, DISCRETE, build_model, make_batch

HYPERPARAMETERS = {"gamma": 0.9, "baseline": "moving", "group_size": 2}


def make_learner(model: Any, **changes: Any) -> Reinforce:
    return Reinforce(model, HYPERPARAMETERS | changes, np.random.RandomState(0))


@settings(deadline=None)
@given(arrays(float, (6, 4), elements=st.floats(-100, 100)))
def test_an_episode_is_not_part_of_its_baseline(returns: Array) -> None:
    means = leave_one_out_mean(returns, 3)
    for episode in range(6):
        group = range(episode // 3 * 3, episode // 3 * 3 + 3)
        others = [returns[other] for other in group if other != episode]
        assert means[episode] == pytest.approx(np.mean(others, axis=0), abs=1e-9)


@pytest.mark.parametrize("space", [DISCRETE, BOX], ids=["discrete", "box"])
@pytest.mark.parametrize("baseline", ["moving", "group"])
def test_an_update_follows_the_formula(space: Any, baseline: str) -> None:
    model, expected = build_model(space), build_model(space)
    batch = make_batch(model, [5, 3, 8, 8])
    make_learner(model, baseline=baseline).update(batch, 1.0)

    returns = batch.returns_to_go(0.9)
    others = leave_one_out_mean(returns, 2) if baseline == "group" else np.zeros_like(returns)
    loss, index, steps = torch.zeros(()), 0, int(batch.lengths.sum())
    for episode, length in enumerate(batch.lengths):
        for step in range(length):
            one = slice(index, index + 1)
            log_prob = expected.policy.evaluate_actions(batch.obs[one], batch.actions[one])[1]
            advantage = returns[episode, step] - others[episode, step]
            loss = loss - log_prob[0] * advantage / steps
            index += 1
    expected.policy.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    expected.policy.optimizer.step()
    for name, parameter in model.policy.state_dict().items():
        wanted = expected.policy.state_dict()[name]
        assert parameter.numpy() == pytest.approx(wanted.numpy(), abs=1e-5), name


def test_the_moving_baseline_follows_the_returns() -> None:
    model = build_model(DISCRETE)
    one = make_learner(model)
    for episodes in ([[1.0, 1.0]], [[1.0, 1.0, 1.0]]):
        one.update(with_rewards(model, [np.array(episode) for episode in episodes]), 1.0)
    # The first update had no third step: its return counts as 0.
    first = 0.1 * np.array([1.9, 1.0, 0.0])
    expected = first + 0.1 * (np.array([2.71, 1.9, 1.0]) - first)
    assert one.get_state()["moving"] == pytest.approx(expected)


def test_the_baseline_is_restored() -> None:
    models = [build_model(DISCRETE) for _ in range(2)]
    whole, parts = (make_learner(model) for model in models)
    for batch in (make_batch(models[0], [4, 6]), make_batch(models[0], [7, 2])):
        whole.update(batch, 1.0)
        parts.update(batch, 1.0)
        state, parts = parts.get_state(), make_learner(models[1])
        parts.set_state(state)
    for one, other in zip(*(model.policy.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="baseline"):
        whole.set_state({"moving": np.array([np.nan])})


def with_rewards(model: Any, rewards: list[Array]) -> EpisodeBatch:
    batch = make_batch(model, [len(episode) for episode in rewards])
    return EpisodeBatch(batch.obs, batch.actions, np.array(rewards), batch.lengths)
