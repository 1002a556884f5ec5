"""REINFORCE (Williams 1992): no critic, one gradient step per update."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import PPO

from shaperun.training.algorithms.episode_batch import Array, EpisodeBatch
from shaperun.training.checkpoint import StateDict

_MOVING_RATE = 0.1  # weight of an update's returns in the moving baseline


class Reinforce:
    """One step along the gradient of log π(a_t | s_t) · A_t, the mean over all steps of a batch.

    A_t = G_t − b_t: the return from step t on, Σ γ^(k − t) r_k, minus a baseline. The baseline is
    an average of G_t at the same step t, in which finished episodes count as 0:

    - `moving`: over past updates, b_t ← b_t + 0.1 (mean of G_t − b_t) after each;
    - `group`: over the other episodes that began in the same state (Kool et al. 2019, "Buy 4
      REINFORCE samples, get a baseline for free!").

    Neither depends on the action taken, so the gradient is unbiased. Potential-based shaping is a
    baseline as well: with the same γ it subtracts Φ(s_t) from G_t, if the episode terminates. As
    usual in practice, steps are not weighted by γ^t.
    """

    def __init__(
        self, model: PPO, hyperparameters: dict[str, Any], shuffle: np.random.RandomState
    ) -> None:
        del shuffle  # each update takes its batch as a whole
        self._model, self._gamma = model, float(hyperparameters["gamma"])
        grouped = hyperparameters["baseline"] == "group"
        self._group_size: int | None = hyperparameters["group_size"] if grouped else None
        self._moving = np.zeros(0)  # by step

    def update(self, batch: EpisodeBatch, progress_remaining: float) -> dict[str, float]:
        """Learn from a batch; return statistics by stable-baselines3's names."""
        del progress_remaining
        policy = self._model.policy
        returns = batch.returns_to_go(self._gamma)
        advantages = batch.gather_steps(returns - self._compute_baseline(returns))
        _, log_prob, entropy = policy.evaluate_actions(batch.obs, batch.actions)
        loss = -(advantages * log_prob).mean()
        policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        policy.optimizer.step()
        statistics = {"train/policy_gradient_loss": loss.item()}
        if entropy is not None:
            statistics["train/entropy_loss"] = -entropy.mean().item()
        return statistics

    def get_state(self) -> StateDict:
        """Return the state besides the policy."""
        return {"moving": self._moving}

    def set_state(self, state: StateDict) -> None:
        """Resume from a state.

        Raises:
            ValueError: the state is invalid.
        """
        moving = state["moving"]
        if moving.ndim != 1 or moving.dtype != np.float64 or not np.isfinite(moving).all():
            raise ValueError("its baseline is invalid")
        self._moving = moving

    def _compute_baseline(self, returns: Array) -> Array:
        """Return the baseline of returns (E, T), and update the moving one."""
        if self._group_size:
            return leave_one_out_mean(returns, self._group_size)
        longest = max(len(self._moving), returns.shape[1])
        before, now = np.zeros((2, longest))
        before[: len(self._moving)] = self._moving
        now[: returns.shape[1]] = returns.mean(0)
        self._moving = before + _MOVING_RATE * (now - before)
        return np.asarray(before[: returns.shape[1]])


def leave_one_out_mean(returns: Array, group_size: int) -> Array:
    """Return the mean over the other episodes of each one's group, at every step (E, T)."""
    groups = returns.reshape(-1, group_size, returns.shape[1])
    others = (groups.sum(1, keepdims=True) - groups) / (group_size - 1)
    return np.asarray(others.reshape(returns.shape))
