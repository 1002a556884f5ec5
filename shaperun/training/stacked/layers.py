"""Layers of R runs as batched products, with gradients that are written out.

Every matrix has a run's part in a place of its own, R first; B is the size of a minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

Backward = Callable[[Tensor], Tensor]
"""The gradient by what a function was given, from the gradient by what it returned."""

Activation = Callable[[Tensor], tuple[Tensor, Backward]]
Product = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Matrices (R, N, K) times matrices (R, K, M), put into a third argument (R, N, M)."""


class Kernels(NamedTuple):
    """What most of the time of an update goes into."""

    product: Product
    tanh: Activation


@dataclass(frozen=True)
class StackedLayer:
    """A linear layer of R runs: weight (R, outputs, inputs), bias (R, outputs), their gradients."""

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    product: Product

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (R, B, outputs) of inputs (R, B, inputs)."""
        outputs = inputs.new_empty((*inputs.shape[:2], self.weight.shape[1]))
        return self.product(inputs, self.weight.transpose(1, 2), outputs).add_(self.bias[:, None])

    def backward(self, inputs: Tensor, gradient: Tensor) -> None:
        """Put down the gradient of the parameters, given that of the outputs."""
        self.product(gradient.transpose(1, 2), inputs, self.weight_gradient)
        torch.sum(gradient, 1, out=self.bias_gradient)

    def gradient_by_inputs(self, gradient: Tensor) -> Tensor:
        """The gradient by the inputs, given that by the outputs."""
        by_inputs = gradient.new_empty((*gradient.shape[:2], self.weight.shape[2]))
        return self.product(gradient, self.weight, by_inputs)


@dataclass(frozen=True)
class Pass:
    """What a network's backward pass needs of its forward pass: by layer, inputs and activation."""

    inputs: list[Tensor]
    activations: list[Backward]


@dataclass(frozen=True)
class Network:
    """Layers with an activation between them; `outputs` of the last one's columns are meant."""

    layers: list[StackedLayer]
    activation: Activation
    outputs: int

    def forward(self, inputs: Tensor) -> tuple[Tensor, Pass]:
        """Outputs (R, B, outputs) of inputs (R, B, F)."""
        made = Pass([inputs], [])
        *first, last = self.layers
        for layer in first:
            hidden, backward = self.activation(layer.forward(made.inputs[-1]))
            made.inputs.append(hidden)
            made.activations.append(backward)
        return last.forward(made.inputs[-1])[..., : self.outputs], made

    def backward(self, made: Pass, gradient: Tensor) -> None:
        """Put down the gradients of all parameters, given that of the outputs (R, B, outputs)."""
        widened = self.layers[-1].bias.shape[1] - self.outputs
        gradient = nn.functional.pad(gradient, (0, widened)) if widened else gradient
        for depth in reversed(range(len(self.layers))):
            layer = self.layers[depth]
            layer.backward(made.inputs[depth], gradient)
            if depth:
                gradient = made.activations[depth - 1](layer.gradient_by_inputs(gradient))


class StackedNetworks(Protocol):
    """The actors and critics of R runs."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Actors' outputs (R, B, K) and values (R, B) for features (R, B, F), and how it went."""
        ...

    def backward(self, made: Any, of_outputs: Tensor, of_values: Tensor) -> None:
        """Put down the gradients of all parameters, given those of outputs and values."""
        ...


@dataclass(frozen=True)
class SeparateNetworks:
    """Actors and critics of different sizes."""

    actor: Network
    critic: Network

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, tuple[Pass, Pass]]:
        """One after the other."""
        outputs, actor = self.actor.forward(features)
        values, critic = self.critic.forward(features)
        return outputs, values[..., 0], (actor, critic)

    def backward(self, made: tuple[Pass, Pass], of_outputs: Tensor, of_values: Tensor) -> None:
        """One after the other."""
        self.actor.backward(made[0], of_outputs)
        self.critic.backward(made[1], of_values[..., None])


@dataclass(frozen=True)
class PairedNetworks:
    """Actors and critics of the same sizes as 2R networks: half the products, twice as large."""

    both: Network
    outputs: int

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Pass]:
        """All at once."""
        outputs, made = self.both.forward(features[:, None].expand(-1, 2, -1, -1).flatten(0, 1))
        actor, critic = outputs.view(-1, 2, *outputs.shape[1:]).unbind(1)
        return actor[..., : self.outputs].contiguous(), critic[..., 0].contiguous(), made

    def backward(self, made: Pass, of_outputs: Tensor, of_values: Tensor) -> None:
        """All at once."""
        runs, count, _ = of_outputs.shape
        gradient = of_outputs.new_zeros((runs, 2, count, self.both.outputs))
        gradient[:, 0, :, : self.outputs] = of_outputs
        gradient[:, 1, :, 0] = of_values
        self.both.backward(made, gradient.flatten(0, 1))


def kernels_for(device: torch.device) -> Kernels:
    """Those of torch on an accelerator; on the CPU those of numpy, which are faster when small.

    A product with eight columns takes it a third of the time, tanh less than a tenth.
    """
    if device.type == "cpu":
        return Kernels(_product_by_numpy, partial(_tanh, _tanh_by_numpy))
    return Kernels(_product, partial(_tanh, torch.tanh_))


def _product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    return torch.bmm(left, right, out=out)


def _product_by_numpy(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    np.matmul(left.numpy(), right.numpy(), out=out.numpy())
    return out


def _tanh_by_numpy(inputs: Tensor) -> Tensor:
    np.tanh(inputs.numpy(), out=inputs.numpy())
    return inputs


def _tanh(tanh: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Tensor, Backward]:
    """Tanh in place, of what nobody else needs; and so is its backward pass."""
    outputs = tanh(inputs)
    return outputs, lambda gradient: torch.addcmul(
        gradient, gradient * outputs, outputs, value=-1, out=gradient
    )


def activation_of(kind: type[nn.Module], kernels: Kernels) -> Activation:
    """The activation of a kind, in place where there is a kernel for it."""
    return kernels.tanh if kind is nn.Tanh else partial(_recorded, kind())


def _recorded(function: nn.Module, inputs: Tensor) -> tuple[Tensor, Backward]:
    """Any other activation, of which torch knows the derivative."""
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_()
        outputs: Tensor = function(inputs)
    return outputs.detach(), lambda gradient: torch.autograd.grad(outputs, inputs, gradient)[0]
