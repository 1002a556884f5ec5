"""Memory of the episode so far: its values, and that they do not depend on batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaperun.envs.memory import EpisodeMemory, Recall

# What each method gives at the last of an episode's steps.
EXPECTED: dict[str, Callable[[Any], float]] = {
    "total": np.sum,
    "highest": np.max,
    "lowest": np.min,
    "first": lambda x: x[0],
    "previous": lambda x: x[-2] if len(x) > 1 else x[0],
    "changed": lambda x: float(len(x) > 1),
    "steps": len,
    "mean_so_far": np.mean,
    "std_so_far": np.std,
}
each_method = pytest.mark.parametrize("method", EXPECTED)


def evaluate(
    memory: EpisodeMemory, method: str, values: Any, ended: Any
) -> tuple[np.ndarray, Recall]:
    """Return values (T, N) of a method."""
    recall = memory.recall(ended.reshape(-1))
    result = getattr(recall, method)("x", values.reshape(-1))
    return result.reshape(values.shape), recall


@st.composite
def episodes(draw: Any) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draw values and ends (T, N), and the numbers of steps of batches."""
    batches = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    shape = sum(batches), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return rng.normal(size=shape), rng.random(shape) < 0.3, batches


@each_method
@given(episodes())
def test_values_are_those_of_each_episode(method: str, drawn: Any) -> None:
    values, ended, _ = drawn
    result, _ = evaluate(EpisodeMemory(values.shape[1]), method, values, ended)
    for copy in range(values.shape[1]):
        start = 0
        for step in range(len(values)):
            expected = EXPECTED[method](values[start : step + 1, copy])
            assert result[step, copy] == pytest.approx(expected, rel=1e-12, abs=1e-12)
            start = step + 1 if ended[step, copy] else start


@each_method
@given(episodes())
def test_batches_do_not_change_a_bit(method: str, drawn: Any) -> None:
    values, ended, batches = drawn
    whole, _ = evaluate(EpisodeMemory(values.shape[1]), method, values, ended)
    memory, parts, begin = EpisodeMemory(values.shape[1]), [], 0
    for size in batches:
        rows = slice(begin, begin + size)
        part, recall = evaluate(memory, method, values[rows], ended[rows])
        memory.commit(recall)
        restored = EpisodeMemory(values.shape[1])
        restored.set_state(memory.get_state())
        memory, begin = restored, begin + size
        parts.append(part)
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@given(episodes())
def test_calls_with_one_name_are_independent(drawn: Any) -> None:
    values, ended, batches = drawn
    memory, begin = EpisodeMemory(values.shape[1]), 0
    calls = [(method, sign) for sign in (1, -1) for method in EXPECTED]
    alone = {call: EpisodeMemory(values.shape[1]) for call in calls}
    for size in batches:
        rows = slice(begin, begin + size)
        recall = memory.recall(ended[rows].reshape(-1))
        for method, sign in calls:
            part = sign * values[rows]
            single, own = evaluate(alone[method, sign], method, part, ended[rows])
            alone[method, sign].commit(own)
            assert getattr(recall, method)("x", part.reshape(-1)).tobytes() == single.tobytes()
        memory.commit(recall)
        begin += size


def test_nothing_is_remembered_before_the_commit() -> None:
    memory = EpisodeMemory()
    values, ended = np.ones((3, 1)), np.zeros((3, 1), bool)
    for _ in range(2):
        result, recall = evaluate(memory, "total", values, ended)
        assert result[:, 0].tolist() == [1, 2, 3]
    memory.commit(recall)
    assert evaluate(memory, "total", values, ended)[0][:, 0].tolist() == [4, 5, 6]


def test_reset_forgets_selected_environments() -> None:
    memory = EpisodeMemory(2)
    values, ended = np.ones((1, 2)), np.zeros((1, 2), bool)
    memory.commit(evaluate(memory, "total", values, ended)[1])
    memory.reset(np.array([True, False]))
    assert evaluate(memory, "total", values, ended)[0].tolist() == [[1, 2]]


def test_state_of_an_earlier_version_is_refused() -> None:
    state = {"starting": np.ones(1, bool), "carried": {"term:x": np.zeros(1)}}
    with pytest.raises(ValueError, match="earlier version"):
        EpisodeMemory().set_state(state)
    EpisodeMemory().set_state({**state, "carried": {}})


def test_state_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="another number of environments"):
        EpisodeMemory(2).set_state(EpisodeMemory(3).get_state())
