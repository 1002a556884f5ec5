"""Successive halving: at a quarter and at half of the training the worse half of the trials stops.

Jamieson & Talwalkar 2016; as in ASHA (Li 2020), a trial is compared with all trials so far that
came as far as it did, and not with its own generation alone. What is compared is the environment's
own return, whatever the objective: early in training, successes are too rare to tell trials apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from shaperun.study.models import Study

RUNG_SHARES = (4, 2)


def rungs(study: Study) -> list[int]:
    """After how many steps trials are compared: evaluations nearest above these parts of training.

    Empty without pruning.
    """
    if study.sweep is None or study.sweep.pruning is None:
        return []
    total = study.training.total_timesteps
    every = study.run_config(next(iter(study.arms.values())), 0).evaluation.every or total
    steps = [math.ceil(total / part / every) * every for part in RUNG_SHARES]
    return sorted({step for step in steps if step < total})


def better_half(trials: Collection[int], returns: Mapping[int, float]) -> set[int]:
    """Which of the trials go on.

    Args:
        trials: those that are asked about; one without a return does not go on.
        returns: of all trials that came so far; of two that are the same the earlier one is better.
    """
    best = sorted(returns, key=lambda trial: (-returns[trial], trial))
    return set(trials) & set(best[: math.ceil(len(best) / 2)])
