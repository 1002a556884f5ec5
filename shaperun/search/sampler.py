"""Suggest weights with Optuna's samplers, one generation at a time.

Suggestions depend only on the sweep and the results of earlier generations, not on the number of
workers or on when a sweep was interrupted: the sampler's state is rebuilt from the history, and
nothing of Optuna's is stored.
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
    """Weights that were tried, and one value per objective (None if the trial failed).

    For a pruned trial, `values` are those at `stopped_at`, in timesteps.
    """

    weights: dict[str, float]
    values: tuple[float, ...] | None
    stopped_at: int | None = None


def suggest_weights(
    sweep: SearchSweep, history: Sequence[Sequence[PastTrial]], count: int
) -> list[dict[str, float]]:
    """Return the weights of `count` trials that follow the generations of `history`.

    Raises:
        UserError: this version of Optuna would have drawn another history.
    """
    import optuna  # slow to import

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some options are experimental; they are pinned and tested
        study = optuna.create_study(
            directions=["minimize" if name[0] == "-" else "maximize" for name in sweep.objective],
            sampler=_make_sampler(sweep),
        )
        ranges: dict[str, Any] = {
            term: optuna.distributions.FloatDistribution(range_.low, range_.high, log=range_.log)
            for term, range_ in sweep.weights.items()
        }
        for generation in history:
            asked = [study.ask(ranges) for _ in generation]
            if [_round_weights(sweep, trial) for trial in asked] != [t.weights for t in generation]:
                raise UserError(
                    f"the trials so far were not drawn by Optuna {optuna.__version__}; install the "
                    "version that drew them, or restart the sweep with --fresh"
                )
            for trial, past in zip(asked, generation, strict=True):
                _tell(study, trial, past)
        return [_round_weights(sweep, study.ask(ranges)) for _ in range(count)]


def _make_sampler(sweep: SearchSweep) -> Any:
    from optuna import samplers

    seed = sweep.seed

    if sweep.method == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=sweep.population)
    if sweep.method == "cmaes":
        return samplers.CmaEsSampler(seed=seed, popsize=max(5, sweep.population))
    return samplers.TPESampler(
        seed=seed, n_startup_trials=sweep.population, multivariate=True, constant_liar=True
    )


def _round_weights(sweep: SearchSweep, trial: Any) -> dict[str, float]:
    return {
        term: round_to_range(trial.params[term], range_) for term, range_ in sweep.weights.items()
    }


def _tell(study: Any, trial: Any, past: PastTrial) -> None:
    from optuna.trial import TrialState

    if past.values is None:
        study.tell(trial, state=TrialState.FAIL)
    elif past.stopped_at is None:
        study.tell(trial, past.values)
    else:
        trial.report(past.values[0], past.stopped_at)
        study.tell(trial, state=TrialState.PRUNED)
