"""Training diagnostics: the learners' update statistics, and the runs with values out of bounds.

The bounds are rules of thumb: they explain a result, and do not judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from shaperun.common.text import format_number
from shaperun.envs.base import Array
from shaperun.study.models import Study
from shaperun.study.training import TrainingConfig

MAX_KL = 0.03  # without a target_kl
FREQUENT_SHARE = 0.1  # of the updates; fewer may be beyond a bound
MAX_CLIP_FRACTION = 0.3
MIN_CLIP_FRACTION = 1e-3
MIN_EXPLAINED_VARIANCE = 0.005
ENTROPY_COLLAPSE_SHARE = 0.05  # of the initial entropy, or standard deviation
UNCHANGED_ENTROPY_SHARE = 0.05  # of the initial entropy
HUGE_VALUE_LOSS = 10.0  # errors of about 3; its gradient is far beyond the usual max_grad_norm
TINY_VALUE_LOSS = 1e-3  # errors of about 0.03; its gradient hardly moves the critic


@dataclass(frozen=True)
class Measure:
    """An update statistic as drawn: its column, title and bound, if any."""

    column: str
    title: str
    bound: float | None = None
    logarithmic: bool = False


@dataclass(frozen=True)
class Diagnostic:
    """A statistic out of bounds in one run."""

    arm: str
    seed: int
    rule: str
    message: str


def reported_measures(updates: pl.DataFrame, study: Study) -> list[Measure]:
    """Return the statistics that these learners reported, in display order."""
    measures = [
        Measure("approx_kl", "approximate KL", kl_bound(study)),
        Measure("clip_fraction", "clip fraction", MAX_CLIP_FRACTION),
        Measure("entropy", "entropy"),
        Measure("explained_variance", "explained variance", 0.0),
        Measure("value_loss", "value loss", logarithmic=True),
        Measure("std", "standard deviation of actions"),
        Measure("loss", "loss", logarithmic=True),
    ]
    reported = {m.column for m in measures if len(_finite_values(updates, m.column))}
    if "value_loss" in reported:
        reported.discard("loss")  # a sum of the others
    return [measure for measure in measures if measure.column in reported]


def kl_bound(study: Study) -> float:
    """Return the study's target_kl, or the rule of thumb without one."""
    target = study.training.hyperparameters.get("target_kl")
    return float(target) if target else MAX_KL


def diagnose(updates: pl.DataFrame, study: Study) -> list[Diagnostic]:
    """Apply every rule to every run of `update_statistics`."""
    diagnostics: list[Diagnostic] = []
    if updates.is_empty():
        return diagnostics
    for (arm, seed), run in updates.group_by("arm", "seed", maintain_order=True):
        training = study.training_of(study.arms[str(arm)])
        for name, rule in RULES.items():
            diagnostics += [
                Diagnostic(str(arm), int(str(seed)), name, text) for text in rule(run, training)
            ]
    return diagnostics


Rule = Callable[[pl.DataFrame, TrainingConfig], Iterator[str]]
RULES: dict[str, Rule] = {}


def _rule(function: Rule) -> Rule:
    RULES[function.__name__.strip("_").replace("_", "-")] = function
    return function


def _finite_values(run: pl.DataFrame, column: str) -> Array:
    """Return the finite values (n,) of a column; none if the learner does not report it."""
    if column not in run.columns:
        return np.zeros(0)
    values = run[column].cast(pl.Float64).drop_nulls().to_numpy()
    return np.asarray(values[np.isfinite(values)])


def _late_median(run: pl.DataFrame, column: str) -> float:
    """Return the median over the second half of training; NaN without values."""
    values = _finite_values(run, column)
    return float(np.median(values[len(values) // 2 :])) if len(values) else np.nan


def _last_value_loss(run: pl.DataFrame) -> float:
    """Return the last value loss; NaN without values."""
    losses = _finite_values(run, "value_loss")
    return float(losses[-1]) if len(losses) else np.nan


def describe_rule(name: str) -> str:
    """Return what a rule flags."""
    return (RULES[name].__doc__ or name).rstrip(".")


@_rule
def _kl_above_target(run: pl.DataFrame, training: TrainingConfig) -> Iterator[str]:
    """Updates change the policy too much."""
    target = training.hyperparameters.get("target_kl")
    # stable-baselines3's PPO stops an update only at 1.5 times the target.
    kl, bound = _finite_values(run, "approx_kl"), 1.5 * float(target) if target else MAX_KL
    share = float((kl > bound).mean()) if len(kl) else 0.0
    if share > FREQUENT_SHARE:
        yield (
            f"{share:.0%} of the updates changed the policy by an approximate KL above {bound:g} "
            f"(maximum {kl.max():.2g}), which makes training unstable; lower learning_rate or "
            f"n_epochs{'' if target else ', or set target_kl'}"
        )


@_rule
def _clipping(run: pl.DataFrame, _training: TrainingConfig) -> Iterator[str]:
    """Updates clip too many samples."""
    fraction = _late_median(run, "clip_fraction")
    if fraction > MAX_CLIP_FRACTION:
        yield (
            f"the median update in the second half of training clipped {fraction:.0%} of the "
            "samples, so the policy steps are too large; lower learning_rate or n_epochs"
        )


@_rule
def _entropy_collapse(run: pl.DataFrame, _training: TrainingConfig) -> Iterator[str]:
    """The policy stopped exploring early."""
    column = "std" if len(_finite_values(run, "std")) else "entropy"  # a Box's may be negative
    values = _finite_values(run, column)
    early = values[: max(1, len(values) // 2)]
    if len(early) and values[0] > 0 and early.min() < ENTROPY_COLLAPSE_SHARE * values[0]:
        name = "standard deviation of the actions" if column == "std" else "entropy"
        yield (
            f"the {name} fell to {early.min() / values[0]:.1%} of its initial value in the first "
            "half of training, so the policy stopped exploring; raise ent_coef"
        )


@_rule
def _explains_nothing(run: pl.DataFrame, training: TrainingConfig) -> Iterator[str]:
    """The critic explains nothing."""
    explained, loss = _late_median(run, "explained_variance"), _last_value_loss(run)
    if not explained < MIN_EXPLAINED_VARIANCE:
        return
    known = "" if np.isnan(loss) else f" (last value loss {format_number(loss)})"
    text = (
        f"the median explained variance in the second half of training is "
        f"{format_number(round(explained, 3))}{known}, so the critic's predictions are useless; "
    )
    if training.normalize.rewards:
        yield f"{text}train for longer or with more steps per update"
    elif loss >= HUGE_VALUE_LOSS:
        yield f"{text}normalize the rewards or scale them down"
    elif loss <= TINY_VALUE_LOSS:
        yield f"{text}normalize the rewards or scale them up"
    else:
        yield f"{text}normalize the rewards or train for longer"


@_rule
def _still_random(run: pl.DataFrame, training: TrainingConfig) -> Iterator[str]:
    """The policy is still almost random."""
    clip, entropy = _finite_values(run, "clip_fraction"), _finite_values(run, "entropy")
    if len(clip) < 2 or len(entropy) < 2 or np.quantile(clip, 0.9) > MIN_CLIP_FRACTION:
        return
    if abs(entropy[-1] - entropy[0]) >= UNCHANGED_ENTROPY_SHARE * abs(entropy[0]):
        return
    text = (
        f"hardly any update was clipped, and the entropy ended at {entropy[-1] / entropy[0]:.0%} "
        "of its initial value, so the policy still acts almost randomly, and its evaluation shows "
        "only slight preferences"
    )
    loss = _last_value_loss(run)
    if loss >= HUGE_VALUE_LOSS:
        remedy = "scale the rewards down" if training.normalize.rewards else "normalize the rewards"
        yield (
            f"{text}. A huge value loss (here {format_number(loss)} at the end) takes all of the "
            f"clipped gradient; {remedy}"
        )
    else:
        yield f"{text}; train for longer or raise learning_rate"
