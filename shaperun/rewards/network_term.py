"""A small network over observations as a term: numbers in a study file, and nothing that runs."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, model_validator

from shaperun.common.validation import STRICT
from shaperun.envs.base import Array, Term

Numbers = Annotated[list[FiniteFloat], Field(min_length=1, max_length=256)]


class Layer(BaseModel):
    """`units` numbers out of as many as each row of `weights` has."""

    model_config = STRICT

    weights: Annotated[list[Numbers], Field(min_length=1, max_length=64)] = Field(
        description="A row for each unit, a number in it for each input."
    )
    bias: Numbers = Field(description="A number for each unit.")

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        if len({len(row) for row in self.weights}) > 1:
            raise ValueError("the rows of weights are not equally long")
        if len(self.bias) != len(self.weights):
            raise ValueError("bias has a number for each row of weights")
        return self

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        return len(self.weights[0])


class NetworkTerm(BaseModel):
    """A term that is a network of the state, with tanh between its layers."""

    model_config = STRICT

    kind: Literal["network"]
    layers: Annotated[list[Layer], Field(min_length=1, max_length=3)] = Field(
        description="From the observation to one number."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        for number, (one, following) in enumerate(pairwise(self.layers), start=1):
            if len(one.bias) != following.inputs:
                raise ValueError(
                    f"layer {number} has {len(one.bias)} units, and layer {number + 1} takes "
                    f"{following.inputs}"
                )
        if len(self.layers[-1].bias) != 1:
            raise ValueError("the last layer has one unit: a term is one number")
        return self

    @property
    def sizes(self) -> list[int]:
        """Of the observation, the layers between, and what comes out."""
        return [self.layers[0].inputs, *(len(layer.bias) for layer in self.layers)]


def network_term(name: str, network: NetworkTerm) -> Term:
    """The term of a network: observations (N, size) to values (N,).

    It reckons a column at a time and never by a product of matrices, whose last bits would depend
    on how many rows there are: what a step is paid must not depend on its company.
    """
    layers = [(np.array(layer.weights), np.array(layer.bias)) for layer in network.layers]

    def function(obs: Array) -> Array:
        values = np.asarray(obs, dtype=np.float64)
        for number, (weights, bias) in enumerate(layers):
            if number:
                values = np.tanh(values)
            values = sum(
                (values[:, k, None] * column for k, column in enumerate(weights.T)),
                start=np.broadcast_to(bias, (len(values), len(bias))),
            )
        return values[:, 0]

    shape = "–".join(map(str, network.sizes))
    return Term(name, f"A network of the state, {shape}.", function, state_only=True)
