"""Networks as terms: values, independence of the batch, and invalid networks."""

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


def random_network(*sizes: int, seed: int = 0) -> NetworkTerm:
    rng = np.random.default_rng(seed)
    layers = [
        {
            "weights": rng.normal(size=(units, inputs)).tolist(),
            "bias": rng.normal(size=units).tolist(),
        }
        for inputs, units in pairwise(sizes)
    ]
    return NetworkTerm.model_validate({"kind": "network", "layers": layers})


@given(st.sampled_from([(4, 1), (4, 16, 1), (3, 5, 7, 1)]), st.integers(0, 99))
def test_values_match_matrix_products(sizes: tuple[int, ...], seed: int) -> None:
    network = random_network(*sizes, seed=seed)
    obs = values = np.random.default_rng(seed).normal(size=(9, sizes[0]))
    for number, layer in enumerate(network.layers):
        values = np.tanh(values) if number else values
        values = values @ np.array(layer.weights).T + np.array(layer.bias)
    assert network.sizes == list(sizes)
    assert network_term.network_term("value", network).function(obs) == pytest.approx(values[:, 0])


@given(st.integers(1, 70), st.integers(0, 99))
def test_value_does_not_depend_on_the_batch(rows: int, seed: int) -> None:
    """Values are equal to the last bit: a run is the same alone and in a cohort."""
    obs = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    function = network_term.network_term("value", random_network(8, 16, 1, seed=seed)).function
    one_by_one = np.concatenate([function(obs[row : row + 1]) for row in range(rows)])
    assert (function(obs) == one_by_one).all()


def study(network: NetworkTerm, mode: str = "potential") -> Study:
    arm = {"mode": mode, "terms": {"value": network.model_dump()}, "weights": {"value": 2.0}}
    return parse_study(
        {
            "study": "net",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1000},
            "arms": {"default": {}, "learned": arm},
        }
    )


def test_network_as_potential() -> None:
    network = random_network(4, 3, 1)
    arm = study(network).arms["learned"]
    kernel = RewardKernel(environments()["CartPole-v1"], arm, 0.9)
    obs = np.random.default_rng(1).normal(size=(5, 4))
    assert kernel.potential(obs) == pytest.approx(
        2 * network_term.network_term("", network).function(obs)
    )
    assert "A network of the state, 4–3–1." in {term.formula for term in kernel.terms}


def test_network_of_another_size_is_refused() -> None:
    with pytest.raises((UserError, ValidationError), match="takes 3 inputs, but observations"):
        study(random_network(3, 1))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least 1 item"),
        ([{"weights": [[1.0], [1.0, 2.0]], "bias": [0.0, 0.0]}], "must have the same length"),
        ([{"weights": [[1.0]], "bias": [0.0, 0.0]}], "one number per row"),
        ([{"weights": [[1.0]] * 2, "bias": [0.0] * 2}], "the last layer must have one unit"),
        (
            [
                {"weights": [[1.0]] * 2, "bias": [0.0] * 2},
                {"weights": [[1.0] * 3], "bias": [0.0]},
            ],
            "layer 1 has 2 units, but layer 2 takes 3 inputs",
        ),
        ([{"weights": [[float("inf")]], "bias": [0.0]}], "finite"),
        ([{"weights": [[1.0] * 300], "bias": [0.0]}], "at most 256"),
    ],
)
def test_invalid_network_is_refused(layers: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NetworkTerm.model_validate({"kind": "network", "layers": layers})
