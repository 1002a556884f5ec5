"""Schedules in the kernel and the wrappers, previous actions, and positions of errors."""

from __future__ import annotations

from functools import partial
from itertools import cycle, pairwise
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shaperun.envs.base import Array, Transition
from shaperun.envs.generic import from_spaces
from shaperun.rewards.config import Mode, RewardConfig
from shaperun.rewards.kernel import START, RewardError, RewardKernel
from shaperun.rewards.wrapper import RewardShapingWrapper, VectorRewardShapingWrapper

MODES = list(get_args(Mode))
SPACE = spaces.Box(-np.inf, np.inf, (2,), dtype=np.float64)
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
GAMMA = 0.9

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


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


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


# The wrappers, with an environment whose episodes have given lengths.


class Counter(gym.Env[Any, Any]):
    """Environment that observes step and episode, and truncates every other episode."""

    observation_space = SPACE

    def __init__(self, lengths: tuple[int, ...], action_space: spaces.Space[Any]) -> None:
        self.action_space = action_space
        self._lengths = cycle(lengths)
        self._step, self._episode = 0, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step, self._length = 0, next(self._lengths)
        self._episode += 1
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        done, truncates = self._step == self._length, self._episode % 2 == 1
        return self._obs(), self._step / 2, done and not truncates, done and truncates, {}

    def _obs(self) -> Array:
        return np.array([self._step, self._episode], dtype=np.float64)


CHOICES = spaces.Discrete(3)
THROTTLES = spaces.Box(-1, 1, (2,), dtype=np.float64)
LENGTHS = [(3, 1, 4), (2, 5), (1, 1, 6)]
TOTAL = 30


def single(
    config: RewardConfig, lengths: tuple[int, ...], total: int | None = TOTAL, **more: Any
) -> RewardShapingWrapper:
    env = Counter(lengths, more.get("action_space", CHOICES))
    return RewardShapingWrapper(env, config, gamma=GAMMA, total_timesteps=total)


def vector(
    config: RewardConfig,
    lengths: list[tuple[int, ...]],
    mode: AutoresetMode,
    total: int | None = TOTAL,
    **more: Any,
) -> VectorRewardShapingWrapper:
    space = more.get("action_space", CHOICES)
    envs = SyncVectorEnv([partial(Counter, one, space) for one in lengths], autoreset_mode=mode)
    return VectorRewardShapingWrapper(envs, config, gamma=GAMMA, total_timesteps=total)


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


# Previous actions, and positions of errors.

LAST_ACTION = RewardConfig(
    mode="replace", weights={"before": 1.0}, terms={"before": "norm(last_action)"}
)
SPACES = pytest.mark.parametrize("space", [CHOICES, THROTTLES], ids=["choices", "throttles"])


def actions_in(space: spaces.Space[Any], count: int) -> npt.NDArray[Any]:
    rng = np.random.default_rng(7)
    if space is CHOICES:
        return rng.integers(3, size=(count, 3))
    return rng.uniform(-1, 1, (count, 3, 2))


def action_norm(action: Any) -> float:
    return float(np.linalg.norm(np.atleast_1d(action)))


@SPACES
def test_previous_action_in_a_single_environment(space: spaces.Space[Any]) -> None:
    env = single(LAST_ACTION, (3, 1, 4), action_space=space)
    expected, result, before = [], [], None
    env.reset()
    for action in actions_in(space, 20)[:, 0]:
        _, seen, terminated, truncated, _ = env.step(action)
        result.append(seen)
        expected.append(action_norm(action if before is None else before))
        before = action
        if terminated or truncated:
            env.reset()
            before = None
    assert result == near(expected)


def test_reset_clears_the_previous_action() -> None:
    env = single(LAST_ACTION, (9,))
    for actions, expected in [((2, 1, 0), [2, 2, 1]), ((0, 1), [0, 0]), ((), []), ((1,), [1])]:
        env.reset()
        assert [env.step(action)[1] for action in actions] == expected


@SPACES
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_previous_action_in_a_vector_environment(
    space: spaces.Space[Any], mode: AutoresetMode
) -> None:
    env = vector(LAST_ACTION, LENGTHS, mode, action_space=space)
    env.reset()
    before: list[Any] = [None] * 3
    resets, buffer = np.zeros(3, dtype=bool), np.zeros_like(actions_in(space, 1)[0])
    for actions in actions_in(space, 40):
        buffer[:] = actions  # callers may reuse the array of actions
        _, seen, terminated, truncated, _ = env.step(buffer)
        expected = [
            0.0
            if resets[copy]
            else action_norm(actions[copy] if before[copy] is None else before[copy])
            for copy in range(3)
        ]
        assert seen.tolist() == near(expected)
        done = terminated | truncated
        first = done if mode == AutoresetMode.SAME_STEP else resets
        before = [None if first[copy] else actions[copy] for copy in range(3)]
        resets = done if mode == AutoresetMode.NEXT_STEP else resets


def test_previous_action_after_resetting_all_environments() -> None:
    env = vector(LAST_ACTION, [(9,), (9,)], AutoresetMode.SAME_STEP)
    env.reset()
    env.step(np.array([2, 1]))
    assert env.step(np.array([0, 0]))[1].tolist() == [2, 1]
    env.reset()
    assert env.step(np.array([1, 0]))[1].tolist() == [1, 0]
    assert env.step(np.array([2, 2]))[1].tolist() == [1, 0]


# Episodes fail at their third step; the lengths determine which episode that is.
FAILING = RewardConfig(mode="add", weights={"own": 1.0}, terms={"own": "1 / (obs[0] - 3)"})
EPISODES = [((5,), 0), ((2, 1, 5), 2), ((1, 2, 1, 2, 3), 4)]


@pytest.mark.parametrize(("lengths", "episode"), EPISODES)
def test_error_names_episode_and_step(lengths: tuple[int, ...], episode: int) -> None:
    env = single(FAILING, lengths)
    for number, length in enumerate(lengths):
        env.reset()
        for step in range(length):
            if (number, step) == (episode, 2):
                message = rf"the term own is inf at .* \(episode {episode}, step 2\)$"
                with pytest.raises(RewardError, match=message):
                    env.step(0)
                return
            env.step(0)
    pytest.fail("no error was raised")


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize(("lengths", "episode"), EPISODES)
def test_error_in_a_vector_environment_names_its_episode_and_step(
    mode: AutoresetMode, lengths: tuple[int, ...], episode: int
) -> None:
    env = vector(FAILING, [(1, 2), lengths], mode)
    env.reset()
    with pytest.raises(RewardError) as caught:
        take_steps(env, 30)
    assert str(caught.value).startswith("the term own is inf at")
    assert str(caught.value).endswith(f"(episode {episode}, step 2)")


def take_steps(env: VectorRewardShapingWrapper, steps: int) -> None:
    for _ in range(steps):
        env.step(np.zeros(env.num_envs, dtype=np.int64))


def test_error_of_a_function_has_a_position() -> None:
    python = {"own": {"python": "json:nothing"}}
    config = RewardConfig.model_validate({"terms": python})
    env = single(config, (5,))
    env.reset()
    with pytest.raises(RewardError, match=r"the term own failed: .* \(episode 0, step 0\)$"):
        env.step(0)
