"""The policies of R runs: parameters are rows of a matrix, layers are batched products.

The results of a run do not depend, to the bit, on its index or on the other runs. Batched products
have this property if the result has two columns or more; activations have it if each run's part
fills whole vectors of the processor, since compilers round the remainder differently. So layers are
padded by units whose weights are 0 and stay 0, as every activation here is 0 at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from shaperun.training.stacked.actor import StackedActor
from shaperun.training.stacked.distributions import Distribution, choose_distribution
from shaperun.training.stacked.layers import (
    Network,
    PairedNetworks,
    Product,
    SeparateNetworks,
    StackedLayer,
    StackedNetworks,
    choose_kernels,
    make_activation,
)

_VECTOR_SIZE = 32  # largest number of elements that kernels of activations process at a time
_ALIGNMENT = 16  # elements per cache line; rounding may depend on where data begins
_MIN_COLUMNS = 2  # a product with one column uses another kernel, for vectors
_MAX_BATCH = 256  # transitions of a run at a time; more would not fit into the caches


@dataclass(frozen=True)
class Layout:
    """Positions of a policy's parameters in its row, by stable-baselines3's names and order.

    The first half of a row is the actor's, the second the critic's. If their layers have the same
    sizes, as by default, the halves are alike, and a run counts as two networks of one kind.

    Attributes:
        shapes: shapes in the policy, (outputs, inputs) or (outputs,).
        blocks: shapes in the row, padded.
        offsets: offset of each block.
        width: width of a row.
        paired: whether the halves are alike.
    """

    shapes: dict[str, tuple[int, ...]]
    blocks: dict[str, tuple[int, ...]]
    offsets: dict[str, int]
    width: int
    paired: bool

    @classmethod
    def from_policy(cls, policy: ActorCriticPolicy) -> Layout:
        """Return the layout of such policies."""
        shapes = {name: tuple(p.shape) for name, p in policy.named_parameters()}
        columns = max(_MIN_COLUMNS, cast(int, policy.action_net.out_features))
        actor = _pad_layers(actor_layers(policy), columns)
        critic = _pad_layers(critic_layers(policy), columns)
        others = {name: shape for name, shape in shapes.items() if name not in actor | critic}
        offsets, actor_width = _assign_offsets(actor | others)
        critic_offsets, critic_width = _assign_offsets(critic)
        half = max(actor_width, critic_width)
        offsets |= {name: half + offset for name, offset in critic_offsets.items()}
        twins = list(actor.values()) == list(critic.values())
        return cls(shapes, actor | others | critic, offsets, 2 * half, twins)

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Return views (R, …) of the blocks in a matrix of rows (R, width)."""
        return {
            name: rows[:, start : start + math.prod(self.blocks[name])].view(-1, *self.blocks[name])
            for name, start in self.offsets.items()
        }

    def paired_views(self, rows: Tensor) -> dict[str, Tensor]:
        """Return views (2R, …) of actors' and critics' blocks, alternating by run."""
        halves = rows.view(2 * len(rows), -1)
        ends = {name: self.offsets[name] + math.prod(block) for name, block in self.blocks.items()}
        return {
            name: halves[:, start : ends[name]].view(-1, *self.blocks[name])
            for name, start in self.offsets.items()
            if ends[name] <= self.width // 2
        }

    def parameters(self, row: Tensor) -> dict[str, Tensor]:
        """Return views of one run's parameters in its row (width,), without padding."""
        blocks = self.views(row[None])
        return {
            name: blocks[name][0][tuple(slice(size) for size in shape)]
            for name, shape in self.shapes.items()
        }


@dataclass(frozen=True)
class PolicyEvaluation:
    """Action distributions and values (R, B) of states, and the state for `backward`."""

    distribution: Distribution
    values: Tensor
    forward_pass: Any


class StackedPolicy:
    """Actors and critics of R runs, from policies of one architecture, which stay on the CPU.

    Attributes:
        rows: the parameters (R, width).
        gradient: their gradient, written by `backward`.
    """

    def __init__(
        self, policies: Sequence[ActorCriticPolicy], device: torch.device | str = "cpu"
    ) -> None:
        _check_policies(policies)
        policy = policies[0]
        self.layout = Layout.from_policy(policy)
        weight = policy.value_net.weight.detach()
        self.rows = weight.new_zeros((len(policies), self.layout.width), device=device)
        self.gradient = torch.zeros_like(self.rows)
        for run, source in enumerate(policies):
            self.load_run(run, source.state_dict())
        self._blocks = self.layout.views(self.rows)
        self._gradients = self.layout.views(self.gradient)
        kernels = choose_kernels(self.rows.device)
        activation = make_activation(policy.activation_fn, kernels)
        actor_names, critic_names = list(actor_layers(policy)), list(critic_layers(policy))
        self.outputs: int = policy.action_net.out_features  # type: ignore[assignment]
        self._actor_parameters = _parameter_names(actor_names)
        stack = partial(self._stack_layers, product=kernels.product)
        actor = Network(stack(actor_names, self.layout.views), activation, self.outputs)
        self._critic = Network(stack(critic_names, self.layout.views), activation, 1)
        self._networks: StackedNetworks = SeparateNetworks(actor, self._critic)
        if self.layout.paired:
            layers = stack(actor_names, self.layout.paired_views)
            columns = layers[-1].bias.shape[1]
            self._networks = PairedNetworks(Network(layers, activation, columns), self.outputs)
        self._distribution = choose_distribution(policy.action_space)
        self._policy = policy

    def forward(self, features: Tensor) -> PolicyEvaluation:
        """Evaluate features (R, B, F) of states."""
        outputs, values, forward_pass = self._networks.forward(features)
        distribution = self._distribution(outputs, self._blocks.get("log_std"))
        return PolicyEvaluation(distribution, values, forward_pass)

    def backward(
        self,
        evaluation: PolicyEvaluation,
        by_outputs: Tensor,
        by_log_std: Tensor | None,
        by_values: Tensor,
    ) -> None:
        """Write a loss's gradient by all parameters into `gradient`.

        It is given by the actors' outputs (R, B, K), by log_std (R, D) and by the values (R, B).
        """
        self._networks.backward(evaluation.forward_pass, by_outputs, by_values)
        if by_log_std is not None:
            self._gradients["log_std"].copy_(by_log_std)

    @np.errstate(over="ignore", invalid="ignore")
    def evaluate_actions(self, features: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and log-probabilities (T, R, E) of features (T, R, E, F) and actions."""
        steps, runs, envs = features.shape[:3]
        values, log_probs = features.new_empty((2, steps, runs, envs))
        batch_steps = max(1, _MAX_BATCH // envs)
        for first in range(0, steps, batch_steps):
            batch = slice(first, first + batch_steps)
            evaluation = self.forward(features[batch].transpose(0, 1).flatten(1, 2))
            values[batch] = evaluation.values.view(runs, -1, envs).transpose(0, 1)
            log_prob = evaluation.distribution.log_prob(
                actions[batch].transpose(0, 1).flatten(1, 2)
            )
            log_probs[batch] = log_prob.view(runs, -1, envs).transpose(0, 1)
        return values, log_probs

    def build_actor(self) -> StackedActor:
        """Return actors with the current parameters."""
        blocks = self.layout.views(self.rows.cpu())
        layers = [
            (blocks[weight].numpy(), blocks[bias].numpy())
            for weight, bias in self._actor_parameters
        ]
        std = blocks["log_std"].exp().numpy() if "log_std" in blocks else None
        return StackedActor(self._policy, layers, std)

    @np.errstate(over="ignore", invalid="ignore")
    def predict_values(self, features: Tensor) -> Tensor:
        """Return the critics' values (R, B) of states with features (R, B, F)."""
        return self._critic.forward(features)[0][..., 0]

    def load_run(self, run: int, state_dict: Mapping[str, Tensor]) -> None:
        """Load one run's parameters from its policy's state dict."""
        for name, parameter in self.layout.parameters(self.rows[run]).items():
            parameter.copy_(state_dict[name].detach())

    def state_dict(self, run: int) -> dict[str, Tensor]:
        """Return one run's parameters as its policy's state dict."""
        parameters = self.layout.parameters(self.rows[run].cpu().clone())
        return {name: parameter.contiguous() for name, parameter in parameters.items()}

    def _stack_layers(
        self, names: Iterable[str], views: Callable[[Tensor], dict[str, Tensor]], product: Product
    ) -> list[StackedLayer]:
        blocks, gradients = views(self.rows), views(self.gradient)
        return [
            StackedLayer(blocks[w], blocks[b], gradients[w], gradients[b], product)
            for w, b in _parameter_names(names)
        ]


def actor_layers(policy: ActorCriticPolicy) -> dict[str, nn.Linear]:
    """Return the layers from features to the parameters of the action distribution, by name."""
    return {**_linear_layers("mlp_extractor.policy_net", policy), "action_net": policy.action_net}  # type: ignore[dict-item]


def critic_layers(policy: ActorCriticPolicy) -> dict[str, nn.Linear]:
    """Return the layers from features to the value, by name."""
    return {**_linear_layers("mlp_extractor.value_net", policy), "value_net": policy.value_net}


def _linear_layers(network: str, policy: ActorCriticPolicy) -> dict[str, nn.Linear]:
    modules = policy.get_submodule(network).named_children()
    return {f"{network}.{name}": m for name, m in modules if isinstance(m, nn.Linear)}


def _parameter_names(layers: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names of each layer's weight and bias."""
    return [(f"{name}.weight", f"{name}.bias") for name in layers]


def _pad_layers(layers: dict[str, nn.Linear], columns: int) -> dict[str, tuple[int, ...]]:
    """Return padded shapes: hidden layers fill whole vectors, the last has `columns` outputs."""
    blocks: dict[str, tuple[int, ...]] = {}
    *_, last = layers
    inputs = next(iter(layers.values())).in_features
    for name, layer in layers.items():
        outputs = columns if name == last else _round_up(layer.out_features, _VECTOR_SIZE)
        blocks |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
        inputs = outputs
    return blocks


def _assign_offsets(blocks: dict[str, tuple[int, ...]]) -> tuple[dict[str, int], int]:
    """Return the offset of each block, and their total width."""
    offsets, end = {}, 0
    for name, block in blocks.items():
        offsets[name] = end
        end += _round_up(math.prod(block), _ALIGNMENT)
    return offsets, end


def _round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _check_policies(policies: Sequence[ActorCriticPolicy]) -> None:
    """Raise ValueError unless policies are alike and supported."""
    policy = policies[0]
    if policy.use_sde or not isinstance(policy.features_extractor, FlattenExtractor):
        raise ValueError("only plain MLP policies without gSDE are trained in lockstep")
    architectures: list[Any] = [
        (repr(p.mlp_extractor), p.action_space, p.observation_space) for p in policies
    ]
    if any(other != architectures[0] for other in architectures):
        raise ValueError("policies of different architectures are not trained in lockstep")
