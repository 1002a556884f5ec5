"""Which weights to try next: the samplers of Optuna, asked for a generation at a time.

What is suggested depends on the sweep and on what the generations before came to, and on nothing
else: neither on the number of workers nor on when a search was killed. So everything that a sampler
remembers is built anew from the history; nothing of Optuna's is stored.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shaperun.common.errors import UserError
from shaperun.search.arms import round_to_range
from shaperun.study.sweep import SearchSweep


@dataclass(frozen=True)
class PastTrial:
    """Weights that were tried, and what they came to: a value an objective; none if it failed."""

    weights: dict[str, float]
    values: tuple[float, ...] | None
    stopped_at: int | None = None
    """After how many steps it was stopped, at the value that it had then; None if it was not."""


def suggest_weights(
    sweep: SearchSweep, history: Sequence[Sequence[PastTrial]], count: int
) -> list[dict[str, float]]:
    """The weights of the next generation.

    Args:
        sweep: the method, its ranges and its seed.
        history: the generations before, in order.
        count: how many to draw.

    Raises:
        UserError: the history is not what this version of Optuna would have drawn.
    """
    import optuna  # takes a moment to import

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some options are young; they are pinned and tested
        study = optuna.create_study(
            directions=["minimize" if name[0] == "-" else "maximize" for name in sweep.objective],
            sampler=_sampler(sweep),
        )
        ranges: dict[str, Any] = {
            term: optuna.distributions.FloatDistribution(range_.low, range_.high, log=range_.log)
            for term, range_ in sweep.weights.items()
        }
        for generation in history:
            asked = [study.ask(ranges) for _ in generation]
            if [_weights(sweep, trial) for trial in asked] != [t.weights for t in generation]:
                raise UserError(
                    f"the trials so far were not drawn by Optuna {optuna.__version__}: install the "
                    "version that drew them, or search with --fresh"
                )
            for trial, tried in zip(asked, generation, strict=True):
                _tell(study, trial, tried)
        return [_weights(sweep, study.ask(ranges)) for _ in range(count)]


def _sampler(sweep: SearchSweep) -> Any:
    from optuna import samplers

    seed = sweep.seed

    if sweep.method == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=sweep.population)
    if sweep.method == "cmaes":
        return samplers.CmaEsSampler(seed=seed, popsize=max(5, sweep.population))
    return samplers.TPESampler(
        seed=seed, n_startup_trials=sweep.population, multivariate=True, constant_liar=True
    )


def _weights(sweep: SearchSweep, trial: Any) -> dict[str, float]:
    return {
        term: round_to_range(trial.params[term], range_) for term, range_ in sweep.weights.items()
    }


def _tell(study: Any, trial: Any, tried: PastTrial) -> None:
    from optuna.trial import TrialState

    if tried.values is None:
        study.tell(trial, state=TrialState.FAIL)
    elif tried.stopped_at is None:
        study.tell(trial, tried.values)
    else:
        trial.report(tried.values[0], tried.stopped_at)
        study.tell(trial, state=TrialState.PRUNED)
