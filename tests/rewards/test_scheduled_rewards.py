"""Rewards with schedules, in the kernel and in the wrappers over a training."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shaperun.envs.base import Array, Transition
from shaperun.envs.spaces import from_spaces
from shaperun.rewards.config import Mode, RewardConfig
from shaperun.rewards.kernel import START, RewardKernel
from tests.helpers.counter import GAMMA, LENGTHS, SPACE, TOTAL, near, single, vector

MODES = list(get_args(Mode))
ENVIRONMENT = from_spaces("Any-v0", SPACE, spaces.Discrete(3))
TERMS = {"low": "-obs[0]", "wide": "norm(obs)", "busy": "action != last_action"}
STATES = {"low": 2.0, "wide": -0.5}
POINTS = [[0.1, -1.0], [0.3, 2.0], [0.5, 0.5], [0.9, 1.0]]
SCHEDULES = {
    "linear": {"kind": "linear", "from": 1.5, "to": -0.5, "until": 0.8},
    "piecewise": {"kind": "piecewise", "points": POINTS},
    "constant": {"kind": "piecewise", "points": [[0.5, 0.25]]},
    "one": {"kind": "linear", "from": 1, "to": 1},
    "rising": {"kind": "linear", "from": 0, "to": 1},
    None: None,
}

properties = settings(deadline=None, max_examples=50)
each_mode = pytest.mark.parametrize("mode", MODES)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
shares = st.floats(0, 1)


def reward(mode: str, schedule: str | None, **more: Any) -> RewardConfig:
    weights = STATES if mode == "potential" else {**STATES, "busy": 3.0}
    data = {"mode": mode, "weights": weights, "terms": TERMS, "scale": 0.5}
    return RewardConfig.model_validate({**data, "schedule": SCHEDULES[schedule], **more})


def f(schedule: str | None, progress: float) -> float:
    """Compute the factor independently of the schedules."""
    if schedule == "linear":
        return 1.5 - 2.0 * min(progress, 0.8) / 0.8
    if schedule == "piecewise":
        return float(np.interp(progress, *np.transpose(POINTS)))
    if schedule == "rising":
        return progress
    return 0.25 if schedule == "constant" else 1.0


def phi(obs: Array) -> Array:
    """Compute the potential of the state terms."""
    return np.asarray(0.5 * (2.0 * -obs[:, 0] - 0.5 * np.hypot(obs[:, 0], obs[:, 1])))


def expected_shaping(
    mode: str, schedule: str | None, t: Transition, now: float, then: float
) -> Array:
    """Compute shaping by the formulas in the docstring of the kernel."""
    if mode != "potential":
        s = phi(t.next_obs) + 0.5 * 3.0 * (t.action != t.last_action)
        return np.asarray(f(schedule, now) * s)
    after = np.where(t.terminated, 0.0, phi(t.next_obs))
    return np.asarray(GAMMA * f(schedule, then) * after - f(schedule, now) * phi(t.obs))


def expected_shaped(mode: str, schedule: str | None, r: Array, shaping: Array, now: float) -> Array:
    left = 1.0 - f(schedule, now) if schedule else 0.0
    seen = {
        "log": r,
        "add": r + shaping,
        "replace": left * r + shaping,
        "potential": r + shaping,
    }
    return seen[mode]


small = st.floats(-1, 1).map(lambda x: round(x, 6))


@st.composite
def transitions(draw: st.DrawFn, *, end: bool = False) -> Transition:
    """Draw steps of an episode; with `end`, only the last one terminates or is truncated."""
    n = draw(st.integers(1, 6))
    states = draw(arrays(np.float64, (n + 1, 2), elements=small))
    terminated, truncated = draw(arrays(np.bool_, (2, n)))
    if end:
        terminated[:-1] = truncated[:-1] = False
        truncated[-1] = not terminated[-1]
    return Transition(
        obs=states[:-1],
        action=draw(arrays(np.int64, n, elements=st.integers(0, 2))),
        next_obs=states[1:],
        env_reward=draw(arrays(np.float64, n, elements=small)),
        terminated=terminated,
        truncated=truncated,
        last_action=draw(arrays(np.int64, n, elements=st.integers(0, 2))),
    )


@each_mode
@properties
@given(schedule=st.sampled_from(list(SCHEDULES)), steps=transitions(), now=shares, then=shares)
def test_shaped_reward_of_each_mode(
    mode: str, schedule: str | None, steps: Transition, now: float, then: float
) -> None:
    rewards = RewardKernel(ENVIRONMENT, reward(mode, schedule), GAMMA)(steps, (now, then))
    shaping = expected_shaping(mode, schedule, steps, now, then)
    assert rewards.shaping == near(shaping)
    assert rewards.shaped == near(expected_shaped(mode, schedule, steps.env_reward, shaping, now))
    assert rewards.schedule == near(f(schedule, now))
    assert rewards.env_reward.tobytes() == steps.env_reward.tobytes()
    assert rewards.raw[:, 0] == near(-steps.next_obs[:, 0])  # raw values have no factor


@each_mode
@properties
@given(steps=transitions())
def test_default_progress_is_the_start(mode: str, steps: Transition) -> None:
    kernel = RewardKernel(ENVIRONMENT, reward(mode, "linear"), GAMMA)
    assert kernel(steps).shaped.tolist() == kernel(steps, START).shaped.tolist()
    assert kernel(steps).schedule == 1.5


@each_mode
@properties
@given(steps=transitions(), now=shares, then=shares)
def test_factor_of_one_equals_no_schedule(
    mode: str, steps: Transition, now: float, then: float
) -> None:
    timed = RewardKernel(ENVIRONMENT, reward(mode, "one"), GAMMA)
    plain = RewardKernel(ENVIRONMENT, reward(mode, None), GAMMA)
    result, expected = timed(steps, (now, then)), plain(steps)
    assert result.shaping.tolist() == expected.shaping.tolist()
    assert result.shaped.tolist() == expected.shaped.tolist()


def test_reward_is_replaced_gradually() -> None:
    config = reward("replace", "rising", weights={"low": 2.0}, scale=1)
    kernel = RewardKernel(ENVIRONMENT, config)
    step = Transition(
        obs=np.zeros((1, 2)),
        action=np.array([0]),
        next_obs=np.array([[-3.0, 0.0]]),
        env_reward=np.array([10.0]),
        terminated=np.array([False]),
        truncated=np.array([False]),
        last_action=np.array([0]),
    )
    seen = [kernel(step, (now, now)).shaped[0] for now in (0.0, 0.25, 0.5, 1.0)]
    assert seen == [10.0, 9.0, 8.0, 6.0]


@properties
@given(st.sampled_from(list(SCHEDULES)), transitions(end=True), st.data())
def test_scheduled_potential_telescopes(
    schedule: str | None, episode: Transition, data: st.DataObject
) -> None:
    n = len(episode)
    moments = sorted(data.draw(st.lists(shares, min_size=n + 1, max_size=n + 1)))
    kernel = RewardKernel(ENVIRONMENT, reward("potential", schedule), GAMMA)
    total = 0.0
    for step, progress in enumerate(pairwise(moments)):
        row = episode.take(np.array([step]))
        total += GAMMA**step * kernel(row, progress).shaping[0]
    last = 0.0 if episode.terminated[-1] else phi(episode.next_obs[-1:])[0]
    first = phi(episode.obs[:1])[0]
    expected = GAMMA**n * f(schedule, moments[-1]) * last - f(schedule, moments[0]) * first
    assert total == near(expected)


# The wrappers.


@each_mode
@each_schedule
def test_single_environment_over_training(mode: str, schedule: str | None) -> None:
    env = single(reward(mode, schedule), (3, 1, 4))
    rng = np.random.default_rng(0)
    over, previous = True, 0
    for step in range(TOTAL + 5):
        if over:
            obs, _ = env.reset()
        action = int(rng.integers(3))
        next_obs, shaped, terminated, truncated, info = env.step(action)
        now, then = min(1.0, step / TOTAL), min(1.0, (step + 1) / TOTAL)
        transition = Transition(
            obs=obs[None],
            action=np.array([action]),
            next_obs=next_obs[None],
            env_reward=np.array([next_obs[0] / 2]),
            terminated=np.array([terminated]),
            truncated=np.array([truncated]),
            last_action=np.array([action if over else previous]),
        )
        shaping = expected_shaping(mode, schedule, transition, now, then)
        parts = info["reward_components"]
        assert parts["shaping"] == near(shaping[0])
        assert shaped == near(
            expected_shaped(mode, schedule, transition.env_reward, shaping, now)[0]
        )
        assert parts.get("schedule", 1.0) == near(f(schedule, now))
        assert ("schedule" in parts) == (schedule is not None)
        obs, previous, over = next_obs, action, terminated or truncated


@each_mode
@each_schedule
def test_vector_environment_matches_single_environments(mode: str, schedule: str | None) -> None:
    """Each of the three environments takes a third of the steps."""
    config = reward(mode, schedule)
    envs = vector(config, LENGTHS, AutoresetMode.SAME_STEP, 3 * TOTAL)
    alone = [single(config, lengths) for lengths in LENGTHS]
    envs.reset()
    for env in alone:
        env.reset()
    rng = np.random.default_rng(1)
    for _ in range(TOTAL + 5):
        actions = rng.integers(3, size=3)
        _, shaped, *_, info = envs.step(actions)
        parts = info["reward_components"]
        for copy, env in enumerate(alone):
            _, one, terminated, truncated, single_info = env.step(int(actions[copy]))
            assert shaped[copy] == near(one)
            result = {name: column[copy] for name, column in parts.items()}
            assert result == near(single_info["reward_components"])
            if terminated or truncated:
                env.reset()


@each_mode
@pytest.mark.parametrize("autoreset", AutoresetMode)
def test_vector_of_one_matches_a_single_environment(mode: str, autoreset: AutoresetMode) -> None:
    config = reward(mode, "piecewise")
    envs, alone = vector(config, [(9,)], autoreset), single(config, (9,))
    envs.reset()
    alone.reset()
    for step in range(9):
        action = step * step % 3
        _, shaped, *_, info = envs.step(np.array([action]))
        _, one, *_, single_info = alone.step(action)
        assert shaped.tolist() == [one]
        result = {name: column.tolist() for name, column in info["reward_components"].items()}
        assert result == {n: [value] for n, value in single_info["reward_components"].items()}


def test_potential_telescopes_in_the_wrapper() -> None:
    env = single(reward("potential", "linear"), (3, 1, 4))
    steps = 0
    for length in (3, 1, 4, 3, 1, 4):
        first, _ = env.reset()
        total = 0.0
        for step in range(length):
            last, _, terminated, _, info = env.step(step % 3)
            total += GAMMA**step * info["reward_components"]["shaping"]
        end = 0.0 if terminated else GAMMA**length * f("linear", (steps + length) / TOTAL)
        start = f("linear", steps / TOTAL)
        assert total == near(end * phi(last[None])[0] - start * phi(first[None])[0])
        steps += length


@each_mode
def test_schedule_requires_total_timesteps(mode: str) -> None:
    with pytest.raises(ValueError, match="a schedule requires total_timesteps"):
        single(reward(mode, "linear"), (3,), None)
    with pytest.raises(ValueError, match="a schedule requires total_timesteps"):
        vector(reward(mode, "linear"), [(3,)], AutoresetMode.SAME_STEP, None)
    single(reward(mode, None), (3,), None)
    vector(reward(mode, None), [(3,)], AutoresetMode.SAME_STEP, None)
