"""Terms that are small networks of the state, with weights written out in the study file."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from shaperun.common.validation import Bounded, Model
from shaperun.envs.base import Array, Term

Numbers = Annotated[list[Bounded], Field(min_length=1, max_length=256)]


class Layer(Model):
    """Linear layer with one unit per row of weights."""

    weights: Annotated[list[Numbers], Field(min_length=1, max_length=64)] = Field(
        description="One row per unit, with one number per input."
    )
    bias: Numbers = Field(description="One number per unit.")

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        if len({len(row) for row in self.weights}) > 1:
            raise ValueError("all rows of weights must have the same length")
        if len(self.bias) != len(self.weights):
            raise ValueError("bias must have one number per row of weights")
        return self

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return len(self.weights[0])


class NetworkTerm(Model):
    """Network of the state, with tanh between its layers."""

    kind: Literal["network"]
    layers: Annotated[list[Layer], Field(min_length=1, max_length=3)] = Field(
        description="Layers from the observation to one number."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        for number, (one, following) in enumerate(pairwise(self.layers), start=1):
            if len(one.bias) != following.inputs:
                raise ValueError(
                    f"layer {number} has {len(one.bias)} units, but layer {number + 1} takes "
                    f"{following.inputs} inputs"
                )
        if len(self.layers[-1].bias) != 1:
            raise ValueError("the last layer must have one unit: a term is one number")
        return self

    @property
    def sizes(self) -> list[int]:
        """Number of inputs and number of units of each layer."""
        return [self.layers[0].inputs, *(len(layer.bias) for layer in self.layers)]


def network_term(name: str, network: NetworkTerm) -> Term:
    """Return the term of a network: observations (N, size) to values (N,).

    It sums column by column: the last bits of a matrix product depend on the number of rows, and a
    step must have the same reward in any batch.
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
