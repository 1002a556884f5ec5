"""Proximal policy optimisation (Schulman et al. 2017) of R runs in lockstep.

The same arithmetic as stable-baselines3's PPO, run by run: each has its own order of minibatches,
normalised advantages, gradient norm, optimiser steps and early stop. R is the number of runs, T the
steps of a rollout, E the environments of a run, N = E · T, B the size of a minibatch.
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
_CACHE_LINE = 16  # numbers: a transition begins at a cache line, whichever run's it is


def advantages_and_returns(
    rewards: Array,
    values: Array,
    episode_starts: Array,
    last_values: Array,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Array, Array]:
    """Generalised advantage estimation, and the returns that the critic learns.

    Args:
        rewards: (T, R, E); where an episode was truncated, with γ · V(its last observation) added.
        values: V of the observations acted on (T, R, E).
        episode_starts: 1 where an observation is the first of its episode, that after the last
            step included (T + 1, R, E).
        last_values: V of the observations after the last step (R, E).
        gamma: the discount factor.
        gae_lambda: 0 for one-step advantages, 1 for Monte Carlo.

    Returns:
        advantages and returns, (T, R, E).
    """
    advantages = np.empty_like(rewards)
    advantage = np.zeros_like(last_values)
    next_values, goes_on = last_values, 1 - episode_starts[1:]
    with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges is found out later
        for step in reversed(range(len(rewards))):
            delta = rewards[step] + gamma * next_values * goes_on[step] - values[step]
            advantage = delta + gamma * gae_lambda * goes_on[step] * advantage
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
    """The N transitions of each run, one after another in the order of stable-baselines3.

    Args:
        features: of the observations (T, R, E, F).
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
        # One row a transition, so that one gather makes a minibatch: by run, copy, time.
        self._table = torch.cat(columns, -1).permute(1, 2, 0, 3).reshape(-1, width)
        self._first = torch.arange(self.runs, device=features.device)[:, None] * self.size

    def minibatches(self, order: Tensor, size: int) -> Iterator[Minibatch]:
        """All transitions in the order (R, N), so many at a time; the last may be fewer."""
        for part in torch.split(order + self._first, size, 1):
            rows = self._table.index_select(0, part.flatten()).view(*part.shape, -1)
            features, actions, scalars, _ = rows.tensor_split(np.cumsum(self._parts).tolist(), -1)
            yield Minibatch(features, actions, *scalars.movedim(-1, 0).contiguous())

    def explained_variance(self) -> list[float]:
        """How much of the variance of the returns the old values explain, by run."""
        scalars = self._table[:, sum(self._parts[:2]) :].view(self.runs, self.size, -1)
        old_values, returns = scalars[..., 0].cpu().numpy(), scalars[..., 3].cpu().numpy()
        return [float(explained_variance(*pair)) for pair in zip(old_values, returns, strict=True)]


@dataclass(frozen=True)
class Losses:
    """What a minibatch says of each run, (R,) each."""

    policy_gradient_loss: Tensor
    value_loss: Tensor
    entropy_loss: Tensor
    loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor


class Adam:
    """The optimiser of R runs (R, width), each with its own count of steps."""

    def __init__(self, rows: Tensor, gradient: Tensor) -> None:
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(rows), torch.zeros_like(rows)
        self.steps = torch.zeros(len(rows), dtype=torch.float32, device=rows.device)
        per_run = (rows, gradient, self.exp_avg, self.exp_avg_sq, self.steps)
        self._runs = list(zip(*(matrix.unbind() for matrix in per_run), strict=True))

    def export_state(self, run: int, layout: Layout) -> dict[int, dict[str, Tensor]]:
        """One run's state by the place of each parameter, as torch's own Adam has it."""
        if not self.steps[run]:
            return {}
        moments = {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
        parts = {name: layout.parameters(rows[run]) for name, rows in moments.items()}
        return {
            place: {"step": self.steps[run].cpu().clone()}
            | {name: of[parameter].cpu().clone() for name, of in parts.items()}
            for place, parameter in enumerate(layout.shapes)
        }

    def load(self, run: int, layout: Layout, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Take over one run's state from torch's own Adam."""
        for place, parameter in enumerate(layout.shapes):
            if place in state:
                layout.parameters(self.exp_avg[run])[parameter].copy_(state[place]["exp_avg"])
                layout.parameters(self.exp_avg_sq[run])[parameter].copy_(state[place]["exp_avg_sq"])
                self.steps[run] = state[place]["step"]

    def step(self, which: Tensor, learning_rate: float) -> None:
        """Move the parameters of some runs (R,); nothing of the others is touched."""
        chosen = [run for run, goes in zip(self._runs, which.tolist(), strict=True) if goes]
        if not chosen:
            return
        rows, gradients, exp_avgs, exp_avg_sqs, steps = map(list, zip(*chosen, strict=True))
        adam(
            rows,
            gradients,
            exp_avgs,
            exp_avg_sqs,
            [],
            steps,
            fused=True,  # the kernel that stable-baselines3 is given too
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-5,
            maximize=False,
        )


class StackedPPO:
    """The learners of R runs.

    Args:
        models: a learner each, built and seeded as for training alone; the first one's
            hyperparameters are those of all.
        shuffles: a generator of minibatches' orders each.
        device: where they learn.

    Attributes:
        updates: how many epochs each run has learnt from (R,).
        diverged: the runs whose loss was no finite number (R,); they stay as they were then.
    """

    def __init__(
        self,
        models: Sequence[PPO],
        shuffles: Sequence[np.random.RandomState],
        device: torch.device | str = "cpu",
    ) -> None:
        self.policy = StackedPolicy([model.policy for model in models], device)
        self.optimizer = Adam(self.policy.rows, self.policy.gradient)
        for run, model in enumerate(models):
            self.optimizer.load(
                run, self.policy.layout, model.policy.optimizer.state_dict()["state"]
            )
        self.updates = np.array([sb3_model.get_updates(model) for model in models])
        self.diverged = torch.zeros(len(models), dtype=torch.bool, device=self.policy.rows.device)
        self._ppo, self._shuffles = models[0], shuffles

    def drop_run(self, run: int) -> None:
        """Learn no more for a run."""
        self.diverged[run] = True

    def export_run(self, run: int, model: PPO) -> None:
        """Give a run's learner its parameters, the state of its optimiser, and how far it is."""
        policy, optimizer = model.policy, model.policy.optimizer.state_dict()
        policy.load_state_dict(self.policy.state_dict(run))
        optimizer["state"] = self.optimizer.export_state(run, self.policy.layout)
        policy.optimizer.load_state_dict(optimizer)
        sb3_model.set_updates(model, int(self.updates[run]))

    @np.errstate(over="ignore", invalid="ignore")  # a run that diverges is found out by its loss
    def update(self, rollout: Rollout, progress_remaining: float) -> list[dict[str, float]]:
        """Learn from a rollout: some epochs over all of it in minibatches.

        Args:
            rollout: of every run.
            progress_remaining: 1 at the start of training, 0 at its end.

        Returns:
            what each run reports, by stable-baselines3's names.
        """
        ppo, history = self._ppo, UpdateLog()
        learning_rate = ppo.lr_schedule(progress_remaining)
        going_on = ~self.diverged
        for epoch in range(ppo.n_epochs):
            order = self._minibatch_orders(going_on, rollout.size)
            self.updates += going_on.cpu().numpy()
            for minibatch in rollout.minibatches(order, ppo.batch_size):
                losses = self._learn(minibatch, progress_remaining)
                history.add(epoch, going_on, losses)
                going_on = self._within_target_kl(going_on, losses)
                self.optimizer.step(going_on, learning_rate)
            if not going_on.any():
                break
        self.diverged |= ~self.policy.rows.isfinite().all(1)
        return self._report(history, rollout, learning_rate)

    def _learn(self, minibatch: Minibatch, progress_remaining: float) -> Losses:
        """The losses of a minibatch, and their clipped gradient."""
        ppo, count = self._ppo, minibatch.returns.shape[1]
        clip_range = ppo.clip_range(progress_remaining)  # type: ignore[operator]
        made = self.policy.forward(minibatch.features)
        log_ratio = made.distribution.log_prob(minibatch.actions) - minibatch.old_log_probs
        ratio = log_ratio.exp()

        advantages = minibatch.advantages
        if ppo.normalize_advantage:
            advantages = normalized(advantages)
        surrogate = advantages * ratio
        clipped = advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(surrogate, clipped).mean(1)
        # Where the clipped one is less, it stays as the ratio changes; ∂ratio/∂log p = ratio.
        of_log_prob = -torch.where(surrogate <= clipped, surrogate, 0.0) / count

        errors, felt = self._value_errors(made.values, minibatch, progress_remaining)
        value_loss = errors.square().mean(1)
        of_values = ppo.vf_coef * 2 / count * errors * felt

        entropy_loss = -made.distribution.entropy().mean(1)
        of_entropy = -ppo.ent_coef / count

        gradient = made.distribution.gradient(minibatch.actions, of_log_prob, of_entropy)
        self.policy.backward(made, *gradient, of_values)
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
        """How far predictions are from the returns, and where they change with the values."""
        clip_range_vf = self._ppo.clip_range_vf
        if clip_range_vf is None:
            return values - minibatch.returns, 1.0
        most = clip_range_vf(progress_remaining)  # type: ignore[operator]
        change = values - minibatch.old_values
        errors = minibatch.old_values + change.clamp(-most, most) - minibatch.returns
        return errors, (change.abs() <= most).to(values.dtype)

    def _clip_gradient(self) -> None:
        """Scale the gradient of each run down to a norm of max_grad_norm at most."""
        gradient = self.policy.gradient
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient *= (self._ppo.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)

    def _minibatch_orders(self, going_on: Tensor, size: int) -> Tensor:
        """A permutation (R, N) for each run; one that has stopped draws none, as alone."""
        orders = np.zeros((len(self._shuffles), size), dtype=np.int64)
        for run in np.flatnonzero(going_on.cpu()).tolist():
            orders[run] = self._shuffles[run].permutation(size)
        return torch.from_numpy(orders).to(self.policy.rows.device)

    def _within_target_kl(self, going_on: Tensor, losses: Losses) -> Tensor:
        """Which runs are left when those have stopped that went far enough, or diverged."""
        if self._ppo.target_kl is not None:
            going_on = going_on & ~(losses.approx_kl > 1.5 * self._ppo.target_kl)
        finite = losses.loss.isfinite()
        self.diverged |= going_on & ~finite
        return going_on & finite

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


def normalized(advantages: Tensor) -> Tensor:
    """Advantages (R, B) with mean 0 and standard deviation 1 in each run; one alone as it is."""
    count = advantages.shape[1]
    if count == 1:
        return advantages
    # By hand: torch's own std takes another way for a cohort of one.
    centred = advantages - advantages.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / (count - 1)
    return centred / (variance.sqrt() + 1e-8)


_REPORTED = [field.name for field in fields(Losses)]


class UpdateLog:
    """What the minibatches of one update said, for its report."""

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._counted: list[Tensor] = []
        self._losses: list[Tensor] = []

    def add(self, epoch: int, going_on: Tensor, losses: Losses) -> None:
        """Take in one minibatch, which counts for the runs that were going on."""
        self._epochs.append(epoch)
        self._counted.append(going_on)
        self._losses.append(torch.stack([getattr(losses, name) for name in _REPORTED]))

    def reports(self) -> list[dict[str, float]]:
        """Means over a run's minibatches; the KL over its last epoch, the loss of the last one."""
        losses = torch.stack(self._losses).cpu().numpy().astype(np.float64)  # (minibatches, 6, R)
        counted = torch.stack(self._counted).cpu().numpy()
        epochs = np.array(self._epochs)
        return [self._report(losses[c, :, run], epochs[c]) for run, c in enumerate(counted.T)]

    def _report(
        self, losses: npt.NDArray[np.float64], epochs: npt.NDArray[np.int_]
    ) -> dict[str, float]:
        if not len(losses):
            return {}
        of = dict(zip(_REPORTED, losses.T, strict=True))
        report = {f"train/{name}": float(column.mean()) for name, column in of.items()}
        report["train/loss"] = float(of["loss"][-1])
        report["train/approx_kl"] = float(of["approx_kl"][epochs == epochs[-1]].mean())
        return report
