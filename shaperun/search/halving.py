"""Successive halving: the worse half of the trials is pruned at a quarter and at half of training.

Jamieson & Talwalkar 2016; as in ASHA (Li 2020), a trial is compared with all earlier trials that
reached the same rung, not only with its generation. Trials are compared by the environment's
return, for any objective: early in training, successes are too rare to tell trials apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from shaperun.study.models import Study

RUNG_DIVISORS = (4, 2)  # of the timesteps of training


def rung_timesteps(study: Study) -> list[int]:
    """Return the timesteps of the rungs, rounded up to evaluations; empty without pruning."""
    if study.sweep is None or study.sweep.pruning is None:
        return []
    total = study.training.total_timesteps
    every = study.run_config(next(iter(study.arms.values())), 0).evaluation.every or total
    steps = [math.ceil(total / divisor / every) * every for divisor in RUNG_DIVISORS]
    return sorted({step for step in steps if step < total})


def select_better_half(trials: Collection[int], returns: Mapping[int, float]) -> set[int]:
    """Return those of `trials` that are in the better half of all trials with a return.

    In a tie, the earlier trial is better.
    """
    best = sorted(returns, key=lambda trial: (-returns[trial], trial))
    return set(trials) & set(best[: math.ceil(len(best) / 2)])
