"""Group relative policy optimization (Shao et al. 2024, DeepSeekMath): PPO without a critic."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from torch import Tensor

from shaperun.training.algorithms.episode_batch import Array, EpisodeBatch
from shaperun.training.checkpoint import StateDict


class GrpoMinibatch(NamedTuple):
    """B steps: observations and actions (B, …), the others (B,)."""

    obs: Tensor
    actions: Tensor
    advantages: Tensor
    weights: Tensor
    old_log_prob: Tensor
    reference_log_prob: Tensor


class Grpo:
    """Policy gradients from groups of G episodes that begin in the same state.

    Every step of episode i has the advantage A_i = (R_i − mean(R)) / std(R), with the mean and the
    standard deviation over its group, and the discounted return R_i = Σ γ^t r_t. The objective is
    (Shao et al. 2024, equation 3)

        1/E Σ_i 1/|o_i| Σ_t [ min(ρ A_i, clip(ρ, 1 − ε, 1 + ε) A_i) − β k3 ] + c · entropy

    with ρ = π(a_t | s_t) / π_old(a_t | s_t), and k3 = e^x − x − 1 with x = log π_ref − log π, a
    non-negative estimate of KL(π ‖ π_ref) (Schulman 2020, "Approximating KL divergence";
    equation 4). π_old is the policy that played; π_ref is a copy of the policy, at first the
    untrained one, that is refreshed every `reference_updates` updates.

    - Episodes of different length: 1/|o_i| gives each episode the same weight, so that a step of a
      long one counts less. Minibatches are drawn from all steps, weighted so that the expectation
      of their gradients is that of the formula.
    - A group whose returns are all equal has advantages of 0.
    - Potential-based shaping subtracts Φ(s_0) from R_i, which is the same in a group: if episodes
      terminate, it changes no advantage.
    """

    def __init__(
        self, model: PPO, hyperparameters: dict[str, Any], shuffle: np.random.RandomState
    ) -> None:
        self._model, self._shuffle = model, shuffle
        self._hyperparameters = hyperparameters
        self._clip_range: Any = model.clip_range
        self._reference = _parameters(model)
        self._updates = 0

    def update(self, batch: EpisodeBatch, progress_remaining: float) -> dict[str, float]:
        """Learn from a batch; return statistics of the last epoch by stable-baselines3's names."""
        clip_range = self._clip_range(progress_remaining)
        parts = (
            batch.obs,
            batch.actions,
            batch.gather_steps(self._compute_advantages(batch)),
            batch.gather_steps(_step_weights(batch)),
            self._log_prob(batch),
            self._reference_log_prob(batch),
        )
        for _ in range(self._hyperparameters["n_epochs"]):
            order = torch.from_numpy(self._shuffle.permutation(len(batch.obs)))
            statistics = [
                self._learn(GrpoMinibatch(*(part[indices] for part in parts)), clip_range)
                for indices in torch.split(order, self._hyperparameters["batch_size"])
            ]
        self._update_reference()
        return {
            f"train/{name}": torch.stack([each[name] for each in statistics]).mean().item()
            for name in statistics[0]
        }

    def get_state(self) -> StateDict:
        """Return the state besides the policy."""
        reference = {name: tensor.numpy() for name, tensor in self._reference.items()}
        return {"reference": reference, "updates": self._updates}

    def set_state(self, state: StateDict) -> None:
        """Resume from a state.

        Raises:
            ValueError: the state belongs to another policy.
        """
        expected = {name: (t.numpy().dtype, t.shape) for name, t in self._reference.items()}
        if {name: (a.dtype, a.shape) for name, a in state["reference"].items()} != expected:
            raise ValueError("its reference belongs to another policy")
        self._reference = {n: torch.from_numpy(a.copy()) for n, a in state["reference"].items()}
        self._updates = int(state["updates"])

    def _learn(self, minibatch: GrpoMinibatch, clip_range: float) -> dict[str, Tensor]:
        """Take one optimizer step; return its statistics."""
        hyperparameters, policy = self._hyperparameters, self._model.policy
        _, log_prob, entropy = policy.evaluate_actions(minibatch.obs, minibatch.actions)
        log_ratio = log_prob - minibatch.old_log_prob
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
        surrogate = torch.min(ratio * minibatch.advantages, clipped * minibatch.advantages)
        penalty = hyperparameters["kl_coef"] * k3(minibatch.reference_log_prob - log_prob)
        policy_loss = -(minibatch.weights * (surrogate - penalty)).mean()
        entropy_loss = -(-log_prob if entropy is None else entropy).mean()
        loss = policy_loss + hyperparameters["ent_coef"] * entropy_loss
        policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), hyperparameters["max_grad_norm"])
        policy.optimizer.step()
        with torch.no_grad():
            return {
                "policy_gradient_loss": policy_loss,
                "entropy_loss": entropy_loss,
                "loss": loss,
                "approx_kl": ((ratio - 1) - log_ratio).mean(),
                "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
            }

    def _compute_advantages(self, batch: EpisodeBatch) -> Array:
        """Return the advantage of every step (E, T)."""
        returns = batch.returns_to_go(self._hyperparameters["gamma"])
        advantages = group_advantages(returns[:, 0], self._hyperparameters["group_size"])
        return np.broadcast_to(advantages[:, None], returns.shape)

    def _log_prob(self, batch: EpisodeBatch) -> Tensor:
        """Return log-probabilities of the actions (S,) under the current policy."""
        with torch.no_grad():
            log_prob: Tensor = self._model.policy.evaluate_actions(batch.obs, batch.actions)[1]
        return log_prob

    def _reference_log_prob(self, batch: EpisodeBatch) -> Tensor:
        """Return log-probabilities of the actions (S,) under the reference policy."""
        policy, current = self._model.policy, _parameters(self._model)
        policy.load_state_dict(self._reference)
        log_prob = self._log_prob(batch)
        policy.load_state_dict(current)
        return log_prob

    def _update_reference(self) -> None:
        self._updates += 1
        if self._updates % self._hyperparameters["reference_updates"] == 0:
            self._reference = _parameters(self._model)


def group_advantages(returns: Array, group_size: int) -> Array:
    """Standardize returns (E,) within their groups; 0 where those of a group are all equal."""
    groups = returns.reshape(-1, group_size)
    centered = groups - groups.mean(1, keepdims=True)
    equal = np.ptp(groups, axis=1, keepdims=True) == 0
    standardized = centered / (groups.std(1, keepdims=True) + 1e-8)
    return np.where(equal, 0.0, standardized).reshape(-1)


def k3(x: Tensor) -> Tensor:
    """Return e^x − x − 1 of x = log π_ref − log π; its mean over π's actions is KL(π ‖ π_ref)."""
    return torch.expm1(x) - x


def _step_weights(batch: EpisodeBatch) -> Array:
    """Return weights of steps (E, T), 1 on average and equal in sum for all episodes."""
    weights = batch.lengths.mean() / batch.lengths
    return np.broadcast_to(weights[:, None], batch.rewards.shape)


def _parameters(model: PPO) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
