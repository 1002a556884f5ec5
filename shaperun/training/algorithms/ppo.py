"""Proximal policy optimization (Schulman et al. 2017) of R runs in lockstep.

The arithmetic of stable-baselines3's PPO, separate for each run: order of minibatches, normalized
advantages, gradient norm, optimizer steps and early stopping. R is the number of runs, T the steps
of a rollout, E the environments of a run, N = E · T, B the size of a minibatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance
from torch import Tensor
from torch.optim.adam import adam

from shaperun.training import sb3_model
from shaperun.training.stacked.policy import Layout, StackedPolicy

Array = npt.NDArray[np.float32]
_CACHE_LINE = 16  # in elements; every transition begins at a cache line


def advantages_and_returns(
    rewards: Array,
    values: Array,
    episode_starts: Array,
    last_values: Array,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Array, Array]:
    """Return advantages by generalized advantage estimation, and the critic's targets (T, R, E).

    Args:
        rewards: (T, R, E); where an episode was truncated, with γ · V(last observation) added.
        values: V of the observations acted on (T, R, E).
        episode_starts: 1 where an observation is the first of its episode, including the ones
            after the last step (T + 1, R, E).
        last_values: V of the observations after the last step (R, E).
        gamma: discount factor.
        gae_lambda: 0 for one-step advantages, 1 for Monte Carlo.
    """
    advantages = np.empty_like(rewards)
    advantage = np.zeros_like(last_values)
    next_values, continues = last_values, 1 - episode_starts[1:]
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is detected by the update
        for step in reversed(range(len(rewards))):
            delta = rewards[step] + gamma * next_values * continues[step] - values[step]
            advantage = delta + gamma * gae_lambda * continues[step] * advantage
            advantages[step], next_values = advantage, values[step]
        return advantages, advantages + values


@dataclass(frozen=True)
class Minibatch:
    """B transitions of each run: features (R, B, F), actions (R, B, D), the others (R, B)."""

    features: Tensor
    actions: Tensor
    old_values: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    returns: Tensor


class Rollout:
    """The N transitions of each run, in the order of stable-baselines3.

    Args:
        features: features of the observations (T, R, E, F).
        actions: (T, R, E, D).
        scalars: old values, old log-probabilities, advantages and returns, (T, R, E) each.
    """

    def __init__(self, features: Tensor, actions: Tensor, *scalars: Tensor) -> None:
        steps, self.runs, envs = features.shape[:3]
        self.size = steps * envs
        self._parts = (features.shape[-1], actions.shape[-1], len(scalars))
        columns = [features, actions.to(features.dtype), torch.stack(scalars, -1)]
        width = -(-sum(self._parts) // _CACHE_LINE) * _CACHE_LINE
        columns.append(features.new_zeros((steps, self.runs, envs, width - sum(self._parts))))
        # One row per transition, by run, environment, time: a minibatch is a single gather.
        self._table = torch.cat(columns, -1).permute(1, 2, 0, 3).reshape(-1, width)
        self._first = torch.arange(self.runs, device=features.device)[:, None] * self.size

    def minibatches(self, order: Tensor, size: int) -> Iterator[Minibatch]:
        """Yield minibatches of `size` transitions in the order (R, N); the last may be smaller."""
        for part in torch.split(order + self._first, size, 1):
            rows = self._table.index_select(0, part.flatten()).view(*part.shape, -1)
            features, actions, scalars, _ = rows.tensor_split(np.cumsum(self._parts).tolist(), -1)
            yield Minibatch(features, actions, *scalars.movedim(-1, 0).contiguous())

    def explained_variance(self) -> list[float]:
        """Return the share of the returns' variance that the old values explain, by run."""
        scalars = self._table[:, sum(self._parts[:2]) :].view(self.runs, self.size, -1)
        old_values, returns = scalars[..., 0].cpu().numpy(), scalars[..., 3].cpu().numpy()
        return [float(explained_variance(*pair)) for pair in zip(old_values, returns, strict=True)]


@dataclass(frozen=True)
class Losses:
    """Losses and statistics of a minibatch by run, (R,) each."""

    policy_gradient_loss: Tensor
    value_loss: Tensor
    entropy_loss: Tensor
    loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


class StackedAdam:
    """Adam for R runs: parameters and gradient (R, width), and a separate step count per run."""

    def __init__(self, rows: Tensor, gradient: Tensor) -> None:
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(rows), torch.zeros_like(rows)
        self.steps = torch.zeros(len(rows), dtype=torch.float32, device=rows.device)
        per_run = (rows, gradient, self.exp_avg, self.exp_avg_sq, self.steps)
        self._runs = list(zip(*(matrix.unbind() for matrix in per_run), strict=True))

    def export_state(self, run: int, layout: Layout) -> dict[int, dict[str, Tensor]]:
        """Return one run's state by parameter index, as in torch.optim.Adam's state dict."""
        if not self.steps[run]:
            return {}
        moments = {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
        parts = {name: layout.parameters(rows[run]) for name, rows in moments.items()}
        return {
            index: {"step": self.steps[run].cpu().clone()}
            | {name: part[parameter].cpu().clone() for name, part in parts.items()}
            for index, parameter in enumerate(layout.shapes)
        }

    def load(self, run: int, layout: Layout, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Load one run's state from torch.optim.Adam's state dict."""
        for index, parameter in enumerate(layout.shapes):
            if index in state:
                layout.parameters(self.exp_avg[run])[parameter].copy_(state[index]["exp_avg"])
                layout.parameters(self.exp_avg_sq[run])[parameter].copy_(state[index]["exp_avg_sq"])
                self.steps[run] = state[index]["step"]

    def step(self, active: Tensor, learning_rate: float) -> None:
        """Update the parameters of the active runs (R,) only."""
        runs = [run for run, flag in zip(self._runs, active.tolist(), strict=True) if flag]
        if not runs:
            return
        rows, gradients, exp_avgs, exp_avg_sqs, steps = map(list, zip(*runs, strict=True))
        adam(
            rows,
            gradients,
            exp_avgs,
            exp_avg_sqs,
            [],
            steps,
            fused=True,  # as in the sb3 engine
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-5,
            maximize=False,
        )


class StackedPPO:
    """PPO of R runs, whose models are built and seeded as for training alone.

    The models have equal hyperparameters; `shuffles` generate each run's order of minibatches.
    `updates` counts the epochs of each run (R,), and `diverged` marks runs with a loss that was
    not finite (R,), which are not updated any more.
    """

    def __init__(
        self,
        models: Sequence[PPO],
        shuffles: Sequence[np.random.RandomState],
        device: torch.device | str = "cpu",
    ) -> None:
        self.policy = StackedPolicy([model.policy for model in models], device)
        self.optimizer = StackedAdam(self.policy.rows, self.policy.gradient)
        for run, model in enumerate(models):
            self.optimizer.load(
                run, self.policy.layout, model.policy.optimizer.state_dict()["state"]
            )
        self.updates = np.array([sb3_model.get_updates(model) for model in models])
        self.diverged = torch.zeros(len(models), dtype=torch.bool, device=self.policy.rows.device)
        self._ppo, self._shuffles = models[0], shuffles

    def drop_run(self, run: int) -> None:
        """Stop updating a run."""
        self.diverged[run] = True

    def export_run(self, run: int, model: PPO) -> None:
        """Copy a run's parameters, optimizer state and number of updates into its model."""
        policy, optimizer = model.policy, model.policy.optimizer.state_dict()
        policy.load_state_dict(self.policy.state_dict(run))
        optimizer["state"] = self.optimizer.export_state(run, self.policy.layout)
        policy.optimizer.load_state_dict(optimizer)
        sb3_model.set_updates(model, int(self.updates[run]))

    @np.errstate(over="ignore", invalid="ignore")  # divergence is detected by the loss
    def update(self, rollout: Rollout, progress_remaining: float) -> list[dict[str, float]]:
        """Learn from a rollout; return the statistics of each run by stable-baselines3's names."""
        ppo, history = self._ppo, UpdateLog()
        learning_rate = ppo.lr_schedule(progress_remaining)
        active = ~self.diverged
        for epoch in range(ppo.n_epochs):
            order = self._minibatch_orders(active, rollout.size)
            self.updates += active.cpu().numpy()
            for minibatch in rollout.minibatches(order, ppo.batch_size):
                losses = self._compute_losses(minibatch, progress_remaining)
                history.add(epoch, active, losses)
                active = self._within_target_kl(active, losses)
                self.optimizer.step(active, learning_rate)
            if not active.any():
                break
        self.diverged |= ~self.policy.rows.isfinite().all(1)
        return self._report(history, rollout, learning_rate)

    def _compute_losses(self, minibatch: Minibatch, progress_remaining: float) -> Losses:
        """Return the losses of a minibatch, and write their clipped gradient."""
        ppo, count = self._ppo, minibatch.returns.shape[1]
        clip_range = ppo.clip_range(progress_remaining)  # type: ignore[operator]
        evaluation = self.policy.forward(minibatch.features)
        distribution = evaluation.distribution
        log_ratio = distribution.log_prob(minibatch.actions) - minibatch.old_log_probs
        ratio = log_ratio.exp()

        advantages = minibatch.advantages
        if ppo.normalize_advantage:
            advantages = normalize_advantages(advantages)
        surrogate = advantages * ratio
        clipped = advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(surrogate, clipped).mean(1)
        # Where the clipped surrogate is less, its gradient is 0; elsewhere ∂ratio/∂log p = ratio.
        by_log_prob = -torch.where(surrogate <= clipped, surrogate, 0.0) / count

        errors, slope = self._value_errors(evaluation.values, minibatch, progress_remaining)
        value_loss = errors.square().mean(1)
        by_values = ppo.vf_coef * 2 / count * errors * slope

        entropy_loss = -distribution.entropy().mean(1)
        by_entropy = -ppo.ent_coef / count

        by_outputs, by_std = distribution.gradient(minibatch.actions, by_log_prob, by_entropy)
        self.policy.backward(evaluation, by_outputs, by_std, by_values)
        self._clip_gradient()
        return Losses(
            policy_loss,
            value_loss,
            entropy_loss,
            loss=policy_loss + ppo.ent_coef * entropy_loss + ppo.vf_coef * value_loss,
            approx_kl=((ratio - 1) - log_ratio).mean(1),
            clip_fraction=((ratio - 1).abs() > clip_range).to(ratio.dtype).mean(1),
        )

    def _value_errors(
        self, values: Tensor, minibatch: Minibatch, progress_remaining: float
    ) -> tuple[Tensor, Tensor | float]:
        """Return the errors of predicted returns, and their derivatives by the values."""
        clip_range_vf = self._ppo.clip_range_vf
        if clip_range_vf is None:
            return values - minibatch.returns, 1.0
        clip = clip_range_vf(progress_remaining)  # type: ignore[operator]
        change = values - minibatch.old_values
        errors = minibatch.old_values + change.clamp(-clip, clip) - minibatch.returns
        return errors, (change.abs() <= clip).to(values.dtype)

    def _clip_gradient(self) -> None:
        """Scale the gradient of each run to a norm of at most `max_grad_norm`."""
        gradient = self.policy.gradient
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient *= (self._ppo.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)

    def _minibatch_orders(self, active: Tensor, size: int) -> Tensor:
        """Return a permutation (R, N) for each active run; stopped runs draw none, as alone."""
        orders = np.zeros((len(self._shuffles), size), dtype=np.int64)
        for run in np.flatnonzero(active.cpu()).tolist():
            orders[run] = self._shuffles[run].permutation(size)
        return torch.from_numpy(orders).to(self.policy.rows.device)

    def _within_target_kl(self, active: Tensor, losses: Losses) -> Tensor:
        """Return the runs that stay active: within the target KL, and with a finite loss."""
        if self._ppo.target_kl is not None:
            active = active & ~(losses.approx_kl > 1.5 * self._ppo.target_kl)
        finite = losses.loss.isfinite()
        self.diverged |= active & ~finite
        return active & finite

    def _report(
        self, history: UpdateLog, rollout: Rollout, learning_rate: float
    ) -> list[dict[str, float]]:
        reports = history.reports()
        explained = rollout.explained_variance()
        for run, report in enumerate(reports):
            report["train/explained_variance"] = explained[run]
            report["train/learning_rate"] = learning_rate
            log_std = self.policy.state_dict(run).get("log_std")
            if log_std is not None:
                report["train/std"] = float(log_std.exp().mean())
        return reports


def normalize_advantages(advantages: Tensor) -> Tensor:
    """Standardize advantages (R, B) within each run; a minibatch of one is unchanged."""
    count = advantages.shape[1]
    if count == 1:
        return advantages
    # Not torch.std, which rounds differently for a cohort of one.
    centered = advantages - advantages.mean(1, keepdim=True)
    variance = centered.square().sum(1, keepdim=True) / (count - 1)
    return centered / (variance.sqrt() + 1e-8)


_LOSS_NAMES = [field.name for field in fields(Losses)]


class UpdateLog:
    """Losses of the minibatches of one update, for its report."""

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._active: list[Tensor] = []
        self._losses: list[Tensor] = []

    def add(self, epoch: int, active: Tensor, losses: Losses) -> None:
        """Add a minibatch, which counts for the active runs (R,)."""
        self._epochs.append(epoch)
        self._active.append(active)
        self._losses.append(torch.stack([getattr(losses, name) for name in _LOSS_NAMES]))

    def reports(self) -> list[dict[str, float]]:
        """Return means over each run's minibatches; the last loss; the KL of its last epoch."""
        losses = torch.stack(self._losses).cpu().numpy().astype(np.float64)  # (minibatches, 6, R)
        active = torch.stack(self._active).cpu().numpy()
        epochs = np.array(self._epochs)
        return [self._report(losses[a, :, run], epochs[a]) for run, a in enumerate(active.T)]

    def _report(
        self, losses: npt.NDArray[np.float64], epochs: npt.NDArray[np.int_]
    ) -> dict[str, float]:
        if not len(losses):
            return {}
        columns = dict(zip(_LOSS_NAMES, losses.T, strict=True))
        report = {f"train/{name}": float(column.mean()) for name, column in columns.items()}
        report["train/loss"] = float(columns["loss"][-1])
        report["train/approx_kl"] = float(columns["approx_kl"][epochs == epochs[-1]].mean())
        return report
