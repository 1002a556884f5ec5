"""The policies of R runs in one: parameters are rows of a matrix, layers are batched products.

Where a run stands in the cohort, and beside whom, changes no bit of what comes out. A batched
product has that by itself where its result has two columns or more; an activation has it where the
part of each run fills whole vectors of the processor, since compilers round the rest otherwise. So
layers are widened by units whose weights are 0 and, as every activation here is 0 at 0, stay 0.
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
from shaperun.training.stacked.distributions import Distribution, distribution_over
from shaperun.training.stacked.layers import (
    Network,
    PairedNetworks,
    Product,
    SeparateNetworks,
    StackedLayer,
    StackedNetworks,
    activation_of,
    kernels_for,
)

_VECTOR = 32  # numbers that the kernels of activations take at a time, at most
_ALIGNED = 16  # numbers from one cache line to the next; kernels may round by where data begins
_COLUMNS = 2  # of a product at least: one column is a product with a vector, another kernel
_EVALUATED = 256  # transitions of a run at a time; with more, what is between leaves the caches


@dataclass(frozen=True)
class Layout:
    """Where the parameters of a policy stand in its row, by stable-baselines3's names and order.

    One half of a row is the actor's, the other the critic's. Where their layers are of the same
    sizes, as by default, the halves are alike, and both networks of a run are two of one kind.

    Attributes:
        shapes: as they are in the policy, (outputs, inputs) or (outputs,).
        blocks: as they are in the row, widened.
        offsets: where a block begins.
        width: of a row.
        twins: whether its halves are alike.
    """

    shapes: dict[str, tuple[int, ...]]
    blocks: dict[str, tuple[int, ...]]
    offsets: dict[str, int]
    width: int
    twins: bool

    @classmethod
    def of(cls, policy: ActorCriticPolicy) -> Layout:
        """The layout of a policy like this."""
        shapes = {name: tuple(p.shape) for name, p in policy.named_parameters()}
        columns = max(_COLUMNS, cast(int, policy.action_net.out_features))
        actor = _widened(actor_layers(policy), columns)
        critic = _widened(critic_layers(policy), columns)
        others = {name: shape for name, shape in shapes.items() if name not in actor | critic}
        offsets, end = _consecutive(actor | others)
        of_critic, its_end = _consecutive(critic)
        half = max(end, its_end)
        offsets |= {name: half + offset for name, offset in of_critic.items()}
        twins = list(actor.values()) == list(critic.values())
        return cls(shapes, actor | others | critic, offsets, 2 * half, twins)

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """The blocks in a matrix of rows (R, width), each (R, …) and sharing its memory."""
        return {
            name: rows[:, start : start + math.prod(self.blocks[name])].view(-1, *self.blocks[name])
            for name, start in self.offsets.items()
        }

    def twin_views(self, rows: Tensor) -> dict[str, Tensor]:
        """The actors' blocks each with the critics' beside them, (2R, …), where they are twins."""
        halves = rows.view(2 * len(rows), -1)
        ends = {name: self.offsets[name] + math.prod(block) for name, block in self.blocks.items()}
        return {
            name: halves[:, start : ends[name]].view(-1, *self.blocks[name])
            for name, start in self.offsets.items()
            if ends[name] <= self.width // 2
        }

    def parameters(self, row: Tensor) -> dict[str, Tensor]:
        """One run's parameters in its row (width,), without what widens them."""
        blocks = self.views(row[None])
        return {
            name: blocks[name][0][tuple(slice(size) for size in shape)]
            for name, shape in self.shapes.items()
        }


@dataclass(frozen=True)
class PolicyEvaluation:
    """What the networks make of states, and how they came to it."""

    distribution: Distribution
    values: Tensor
    made: Any


class StackedPolicy:
    """Actors and critics of R runs, from policies of the same architecture.

    Args:
        policies: one a run.
        device: where they learn; observations, actions and states of policies are elsewhere.

    Attributes:
        rows: the parameters (R, width).
        gradient: of the same shape, as `backward` left it.
    """

    def __init__(
        self, policies: Sequence[ActorCriticPolicy], device: torch.device | str = "cpu"
    ) -> None:
        _check(policies)
        policy = policies[0]
        self.layout = Layout.of(policy)
        weight = policy.value_net.weight.detach()
        self.rows = weight.new_zeros((len(policies), self.layout.width), device=device)
        self.gradient = torch.zeros_like(self.rows)
        for run, one in enumerate(policies):
            self.load(run, one.state_dict())
        self._blocks = self.layout.views(self.rows)
        self._gradients = self.layout.views(self.gradient)
        kernels = kernels_for(self.rows.device)
        activation = activation_of(policy.activation_fn, kernels)
        names, of_critic = list(actor_layers(policy)), list(critic_layers(policy))
        self.outputs: int = policy.action_net.out_features  # type: ignore[assignment]
        self._ends = _ends(names)
        stacked = partial(self._layers, product=kernels.product)
        actor = Network(stacked(names, self.layout.views), activation, self.outputs)
        self._critic = Network(stacked(of_critic, self.layout.views), activation, 1)
        self._networks: StackedNetworks = SeparateNetworks(actor, self._critic)
        if self.layout.twins:
            both = stacked(names, self.layout.twin_views)
            columns = both[-1].bias.shape[1]
            self._networks = PairedNetworks(Network(both, activation, columns), self.outputs)
        self._distribution = distribution_over(policy.action_space)
        self._policy = policy

    def forward(self, features: Tensor) -> PolicyEvaluation:
        """Distributions over actions, and values (R, B), for features (R, B, F) of states."""
        outputs, values, made = self._networks.forward(features)
        distribution = self._distribution(outputs, self._blocks.get("log_std"))
        return PolicyEvaluation(distribution, values, made)

    def backward(
        self,
        made: PolicyEvaluation,
        of_outputs: Tensor,
        of_log_std: Tensor | None,
        of_values: Tensor,
    ) -> None:
        """Put a loss's gradient by all parameters into `gradient`.

        Args:
            made: the forward pass.
            of_outputs: its gradient by the actors' outputs (R, B, K).
            of_log_std: by log_std (R, D).
            of_values: by the values (R, B).
        """
        self._networks.backward(made.made, of_outputs, of_values)
        if of_log_std is not None:
            self._gradients["log_std"].copy_(of_log_std)

    @np.errstate(over="ignore", invalid="ignore")
    def evaluate_actions(self, features: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log-probabilities (T, R, E) of what was done in a rollout.

        Args:
            features: of the observations (T, R, E, F).
            actions: (T, R, E, D).
        """
        steps, runs, envs = features.shape[:3]
        values, log_probs = features.new_empty((2, steps, runs, envs))
        for first in range(0, steps, max(1, _EVALUATED // envs)):
            some = slice(first, first + max(1, _EVALUATED // envs))
            made = self.forward(features[some].transpose(0, 1).flatten(1, 2))
            taken = actions[some].transpose(0, 1).flatten(1, 2)
            values[some] = made.values.view(runs, -1, envs).transpose(0, 1)
            log_prob = made.distribution.log_prob(taken)
            log_probs[some] = log_prob.view(runs, -1, envs).transpose(0, 1)
        return values, log_probs

    def actor(self) -> StackedActor:
        """The policies as they act with the parameters of now."""
        blocks = self.layout.views(self.rows.cpu())
        layers = [(blocks[weight].numpy(), blocks[bias].numpy()) for weight, bias in self._ends]
        std = blocks["log_std"].exp().numpy() if "log_std" in blocks else None
        return StackedActor(self._policy, layers, std)

    @np.errstate(over="ignore", invalid="ignore")
    def values(self, features: Tensor) -> Tensor:
        """What the critics expect (R, B) from states with features (R, B, F)."""
        return self._critic.forward(features)[0][..., 0]

    def load(self, run: int, state_dict: Mapping[str, Tensor]) -> None:
        """Take over one run's parameters."""
        for name, parameter in self.layout.parameters(self.rows[run]).items():
            parameter.copy_(state_dict[name].detach())

    def state_dict(self, run: int) -> dict[str, Tensor]:
        """One run's parameters, as the policy's own `load_state_dict` takes them."""
        parameters = self.layout.parameters(self.rows[run].cpu().clone())
        return {name: parameter.contiguous() for name, parameter in parameters.items()}

    def _layers(
        self, names: Iterable[str], views: Callable[[Tensor], dict[str, Tensor]], product: Product
    ) -> list[StackedLayer]:
        blocks, gradients = views(self.rows), views(self.gradient)
        return [
            StackedLayer(blocks[w], blocks[b], gradients[w], gradients[b], product)
            for w, b in _ends(names)
        ]


def actor_layers(policy: ActorCriticPolicy) -> dict[str, nn.Linear]:
    """The layers from features to actions by name, the last one's outputs being the actions'."""
    return {**_linear("mlp_extractor.policy_net", policy), "action_net": policy.action_net}  # type: ignore[dict-item]


def critic_layers(policy: ActorCriticPolicy) -> dict[str, nn.Linear]:
    """The layers from features to the value."""
    return {**_linear("mlp_extractor.value_net", policy), "value_net": policy.value_net}


def _linear(network: str, policy: ActorCriticPolicy) -> dict[str, nn.Linear]:
    modules = policy.get_submodule(network).named_children()
    return {f"{network}.{name}": m for name, m in modules if isinstance(m, nn.Linear)}


def _ends(layers: Iterable[str]) -> list[tuple[str, str]]:
    """The names of each layer's weight and bias."""
    return [(f"{name}.weight", f"{name}.bias") for name in layers]


def _widened(layers: dict[str, nn.Linear], columns: int) -> dict[str, tuple[int, ...]]:
    """The blocks of a network: hidden layers fill whole vectors, the last has so many outputs."""
    blocks: dict[str, tuple[int, ...]] = {}
    *_, last = layers
    inputs = next(iter(layers.values())).in_features
    for name, layer in layers.items():
        widened = _rounded_up(layer.out_features, _VECTOR)
        outputs = columns if name == last else widened
        blocks |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
        inputs = outputs
    return blocks


def _consecutive(blocks: dict[str, tuple[int, ...]]) -> tuple[dict[str, int], int]:
    """Where each block begins, and where the last one ends."""
    offsets, end = {}, 0
    for name, block in blocks.items():
        offsets[name] = end
        end += _rounded_up(math.prod(block), _ALIGNED)
    return offsets, end


def _rounded_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _check(policies: Sequence[ActorCriticPolicy]) -> None:
    """Make sure that they are what is stacked here.

    Raises:
        ValueError: they are not alike, or have parts that the stack does not.
    """
    policy = policies[0]
    if policy.use_sde or not isinstance(policy.features_extractor, FlattenExtractor):
        raise ValueError("only plain MLP policies without gSDE are trained in lockstep")
    alike: list[Any] = [
        (repr(one.mlp_extractor), one.action_space, one.observation_space) for one in policies
    ]
    if any(other != alike[0] for other in alike):
        raise ValueError("policies of different architectures are not trained in lockstep")
