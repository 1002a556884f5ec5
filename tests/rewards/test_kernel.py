"""Arithmetic of the kernel, as properties of random transitions, episodes and rewards."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shaperun.envs.base import Array, Transition
from shaperun.envs.builtin import environments
from shaperun.rewards.config import Mode, RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel, check_sums

ENVIRONMENT = environments()["LunarLander-v3"]
TERMS = list(ENVIRONMENT.terms)
STATE_TERMS = [name for name, term in ENVIRONMENT.terms.items() if term.state_only]
MODES = list(get_args(Mode))

properties = settings(deadline=None, max_examples=50)

modes = st.sampled_from(MODES)
small = st.floats(-1, 1).map(lambda x: round(x, 6))
gammas = st.floats(0.5, 1)


@st.composite
def configs(draw: st.DrawFn) -> RewardConfig:
    mode = draw(modes)
    names = STATE_TERMS if mode == "potential" else TERMS
    weights = draw(st.dictionaries(st.sampled_from(names), small))
    return RewardConfig(mode=mode, weights=weights, scale=draw(small))


@st.composite
def transitions(draw: st.DrawFn, *, end: bool = False) -> Transition:
    """Draw steps of an episode; with `end`, the last one terminates or is truncated."""
    n = draw(st.integers(1, 6))
    states = draw(arrays(np.float64, (n + 1, 8), elements=small))
    terminated, truncated = np.zeros((2, n), dtype=bool)
    if end:
        terminated[-1] = draw(st.booleans())
        truncated[-1] = not terminated[-1]
    else:
        terminated = draw(arrays(np.bool_, n))
        truncated = draw(arrays(np.bool_, n))
    return Transition(
        obs=states[:-1],
        action=draw(arrays(np.int64, n, elements=st.integers(0, 3))),
        next_obs=states[1:],
        env_reward=draw(arrays(np.float64, n, elements=small)),
        terminated=terminated,
        truncated=truncated,
        last_action=draw(arrays(np.int64, n, elements=st.integers(0, 3))),
    )


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=0, abs=1e-12)


def phi(config: RewardConfig, obs: Array) -> Array:
    """Compute the potential independently of the kernel."""
    values = [w * ENVIRONMENT.terms[name].function(obs) for name, w in config.weights.items()]
    return np.asarray(config.scale * np.sum([np.zeros(len(obs)), *values], axis=0))


def one_step(**changes: Any) -> Transition:
    step = Transition(
        obs=np.full((1, 8), 0.5),
        action=np.array([2]),
        next_obs=np.full((1, 8), 0.25),
        env_reward=np.array([3.0]),
        terminated=np.array([False]),
        truncated=np.array([False]),
        last_action=np.array([2]),
    )
    return replace(step, **changes)


@properties
@given(configs(), transitions(), gammas)
def test_batch_matches_single_transitions(
    config: RewardConfig, steps: Transition, gamma: float
) -> None:
    kernel = RewardKernel(ENVIRONMENT, config, gamma)
    batch = kernel(steps)
    rows = [kernel(steps.take(np.array([row]))) for row in range(len(steps))]
    for part in ("raw", "env_reward", "shaping", "shaped"):
        one_by_one = np.concatenate([getattr(row, part) for row in rows])
        assert getattr(batch, part) == near(one_by_one)


@properties
@given(configs(), transitions(), gammas)
def test_shaped_reward_of_each_mode(config: RewardConfig, steps: Transition, gamma: float) -> None:
    rewards = RewardKernel(ENVIRONMENT, config, gamma)(steps)
    if config.mode == "potential":
        after = np.where(steps.terminated, 0.0, phi(config, steps.next_obs))
        shaping = gamma * after - phi(config, steps.obs)
    else:
        shaping = rewards.raw @ [config.scale * config.weights.get(name, 0.0) for name in TERMS]
    shaped = {
        "log": steps.env_reward,
        "add": steps.env_reward + shaping,
        "replace": shaping,
        "potential": steps.env_reward + shaping,
    }[config.mode]
    assert rewards.shaping == near(shaping)
    assert rewards.shaped == near(shaped)
    assert rewards.env_reward.tobytes() == steps.env_reward.tobytes()


@properties
@given(configs(), transitions(), gammas)
def test_all_terms_are_evaluated_weighted_or_not(
    config: RewardConfig, steps: Transition, gamma: float
) -> None:
    kernel = RewardKernel(ENVIRONMENT, config, gamma)
    raw = kernel(steps).raw
    assert list(kernel.names) == TERMS
    for column, term in enumerate(ENVIRONMENT.terms.values()):
        assert raw[:, column].tolist() == term(steps).tolist()
    assert not np.signbit(raw[raw == 0]).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zero", ["no weights", "weights of 0", "a scale of 0"])
@properties
@given(steps=transitions(), gamma=gammas)
def test_zero_weights_do_not_shape(mode: Mode, zero: str, steps: Transition, gamma: float) -> None:
    weights = {} if zero == "no weights" else dict.fromkeys(STATE_TERMS, 0.0)
    scale = 1.0
    if zero == "a scale of 0":
        weights, scale = dict.fromkeys(STATE_TERMS, 5.0), 0.0
    config = RewardConfig(mode=mode, weights=weights, scale=scale)
    rewards = RewardKernel(ENVIRONMENT, config, gamma)(steps)
    assert not rewards.shaping.any()
    expected = np.zeros(len(steps)) if mode == "replace" else steps.env_reward
    assert rewards.shaped.tolist() == expected.tolist()


@properties
@given(configs(), transitions(end=True), gammas)
def test_discounted_potential_shaping_telescopes(
    config: RewardConfig, episode: Transition, gamma: float
) -> None:
    potential = config.model_copy(
        update={
            "mode": "potential",
            "weights": {n: w for n, w in config.weights.items() if n in STATE_TERMS},
        }
    )
    shaping = RewardKernel(ENVIRONMENT, potential, gamma)(episode).shaping
    n = len(episode)
    first, last = phi(potential, episode.obs[:1])[0], phi(potential, episode.next_obs[-1:])[0]
    expected = -first if episode.terminated[-1] else gamma**n * last - first
    assert float(gamma ** np.arange(n) @ shaping) == near(expected)


@properties
@given(configs(), st.lists(transitions(end=True), min_size=1, max_size=3), gammas)
def test_episode_totals_follow_from_the_recorded_sums(
    config: RewardConfig, episodes: list[Transition], gamma: float
) -> None:
    kernel = RewardKernel(ENVIRONMENT, config, gamma)
    rewards = [kernel(episode) for episode in episodes]
    recorded = (
        np.array([r.raw.sum(axis=0) for r in rewards]),
        np.array([kernel.state_values(e.obs[:1])[0] for e in episodes]),
        np.array([kernel.state_values(e.next_obs[-1:])[0] for e in episodes]),
        np.array([e.terminated[-1] for e in episodes]),
    )
    contributions = kernel.contributions_from_sums(*recorded)
    shaping = contributions.sum(axis=1)
    assert shaping == near([r.shaping.sum() for r in rewards])
    env_return = np.array([e.env_reward.sum() for e in episodes])
    assert kernel.shaped_reward(env_return, shaping) == near([r.shaped.sum() for r in rewards])
    assert contributions.shape == (len(episodes), len(TERMS))
    for column, name in enumerate(TERMS):
        single = config.model_copy(
            update={"weights": {n: w for n, w in config.weights.items() if n == name}}
        )
        steps = [RewardKernel(ENVIRONMENT, single, gamma)(e).shaping.sum() for e in episodes]
        assert contributions[:, column] == near(steps)


def test_potential_by_hand() -> None:
    config = RewardConfig(mode="potential", weights={"legs": 10.0, "angle": 4.0}, scale=0.5)
    kernel = RewardKernel(ENVIRONMENT, config, 0.5)
    # Φ(s) = 0.5 · (10 · 1 − 4 · 0.5) = 4, Φ(s′) = 0.5 · (10 · 0.5 − 4 · 0.25) = 2
    for truncated in (np.array([False]), np.array([True])):
        rewards = kernel(one_step(truncated=truncated))
        assert rewards.shaping.tolist() == [0.5 * 2 - 4]
        assert rewards.shaped.tolist() == [3.0 + 0.5 * 2 - 4]
    for truncated in (np.array([False]), np.array([True])):  # termination takes precedence
        rewards = kernel(one_step(terminated=np.array([True]), truncated=truncated))
        assert rewards.shaping.tolist() == [-4.0]
        assert rewards.shaped.tolist() == [3.0 - 4.0]


def test_state_values_are_zero_for_action_terms() -> None:
    kernel = RewardKernel(ENVIRONMENT, RewardConfig())
    values = kernel.state_values(np.array([[3.0, 4.0, 0, 0, -1, 0, 1, 1]]))
    state_values = dict(zip(kernel.names, values[0], strict=True))
    expected = {"distance": -5.0, "velocity": 0.0, "angle": -1.0, "legs": 2.0}
    expected |= {"main_engine": 0.0, "side_engine": 0.0}
    assert {name: state_values[name] for name in expected} == expected


@pytest.mark.parametrize("mode", MODES)
def test_unknown_term_is_refused(mode: Mode) -> None:
    config = RewardConfig(mode=mode, weights={"fuel": 1.0, "distance": 1.0})
    with pytest.raises(ValueError, match="unknown LunarLander-v3 term fuel; choose from distance"):
        RewardKernel(ENVIRONMENT, config, 0.99)


def test_invalid_formula_names_its_term() -> None:
    config = RewardConfig(mode="add", terms={"near": "round(x)"}, weights={"near": 1})
    with pytest.raises(ValueError, match=r"^the term near: unknown function round$"):
        RewardKernel(environments()["CartPole-v1"], config)


def test_potential_of_actions_is_refused() -> None:
    weights = {"distance": 1.0, "main_engine": 1.0, "side_engine": 1.0}
    config = RewardConfig(mode="potential", weights=weights)
    with pytest.raises(ValueError, match="main_engine, side_engine depend on more than that"):
        RewardKernel(ENVIRONMENT, config, 0.99)
    without = RewardConfig(mode="potential", weights=weights | dict.fromkeys(weights, 0.0))
    RewardKernel(ENVIRONMENT, without, 0.99)


def test_potential_needs_gamma() -> None:
    with pytest.raises(ValueError, match="gamma"):
        RewardKernel(ENVIRONMENT, RewardConfig(mode="potential", weights={"distance": 1.0}))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("error")
def test_term_that_is_not_finite_is_named(mode: Mode, weight: float, value: float) -> None:
    kernel = RewardKernel(ENVIRONMENT, RewardConfig(mode=mode, weights={"angle": weight}), 0.99)
    obs = np.full((1, 8), 0.5)
    obs[0, 4] = value
    with pytest.raises(FloatingPointError, match=f"the term angle is -?{value} at"):
        kernel(one_step(next_obs=obs))


def test_potential_that_is_not_finite_before_the_step_is_named() -> None:
    config = RewardConfig(mode="potential", weights={"legs": 1.0, "angle": 1.0})
    obs = np.full((1, 8), 0.5)
    obs[0, 4] = np.nan
    with pytest.raises(FloatingPointError, match="the term angle is nan"):
        RewardKernel(ENVIRONMENT, config, 0.99)(one_step(obs=obs))


@pytest.mark.parametrize("mode", ["log", "add", "potential"])
def test_environment_reward_that_is_not_finite_is_refused(mode: Mode) -> None:
    kernel = RewardKernel(ENVIRONMENT, RewardConfig(mode=mode), 0.99)
    with pytest.raises(FloatingPointError, match="reward is not finite"):
        kernel(one_step(env_reward=np.array([np.nan])))


@pytest.mark.parametrize(
    ("weights", "scale", "message"),
    [
        ({"legs": 1e12, "angle": 1.0}, 1e12, r"lower the weight of legs$"),
        ({"legs": 0.0, "angle": -1e12}, 1e12, r"lower the weight of angle$"),
    ],
)
def test_a_reward_out_of_range_names_its_largest_term(
    weights: dict[str, float], scale: float, message: str
) -> None:
    config = RewardConfig(mode="add", weights=weights, scale=scale)
    obs = np.full((1, 8), 1e15)
    with pytest.raises(RewardError, match=r"the shaped reward is out of range \(.*" + message):
        RewardKernel(ENVIRONMENT, config, 0.99)(one_step(next_obs=obs))


def test_a_term_out_of_range_is_named() -> None:
    config = RewardConfig(terms={"huge": "1e200 + x"})
    with pytest.raises(RewardError, match=r"the term huge is 1e\+200, out of range, at the obs"):
        RewardKernel(ENVIRONMENT, config, 0.99)(one_step())


@pytest.mark.parametrize("values", [[np.inf], [-np.inf], [np.nan]])
def test_sums_that_are_not_finite_are_called_so(values: list[float]) -> None:
    with pytest.raises(ArithmeticError, match="the return is not finite; lower the weights"):
        check_sums("return", np.array(values), np.array(values))


@properties
@given(arrays(np.float64, 4, elements=st.floats(-1e6, 1e6)))
def test_check_identity_allows_only_rounding(values: Array) -> None:
    check_sums("return", values, values * (1 + 1e-12))
    off = values.copy()
    off[2] += 1e-5 + 1e-6 * abs(off[2])
    with pytest.raises(ArithmeticError, match="the return was recorded as"):
        check_sums("return", values, off)


def test_check_identity_refuses_nan() -> None:
    with pytest.raises(ArithmeticError):
        check_sums("return", np.array([np.nan]), np.array([np.nan]))
