"""Layers of R runs as batched products, with gradients written out.

The first dimension of every tensor is R, the run; B is the size of a minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Backward = Callable[[Tensor], Tensor]
"""Gradient by a function's output -> gradient by its input."""

Activation = Callable[[Tensor], tuple[Tensor, Backward]]
Product = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Write the product of matrices (R, N, K) and (R, K, M) into a third argument (R, N, M)."""


class Kernels(NamedTuple):
    """The functions that take most of the time of an update."""

    product: Product
    tanh: Activation


@dataclass(frozen=True)
class StackedLayer:
    """A linear layer of R runs: weight (R, outputs, inputs), bias (R, outputs), gradients."""

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor
    product: Product

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs (R, B, outputs) of inputs (R, B, inputs)."""
        outputs = inputs.new_empty((*inputs.shape[:2], self.weight.shape[1]))
        return self.product(inputs, self.weight.transpose(1, 2), outputs).add_(self.bias[:, None])

    def backward(self, inputs: Tensor, gradient: Tensor) -> None:
        """Write the gradient by the parameters, given that by the outputs."""
        self.product(gradient.transpose(1, 2), inputs, self.weight_gradient)
        torch.sum(gradient, 1, out=self.bias_gradient)

    def inputs_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the inputs, given that by the outputs."""
        result = gradient.new_empty((*gradient.shape[:2], self.weight.shape[2]))
        return self.product(gradient, self.weight, result)


@dataclass(frozen=True)
class ForwardPass:
    """Inputs and activations by layer, for the backward pass."""

    inputs: list[Tensor]
    activations: list[Backward]


@dataclass(frozen=True)
class Network:
    """Layers with an activation between them; the last one is padded beyond `outputs` columns."""

    layers: list[StackedLayer]
    activation: Activation
    outputs: int

    def forward(self, inputs: Tensor) -> tuple[Tensor, ForwardPass]:
        """Return outputs (R, B, outputs) of inputs (R, B, F)."""
        state = ForwardPass([inputs], [])
        *hidden_layers, last = self.layers
        for layer in hidden_layers:
            hidden, backward = self.activation(layer.forward(state.inputs[-1]))
            state.inputs.append(hidden)
            state.activations.append(backward)
        return last.forward(state.inputs[-1])[..., : self.outputs], state

    def backward(self, state: ForwardPass, gradient: Tensor) -> None:
        """Write the gradient by all parameters, given that by the outputs (R, B, outputs)."""
        padding = self.layers[-1].bias.shape[1] - self.outputs
        gradient = nn.functional.pad(gradient, (0, padding)) if padding else gradient
        for depth in reversed(range(len(self.layers))):
            layer = self.layers[depth]
            layer.backward(state.inputs[depth], gradient)
            if depth:
                gradient = state.activations[depth - 1](layer.inputs_gradient(gradient))


@dataclass(frozen=True)
class SeparateNetworks:
    """Actors and critics of different sizes."""

    actor: Network
    critic: Network

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, tuple[ForwardPass, ForwardPass]]:
        """Return actors' outputs (R, B, K), values (R, B), and the state for `backward`."""
        outputs, actor = self.actor.forward(features)
        values, critic = self.critic.forward(features)
        return outputs, values[..., 0], (actor, critic)

    def backward(
        self, state: tuple[ForwardPass, ForwardPass], by_outputs: Tensor, by_values: Tensor
    ) -> None:
        """Write the gradient by all parameters, given those by outputs and values."""
        actor, critic = state
        self.actor.backward(actor, by_outputs)
        self.critic.backward(critic, by_values[..., None])


@dataclass(frozen=True)
class PairedNetworks:
    """Actors and critics of the same sizes as 2R networks: half the products, twice as large."""

    networks: Network
    outputs: int

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, ForwardPass]:
        """Return actors' outputs (R, B, K), values (R, B), and the state for `backward`."""
        inputs = features[:, None].expand(-1, 2, -1, -1).flatten(0, 1)
        outputs, state = self.networks.forward(inputs)
        actor, critic = outputs.view(-1, 2, *outputs.shape[1:]).unbind(1)
        return actor[..., : self.outputs].contiguous(), critic[..., 0].contiguous(), state

    def backward(self, state: ForwardPass, by_outputs: Tensor, by_values: Tensor) -> None:
        """Write the gradient by all parameters, given those by outputs and values."""
        runs, count, _ = by_outputs.shape
        gradient = by_outputs.new_zeros((runs, 2, count, self.networks.outputs))
        gradient[:, 0, :, : self.outputs] = by_outputs
        gradient[:, 1, :, 0] = by_values
        self.networks.backward(state, gradient.flatten(0, 1))


StackedNetworks = SeparateNetworks | PairedNetworks


def choose_kernels(device: torch.device) -> Kernels:
    """Return torch's kernels on an accelerator; on the CPU numpy's, which are faster when small.

    A product with eight columns takes numpy a third of the time, tanh less than a tenth.
    """
    if device.type == "cpu":
        return Kernels(_numpy_product, partial(_tanh, _numpy_tanh))
    return Kernels(_torch_product, partial(_tanh, torch.tanh_))


def _torch_product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    return torch.bmm(left, right, out=out)


def _numpy_product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    np.matmul(left.numpy(), right.numpy(), out=out.numpy())
    return out


def _numpy_tanh(inputs: Tensor) -> Tensor:
    np.tanh(inputs.numpy(), out=inputs.numpy())
    return inputs


def _tanh(tanh: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Tensor, Backward]:
    """Compute tanh in place, which overwrites the inputs; so does its backward pass."""
    outputs = tanh(inputs)
    return outputs, lambda gradient: torch.addcmul(
        gradient, gradient * outputs, outputs, value=-1, out=gradient
    )


def make_activation(kind: type[nn.Module], kernels: Kernels) -> Activation:
    """Return an activation; tanh works in place."""
    return kernels.tanh if kind is nn.Tanh else partial(_recorded, kind())


def _recorded(function: nn.Module, inputs: Tensor) -> tuple[Tensor, Backward]:
    """Compute any activation with autograd."""
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_()
        outputs: Tensor = function(inputs)
    return outputs.detach(), lambda gradient: torch.autograd.grad(outputs, inputs, gradient)[0]
