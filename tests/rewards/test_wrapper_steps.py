"""Previous actions, and the positions of errors, in the wrappers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError
from shaperun.rewards.wrapper import VectorRewardShapingWrapper
from tests.helpers.counter import CHOICES, LENGTHS, THROTTLES, near, single, vector

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


def test_error_in_a_vector_environment_without_a_known_row_has_no_position() -> None:
    config = RewardConfig(mode="add", terms={"own": lambda step: [0.0]}, weights={"own": 1.0})
    env = vector(config, [(1, 2), (3,)], AutoresetMode.SAME_STEP)
    env.reset()
    with pytest.raises(
        RewardError, match=r"expected an array of shape \(2,\), not \(1,\)$"
    ) as error:
        take_steps(env, 1)
    assert isinstance(error.value.__cause__, ValueError)


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
