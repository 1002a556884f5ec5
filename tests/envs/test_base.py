"""Transitions, terms, and how an environment collects its terms."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shaperun.envs.base import Array, Environment, Transition


def transition(n: int = 3) -> Transition:
    ramp = np.arange(n, dtype=np.float64)
    return Transition(
        obs=np.stack([ramp, ramp], axis=1),
        action=np.arange(n),
        next_obs=np.stack([ramp + 10, ramp - 10], axis=1),
        env_reward=ramp / 2,
        terminated=ramp == 1,
        truncated=ramp == 2,
        last_action=np.arange(n) - 1,
    )


def empty_environment() -> Environment:
    return Environment(
        id="Nowhere-v0",
        observations=("x", "y"),
        outcome=lambda end: np.full(len(end), "over"),
        outcomes={"over": None},
    )


def test_length_of_a_transition_is_its_number_of_rows() -> None:
    assert len(transition(3)) == 3
    assert len(transition(0)) == 0


@pytest.mark.parametrize("rows", [np.array([False, True, True]), np.array([1, 2])])
def test_rows_are_taken_by_mask_or_index(rows: np.ndarray) -> None:
    part = transition().take(rows)
    assert part.obs.tolist() == [[1, 1], [2, 2]]
    assert part.action.tolist() == [1, 2]
    assert part.next_obs.tolist() == [[11, -9], [12, -8]]
    assert part.env_reward.tolist() == [0.5, 1.0]
    assert part.terminated.tolist() == [True, False]
    assert part.truncated.tolist() == [False, True]


def test_state_terms_use_the_next_state_and_action_terms_the_transition() -> None:
    environment = empty_environment()

    @environment.state_term
    def height(obs: Array) -> Array:
        """y, the height."""
        return obs[:, 1]

    @environment.action_term
    def effort(t: Transition) -> Array:
        """−action."""
        return -t.action.astype(np.float64)

    assert list(environment.terms) == ["height", "effort"]
    assert environment.terms["height"].formula == "y, the height."
    assert environment.terms["height"].state_only
    assert not environment.terms["effort"].state_only
    assert environment.terms["height"](transition()).tolist() == [-10, -9, -8]
    assert environment.terms["effort"](transition()).tolist() == [0, -1, -2]
    assert height(np.array([[1.0, 2.0]])) == 2.0  # the decorator returns the function


def test_duplicate_term_is_refused() -> None:
    environment = empty_environment()

    @environment.state_term
    def height(obs: Array) -> Array:
        return obs[:, 1]

    with pytest.raises(ValueError, match="Nowhere-v0 already has a term named 'height'"):
        environment.action_term(height)  # type: ignore[arg-type]


def test_environments_do_not_share_their_terms() -> None:
    one, other = empty_environment(), empty_environment()
    one.state_term(lambda obs: obs[:, 0])
    assert not other.terms


def test_outcomes_see_bytes_as_numbers() -> None:
    def outcome(end: Transition) -> npt.NDArray[np.str_]:
        return np.where(end.next_obs[:, 0] - 20 < 0, "dark", "light")

    known = Environment("Camera-v0", ("pixel",), outcome, {"dark": False, "light": True})
    obs: Any = np.array([[10], [30]], np.uint8)
    actions, ended = np.zeros(2, dtype=int), np.ones(2, dtype=bool)
    step = Transition(obs, actions, obs, np.ones(2), ended, ~ended, actions)
    assert known.name_outcomes(step).tolist() == ["dark", "light"]
    assert known.built_in["dark"](step).tolist() == [1, 0]
