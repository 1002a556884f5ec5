"""Networks as terms: what they come to, whatever their company, and which will not do."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shaperun.common.errors import UserError
from shaperun.envs.builtin import environments
from shaperun.rewards import network_term
from shaperun.rewards.kernel import RewardKernel
from shaperun.rewards.network_term import NetworkTerm
from shaperun.study.models import Study, parse_study


def of_sizes(*sizes: int, seed: int = 0) -> NetworkTerm:
    """A network with numbers by chance."""
    luck = np.random.default_rng(seed)
    layers = [
        {"weights": luck.normal(size=(units, inputs)).tolist(), "bias": luck.normal(size=units)}
        for inputs, units in pairwise(sizes)
    ]
    return NetworkTerm.model_validate(
        {"kind": "network", "layers": [row | {"bias": row["bias"].tolist()} for row in layers]}
    )


@given(st.sampled_from([(4, 1), (4, 16, 1), (3, 5, 7, 1)]), st.integers(0, 99))
def test_it_is_the_network_that_it_says(sizes: tuple[int, ...], seed: int) -> None:
    given_, obs = (
        of_sizes(*sizes, seed=seed),
        np.random.default_rng(seed).normal(size=(9, sizes[0])),
    )
    values = obs
    for number, layer in enumerate(given_.layers):
        values = np.tanh(values) if number else values
        values = values @ np.array(layer.weights).T + np.array(layer.bias)
    assert given_.sizes == list(sizes)
    assert network_term.network_term("value", given_).function(obs) == pytest.approx(values[:, 0])


@given(st.integers(1, 70), st.integers(0, 99))
def test_what_a_state_is_worth_does_not_depend_on_its_company(rows: int, seed: int) -> None:
    """To the last bit: a run is the same alone and in a cohort."""
    obs = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    function = network_term.network_term("value", of_sizes(8, 16, 1, seed=seed)).function
    alone = np.concatenate([function(obs[row : row + 1]) for row in range(rows)])
    assert (function(obs) == alone).all()


def study(given_: NetworkTerm, mode: str = "potential") -> Study:
    """A study whose arm weighs a network."""
    arm = {"mode": mode, "terms": {"value": given_.model_dump()}, "weights": {"value": 2.0}}
    return parse_study(
        {
            "study": "net",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1000},
            "arms": {"default": {}, "learned": arm},
        }
    )


def test_it_may_be_a_potential() -> None:
    given_ = of_sizes(4, 3, 1)
    arm = study(given_).arms["learned"]
    kernel = RewardKernel(environments()["CartPole-v1"], arm, 0.9)
    obs = np.random.default_rng(1).normal(size=(5, 4))
    assert kernel.potential(obs) == pytest.approx(
        2 * network_term.network_term("", given_).function(obs)
    )
    assert "A network of the state, 4–3–1." in {term.formula for term in kernel.terms}


def test_it_must_take_what_the_environment_shows() -> None:
    with pytest.raises((UserError, ValidationError), match="takes 3 numbers, and an observation"):
        study(of_sizes(3, 1))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([], "at least 1 item"),
        ([{"weights": [[1.0], [1.0, 2.0]], "bias": [0.0, 0.0]}], "not equally long"),
        ([{"weights": [[1.0]], "bias": [0.0, 0.0]}], "a number for each row"),
        ([{"weights": [[1.0]] * 2, "bias": [0.0] * 2}], "the last layer has one unit"),
        (
            [
                {"weights": [[1.0]] * 2, "bias": [0.0] * 2},
                {"weights": [[1.0] * 3], "bias": [0.0]},
            ],
            "layer 1 has 2 units, and layer 2 takes 3",
        ),
        ([{"weights": [[float("inf")]], "bias": [0.0]}], "finite"),
        ([{"weights": [[1.0] * 300], "bias": [0.0]}], "at most 256"),
    ],
)
def test_what_is_no_network_is_refused(layers: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NetworkTerm.model_validate({"kind": "network", "layers": layers})
