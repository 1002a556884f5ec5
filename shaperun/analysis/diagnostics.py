"""Whether the learners were well: what they reported of their updates, and what is out of bounds.

The bounds are rules of thumb. A breach explains a result, it does not judge it.
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

KL = 0.03  # where the study sets no target_kl
FREQUENT_SHARE = 0.1  # the share of updates that may lie beyond a bound
CLIP_FRACTION_BOUND = 0.3
ENTROPY_COLLAPSE_SHARE = 0.05  # of the entropy, or of the standard deviation, at the start
UNCLIPPED_FRACTION = 1e-3
UNCHANGED_ENTROPY_SHARE = 0.05  # a change of entropy, relative to what it was


@dataclass(frozen=True)
class Measure:
    """One figure of the updates, as it is drawn: its column, its name, and its bound if any."""

    column: str
    title: str
    bound: float | None = None
    logarithmic: bool = False


@dataclass(frozen=True)
class Diagnostic:
    """Something out of bounds in one run."""

    arm: str
    seed: int
    rule: str
    message: str


def measures(updates: pl.DataFrame, study: Study) -> list[Measure]:
    """The figures that these learners reported, in the order they are shown."""
    every = [
        Measure("approx_kl", "approximate KL", kl_bound(study)),
        Measure("clip_fraction", "clip fraction", CLIP_FRACTION_BOUND),
        Measure("entropy", "entropy"),
        Measure("explained_variance", "explained variance", 0.0),
        Measure("value_loss", "value loss", logarithmic=True),
        Measure("std", "standard deviation of actions"),
        Measure("loss", "loss", logarithmic=True),
    ]
    there = {m.column for m in every if len(_values(updates, m.column))}
    if "value_loss" in there:
        there.discard("loss")  # the sum of what is shown already
    return [measure for measure in every if measure.column in there]


def kl_bound(study: Study) -> float:
    """The target of the study, or the rule of thumb."""
    target = study.training.hyperparameters.get("target_kl")
    return float(target) if target else KL


def diagnose(updates: pl.DataFrame, study: Study) -> list[Diagnostic]:
    """What was out of bounds, run by run.

    Args:
        updates: arm, seed, timesteps and the learners' statistics, as `training_record` gives
            them.
        study: says what KL the learner aims at.
    """
    found: list[Diagnostic] = []
    if updates.is_empty():
        return found
    for (arm, seed), run in updates.group_by("arm", "seed", maintain_order=True):
        training = study.training_of(study.arms[str(arm)])
        for name, rule in RULES.items():
            found += [
                Diagnostic(str(arm), int(str(seed)), name, text) for text in rule(run, training)
            ]
    return found


Rule = Callable[[pl.DataFrame, TrainingConfig], Iterator[str]]
RULES: dict[str, Rule] = {}


def _rule(function: Rule) -> Rule:
    RULES[function.__name__.strip("_").replace("_", "-")] = function
    return function


def _values(run: pl.DataFrame, column: str) -> Array:
    """The finite values of a column (n,); empty where the learner has none."""
    if column not in run.columns:
        return np.zeros(0)
    values = run[column].cast(pl.Float64).drop_nulls().to_numpy()
    return np.asarray(values[np.isfinite(values)])


@_rule
def _kl_above_target(run: pl.DataFrame, training: TrainingConfig) -> Iterator[str]:
    target = training.hyperparameters.get("target_kl")
    # stable-baselines3's PPO stops an update only at 1.5 times the target.
    kl, bound = _values(run, "approx_kl"), 1.5 * float(target) if target else KL
    beyond = float((kl > bound).mean()) if len(kl) else 0.0
    if beyond > FREQUENT_SHARE:
        yield (
            f"{beyond:.0%} of the updates moved the policy by an approximate KL above {bound:g} "
            f"(at most {kl.max():.2g}): lower learning_rate or n_epochs"
            f"{'' if target else ', or set target_kl'}"
        )


@_rule
def _clipping(run: pl.DataFrame, _training: TrainingConfig) -> Iterator[str]:
    late = _second_half(_values(run, "clip_fraction"))
    if len(late) and np.median(late) > CLIP_FRACTION_BOUND:
        yield (
            f"half of the late updates clip more than {np.median(late):.0%} of the samples: the "
            "steps are too long, lower learning_rate or n_epochs"
        )


@_rule
def _entropy_collapse(run: pl.DataFrame, _training: TrainingConfig) -> Iterator[str]:
    column = "std" if len(_values(run, "std")) else "entropy"  # a Box's entropy can be negative
    values = _values(run, column)
    early = values[: max(1, len(values) // 2)]
    if len(early) and values[0] > 0 and early.min() < ENTROPY_COLLAPSE_SHARE * values[0]:
        what = "standard deviation of the actions" if column == "std" else "entropy"
        yield (
            f"before half of training the {what} fell to {early.min() / values[0]:.1%} of what it "
            "was: the policy stopped exploring, raise ent_coef"
        )


@_rule
def _explains_nothing(run: pl.DataFrame, _training: TrainingConfig) -> Iterator[str]:
    late = _second_half(_values(run, "explained_variance"))
    if len(late) and np.median(late) < 0.005:
        yield (
            f"over the second half the critic explains {np.median(late) + 0.0:.2f} of the variance "
            f"of the returns (value loss {format_number(_last(run, 'value_loss'))}): its predictions are "
            "worth nothing; normalise the rewards or scale them down"
        )


@_rule
def _still_random(run: pl.DataFrame, _training: TrainingConfig) -> Iterator[str]:
    clip, entropy = _values(run, "clip_fraction"), _values(run, "entropy")
    if len(clip) < 2 or len(entropy) < 2 or np.quantile(clip, 0.9) > UNCLIPPED_FRACTION:
        return
    if abs(entropy[-1] - entropy[0]) < UNCHANGED_ENTROPY_SHARE * abs(entropy[0]):
        yield (
            f"no update clips, and the entropy is {entropy[-1] / entropy[0]:.0%} of what it was at "
            "the start: the policy still acts nearly at random, and evaluation shows its slight "
            f"preferences. A huge value loss ({format_number(_last(run, 'value_loss'))} here) leaves the "
            "policy nothing of the clipped gradient: normalise the rewards or scale them down"
        )


def _last(run: pl.DataFrame, column: str) -> float:
    values = _values(run, column)
    return float(values[-1]) if len(values) else 0.0


def _second_half(values: Array) -> Array:
    return values[len(values) // 2 :]
