"""Terms that read info or the episode so far: formulas and Python functions, in every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from shaperun.envs.base import Transition
from shaperun.envs.memory import Recall
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.expression import expression_term
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.rewards.wrapper import RewardShapingWrapper
from tests.envs.test_info import Reporter
from tests.helpers.formulas import environment, error_of, transitions

Array = npt.NDArray[np.float64]


def split(batch: Transition) -> list[npt.NDArray[np.intp]]:
    """Return the indices of each episode."""
    ends = np.flatnonzero(batch.ended)
    return [i for i in np.split(np.arange(len(batch)), ends + 1) if len(i)]


# Formulas, and their values at the last step of the steps of x and y.
MEMORY: dict[str, Callable[[Array, Array], float]] = {
    "steps()": lambda x, y: len(x),
    "total(x)": lambda x, y: x.sum(),
    "highest(x + y)": lambda x, y: (x + y).max(),
    "lowest(abs(x))": lambda x, y: np.abs(x).min(),
    "mean_so_far(x)": lambda x, y: x.mean(),
    "std_so_far(x + 1000)": lambda x, y: x.std(),
    "previous(x)": lambda x, y: x[-2:][0],
    "changed(x)": lambda x, y: float(x[-1] != x[-2:][0]),
    "previous(x, 7)": lambda x, y: x[-2] if len(x) > 1 else 7.0,
    "x - previous(x, -1) + previous(x)": lambda x, y: (
        x[-1] - (x[-2] if len(x) > 1 else -1.0) + x[-2:][0]
    ),
    "changed(min(x, 0), 0)": lambda x, y: float(min(x[-1], 0) != min([0.0, *x][-2], 0)),
    "steps() in (2, 3)": lambda x, y: float(len(x) in (2, 3)),
    "1 if changed(x) else 2": lambda x, y: 1.0 if x[-1] != x[-2:][0] else 2.0,
    "y - previous(highest(y))": lambda x, y: y[-1] - (y[:-1].max() if len(y) > 1 else y[0]),
    "highest(total(x)) - total(x)": lambda x, y: x.cumsum().max() - x.sum(),
    "max(0, highest(total(x))) - total(x)": lambda x, y: max(0, x.cumsum().max()) - x.sum(),
    "mean_so_far(x) / (std_so_far(x) + 1)": lambda x, y: x.mean() / (x.std() + 1),
}


@pytest.mark.parametrize("text", MEMORY)
def test_memory_of_each_episode(text: str) -> None:
    batch = transitions(60)
    term = expression_term(environment(), "term", text)
    assert term.may_need("memory")
    assert not term.state_only
    values = term(batch)
    x, y = batch.next_obs[:, 0], batch.next_obs[:, 1]
    for steps in split(batch):
        for last in range(len(steps)):
            rows = steps[: last + 1]
            expected = MEMORY[text](x[rows], y[rows])
            assert values[rows[-1]] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("highest(obs)", "highest takes a single number per step; index or reduce it", 0),
        ("1 + highest(x, y)", "highest takes 1 argument, not 2", 4),
        ("steps(x)", "steps takes 0 arguments, not 1", 0),
        ("highest(x, 0)", "highest takes 1 argument, not 2", 0),
        ("previous(x, 0, 1)", "previous takes 1 or 2 arguments, not 3", 0),
        ("changed(x, y)", "the value before the first step must be a constant", 11),
        ("previous(x, action + 1)", "the value before the first step must be a constant", 12),
        ("highest", r"highest is a function; write highest\(…\)", 0),
        ("info", r'info has entries; read one with info\["key"\]', 0),
        ("2 * info[0]", r'numbers by their keys, as in info\["x_velocity"\]', 9),
        ('info.get("a")', r'write info.get\("key", 0\), with the value for steps without it', 0),
        ('info.pop("a", 0)', r'write info.get\("key", 0\)', 0),
        ('info.get("a", x)', "the default must be a number", 14),
        ('x["a"]', "single number", 0),
    ],
)
def test_invalid_formulas(text: str, message: str, offset: int) -> None:
    error = error_of(text)
    with pytest.raises(type(error), match=message):
        raise error
    assert error.offset == offset


@pytest.mark.parametrize("text", ["highest(x)", "x + steps()", 'info["speed"]', "total(1)"])
def test_potentials_refuse_them(text: str) -> None:
    config = RewardConfig(mode="potential", terms={"own": text}, weights={"own": 1.0})
    with pytest.raises(ValueError, match="own depends on more than that"):
        RewardKernel(environment(), config, gamma=0.9)


def shaped(**terms: Any) -> RewardShapingWrapper:
    weights = dict.fromkeys(terms, 1.0)
    return RewardShapingWrapper(Reporter(), RewardConfig(mode="add", terms=terms, weights=weights))


def play(env: gym.Env[Any, Any], steps: int = 5) -> list[dict[str, float]]:
    env.reset(seed=0)
    return [env.step(step % 2)[-1]["reward_components"] for step in range(steps)]


def test_formulas_read_info() -> None:
    terms = {
        "count": 'info["count"] ** 2',
        "nested": 'info["parts"]["action"] - info["parts"].get("none", -2)',
        "laps": 'total(info.get("lap", 0))',
    }
    rows = play(shaped(**terms))
    assert [row["count"] for row in rows] == [1, 4, 9, 16, 25]
    assert [row["nested"] for row in rows] == [2, 3, 2, 3, 2]
    assert [row["laps"] for row in rows] == [0, 0, 1, 1, 1]


def test_missing_key_names_term_episode_and_step() -> None:
    env = shaped(lap='1 if info["count"] < 2 else info["lap"]')
    with pytest.raises(RewardError, match=r"the term lap failed: info has no \"lap\" at this step"):
        play(env)
    env.reset()
    with pytest.raises(RewardError, match=r"\(episode 1, step 0\)"):
        env.step(0)


def speed(transition: Transition) -> Array:
    return 2 * transition.read_info("count")


def drawdown(transition: Transition, memory: Recall) -> Array:
    profit = memory.total("profit", transition.read_info("parts", "action") - 0.25)
    return np.maximum(0, memory.highest("peak", profit)) - profit


def test_functions_read_info_and_remember() -> None:
    profit = "total(info['parts']['action'] - 0.25)"
    formula = f"max(0, highest({profit})) - {profit}"
    rows = play(shaped(speed=speed, drawdown=drawdown, same=formula))
    assert [row["speed"] for row in rows] == [2, 4, 6, 8, 10]
    assert [row["drawdown"] for row in rows] == [0.25, 0, 0.25, 0, 0.25]
    assert [row["same"] for row in rows] == [row["drawdown"] for row in rows]


def test_reset_in_the_middle_of_an_episode_forgets() -> None:
    env = shaped(steps_so_far="steps()")
    for steps in (3, 2):
        rows = play(env, steps)
        assert [row["steps_so_far"] for row in rows] == list(range(1, steps + 1))
