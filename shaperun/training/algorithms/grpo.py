"""Group relative policy optimisation (Shao et al. 2024, DeepSeekMath): PPO without a critic."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from torch import Tensor

from shaperun.training.algorithms.episode_batch import Array, EpisodeBatch
from shaperun.training.checkpoint import StateDict


class Grpo:
    """Groups of G episodes from the same initial state; each is judged by the others of its group.

    Every step of episode i has the advantage A_i = (R_i − mean(R)) / std(R), with the mean and the
    standard deviation over its group, and R_i = Σ γ^t r_t, its discounted return. What is maximised
    is (Shao et al. 2024, equation 3)

        1/E Σ_i 1/|o_i| Σ_t [ min(ρ A_i, clip(ρ, 1 − ε, 1 + ε) A_i) − β k3 ] + c · entropy

    with ρ = π(a_t | s_t) / π_old(a_t | s_t), and k3 = e^x − x − 1 with x = log π_ref − log π, which
    is an estimate of KL(π ‖ π_ref) that is never negative (Schulman 2020, "Approximating KL
    divergence"; equation 4). π_old is the policy that played; π_ref is the one of some updates ago,
    the untrained one at first.

    - Episodes of different length: 1/|o_i| gives each episode the same weight, so that a step of a
      long one counts less. Minibatches are drawn from all steps, each weighed so that the
      expectation of their gradients is that of the formula.
    - A group whose returns are all equal says nothing: its advantages are 0.
    - Potential-based shaping takes Φ(s_0) from R_i, which a group has in common: where episodes end
      by themselves it changes no advantage at all.

    Args:
        model: holds the policy and its optimiser.
        hyperparameters: of the study.
        shuffle: the order of transitions comes from it.
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
        given, policy = self._hyperparameters, self._model.policy
        clip_range = self._clip_range(progress_remaining)
        advantages = batch.gather_steps(self._advantages(batch))
        weights = batch.gather_steps(_weights(batch))
        old_log_prob = self._log_prob(batch)
        reference = self._reference_log_prob(batch)
        said: list[dict[str, Tensor]] = []
        for _ in range(given["n_epochs"]):
            said.clear()
            order = torch.from_numpy(self._shuffle.permutation(len(batch.obs)))
            for some in torch.split(order, given["batch_size"]):
                _, log_prob, entropy = policy.evaluate_actions(batch.obs[some], batch.actions[some])
                log_ratio = log_prob - old_log_prob[some]
                ratio = log_ratio.exp()
                clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
                surrogate = torch.min(ratio * advantages[some], clipped * advantages[some])
                penalty = given["kl_coef"] * k3(reference[some] - log_prob)
                policy_loss = -(weights[some] * (surrogate - penalty)).mean()
                entropy_loss = -(-log_prob if entropy is None else entropy).mean()
                loss = policy_loss + given["ent_coef"] * entropy_loss
                policy.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(policy.parameters(), given["max_grad_norm"])
                policy.optimizer.step()
                with torch.no_grad():
                    said.append(
                        {
                            "policy_gradient_loss": policy_loss,
                            "entropy_loss": entropy_loss,
                            "loss": loss,
                            "approx_kl": ((ratio - 1) - log_ratio).mean(),
                            "clip_fraction": ((ratio - 1).abs() > clip_range).float().mean(),
                        }
                    )
        self._update_reference()
        return {
            f"train/{name}": float(torch.stack([one[name] for one in said]).mean())
            for name in said[0]
        }

    def get_state(self) -> StateDict:
        """What it needs to go on beside the policy."""
        reference = {name: tensor.numpy() for name, tensor in self._reference.items()}
        return {"reference": reference, "updates": self._updates}

    def set_state(self, memory: StateDict) -> None:
        """Go on from there.

        Raises:
            ValueError: it is no such memory.
        """
        here = {name: (t.numpy().dtype, t.shape) for name, t in self._reference.items()}
        if {name: (a.dtype, a.shape) for name, a in memory["reference"].items()} != here:
            raise ValueError("its reference is another policy")
        self._reference = {n: torch.from_numpy(a.copy()) for n, a in memory["reference"].items()}
        self._updates = int(memory["updates"])

    def _advantages(self, batch: EpisodeBatch) -> Array:
        """Of every step (E, T)."""
        returns = batch.returns_to_go(self._hyperparameters["gamma"])
        advantages = group_advantages(returns[:, 0], self._hyperparameters["group_size"])
        return np.broadcast_to(advantages[:, None], returns.shape)

    def _log_prob(self, batch: EpisodeBatch) -> Tensor:
        with torch.no_grad():
            log_prob: Tensor = self._model.policy.evaluate_actions(batch.obs, batch.actions)[1]
        return log_prob

    def _reference_log_prob(self, batch: EpisodeBatch) -> Tensor:
        policy, now = self._model.policy, _parameters(self._model)
        policy.load_state_dict(self._reference)
        log_prob = self._log_prob(batch)
        policy.load_state_dict(now)
        return log_prob

    def _update_reference(self) -> None:
        self._updates += 1
        if self._updates % self._hyperparameters["reference_updates"] == 0:
            self._reference = _parameters(self._model)


def group_advantages(returns: Array, group_size: int) -> Array:
    """Returns (E,) standardised within their groups; 0 where those of a group are all equal."""
    groups = returns.reshape(-1, group_size)
    centred = groups - groups.mean(1, keepdims=True)
    alike = np.ptp(groups, axis=1, keepdims=True) == 0
    standardized = centred / (groups.std(1, keepdims=True) + 1e-8)
    return np.where(alike, 0.0, standardized).reshape(-1)


def k3(x: Tensor) -> Tensor:
    """e^x − x − 1, of x = log π_ref − log π: what KL(π ‖ π_ref) is the mean of over π's actions."""
    return torch.expm1(x) - x


def _weights(batch: EpisodeBatch) -> Array:
    """What each step counts (E, T), 1 on average, so that every episode counts the same."""
    weights = batch.lengths.mean() / batch.lengths
    return np.broadcast_to(weights[:, None], batch.rewards.shape)


def _parameters(model: PPO) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
