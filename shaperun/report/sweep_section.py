"""What a sweep found, for the report: the ranking, the best on fresh seeds, what was pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shaperun.analysis.summary import (
    AGGREGATES,
    ArmSummary,
    Estimate,
    format_estimate,
    format_metric,
)
from shaperun.common.text import humanize
from shaperun.report.charts import to_data_url
from shaperun.report.data import SweepData
from shaperun.search.halving import rungs
from shaperun.search.ranking import Confirmed
from shaperun.search.trial_results import TrialResult
from shaperun.study.models import Study
from shaperun.study.sweep import SearchSweep, Sweep

Context = dict[str, Any]
MAX_ROWS = 12  # in the open; all of them are a click away
LUCK = (
    "The best of many trials owes part of its value to luck with its seeds, and the more trials "
    "there were, the more: believe the fresh seeds."
)


def sweep_section(study: Study, trials: SweepData, arms: Iterable[ArmSummary]) -> Context:
    """What the page says of a sweep.

    Args:
        study: the study, its sweep included.
        trials: what became of the sweep.
        arms: what the arms of the finished trials came to.
    """
    sweep = trials.found.study.sweep
    assert sweep  # noqa: S101 (there are no trials without one)
    measured = {arm.arm: arm for arm in arms}
    fresh = {arm.arm: arm for arm in trials.fresh}
    return {
        "how": _how(study, sweep, trials),
        "state": _state(trials),
        "weights": list(sweep.weights),
        "objectives": [humanize(name) for name in _names(sweep)],
        "others": [humanize(name) for name in _others(sweep)],
        "ranking": [
            {"place": place} | _row(row, sweep, measured)
            for place, row in enumerate(trials.found.ranking.iter_rows(named=True), start=1)
        ],
        "open": MAX_ROWS,
        "best": [_best(winner, sweep, measured, fresh) for winner in trials.found.best],
        "confirmation": _confirmation(study, trials.found.best),
        "pruning": _pruning(study, trials),
        **_figures(trials.figures),
        "pruned": [_stopped(result, sweep, study) for result in trials.results("pruned")],
    }


def lead(trials: SweepData) -> str:
    """The answer in a sentence."""
    found, sweep = trials.found, trials.found.study.sweep
    if sweep is None or not found.best:
        return "The sweep: no trial is finished yet."
    many = f"of {len(trials.ranked)} finished trials"
    if len(found.best) > 1:
        both = " and ".join(map(humanize, _names(sweep)))
        return f"The sweep: {len(found.best)} {many} are beaten by no other in both {both}."
    (winner,) = found.best
    text = f"The sweep: the best {many} is {winner.result.trial.arm}, with "
    text += f"{_said(sweep, winner.result.values)} on the seeds of the search"
    if winner.values is None:
        return f"{text}, not confirmed on fresh ones."
    return f"{text} and {_said(sweep, winner.values)} on {_fresh_seeds(winner.seeds)}."


def _figures(figures: Mapping[str, bytes]) -> Context:
    """The figures that are seen at once, and those of pairs of weights, of which there are many."""
    pairs = [name for name in figures if name.startswith("heatmap-")]
    first = [name for name in figures if name not in pairs or len(pairs) == 1]
    return {
        "figures": [_figure(name, figures[name]) for name in first],
        "pairs": [_figure(name, figures[name]) for name in pairs if name not in first],
    }


def _figure(name: str, svg: bytes) -> Context:
    return {"name": name, "data": to_data_url(svg, "image/svg+xml")}


def _names(sweep: Sweep) -> list[str]:
    return [name.removeprefix("-") for name in sweep.objective]


def _others(sweep: Sweep) -> list[str]:
    """What stands beside the objectives: the return, whatever was sought."""
    return [name for name in ("return",) if name not in _names(sweep)]


def _said(sweep: Sweep, values: Sequence[float] | None) -> str:
    pairs = zip(_names(sweep), values or (), strict=True)
    return " and ".join(f"{humanize(name)} {format_metric(name, value)}" for name, value in pairs)


def _fresh_seeds(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} fresh seed{'s' if len(seeds) > 1 else ''}"


def _how(study: Study, sweep: Sweep, trials: SweepData) -> str:
    """By which method what was sought, over which seeds, and how runs make a trial's value."""
    sought = " and ".join(
        f"{'less' if name[0] == '-' else 'more'} {humanize(name.removeprefix('-'))}"
        for name in sweep.objective
    )
    few = len(study.seeds) == 1
    seeds = f"seed{'' if few else 's'} {', '.join(map(str, study.seeds))}"
    value = "its one run" if few else f"{AGGREGATES[sweep.aggregate]} of its runs"
    return (
        f"Method {sweep.method} over the weights of {sweep.base} ({', '.join(sweep.weights)}), for "
        f"{sought}: {_asked(trials)} trials, each trained with {seeds} and worth {value}"
        f"{'; ranked by the first' if len(sweep.objective) > 1 else ''}."
    )


def _state(trials: SweepData) -> str:
    """How many trials ended how; those still to be drawn are not among them."""
    kinds = {"done": "finished", "pruned": "pruned", "failed": "failed", "unfinished": "unfinished"}
    parts = [f"{n} {kind}" for state, kind in kinds.items() if (n := trials.found.count(state))]
    left = _asked(trials) - len(trials.found.trials)
    return ", ".join([*parts, *([f"{left} not drawn yet"] if left > 0 else [])])


def _asked(trials: SweepData) -> int:
    """How many trials the study asks for; a search may not have drawn all of them yet."""
    sweep = trials.found.study.sweep
    known = len(trials.found.trials)
    return sweep.samples if isinstance(sweep, SearchSweep) else known


def _row(row: Mapping[str, Any], sweep: Sweep, measured: Mapping[str, ArmSummary]) -> Context:
    arm = measured[row["arm"]]
    others = [(name, "iqm", arm.metrics[name].iqm) for name in _others(sweep)]
    sought = [(name, sweep.aggregate, row[name]) for name in _names(sweep)]
    return {
        "arm": row["arm"],
        "weights": [f"{row[name]:g}" for name in sweep.weights],
        "runs": row["runs"],
        "cells": [_cell(name, how, value, arm) for name, how, value in [*sought, *others]],
    }


def _cell(metric: str, aggregate: str, value: float, arm: ArmSummary) -> tuple[str, str]:
    """A value over runs, with the interval of the statistic that it is."""
    low, high = _ends(arm.metrics[metric], aggregate)
    return format_estimate(metric, replace(arm.metrics[metric], iqm=value, low=low, high=high))


def _ends(estimate: Estimate, aggregate: str) -> tuple[float | None, float | None]:
    return {
        "iqm": (estimate.low, estimate.high),
        "median": (estimate.median_low, estimate.median_high),
        "mean": (estimate.mean_low, estimate.mean_high),
    }.get(aggregate, (None, None))  # the worst of a few runs has none


def _best(
    winner: Confirmed,
    sweep: Sweep,
    measured: Mapping[str, ArmSummary],
    fresh: Mapping[str, ArmSummary],
) -> Context:
    arm = winner.result.trial.arm

    def cells(
        values: Sequence[float] | None, arms: Mapping[str, ArmSummary]
    ) -> list[tuple[str, str]]:
        pairs = zip(_names(sweep), values or (), strict=True)
        return [_cell(name, sweep.aggregate, value, arms[arm]) for name, value in pairs]

    return {
        "arm": arm,
        "search": cells(winner.result.values, measured),
        "fresh": cells(winner.values, fresh) if winner.values else [],
    }


def _confirmation(study: Study, best: Sequence[Confirmed]) -> str:
    """Why the two columns differ, or why there is only one."""
    if not best:
        return ""
    seeds = best[0].seeds
    if not seeds:
        return (
            "Not confirmed: the study asks for no fresh seeds (sweep.confirm: 0). The best of many "
            "trials owes part of its value to luck with its seeds, so expect less than this."
        )
    named = ", ".join(map(str, seeds))
    if all(winner.values is None for winner in best):
        return (
            f"Not confirmed yet: the runs with the fresh seeds {named} are not finished; "
            f"shaperun sweep {study.study} goes on. {LUCK}"
        )
    return (
        f"{LUCK} These are the seeds {named}, which the search has not seen; their runs count for "
        "no arm of this page. sweep/best.yaml trains the baseline on them, too."
    )


def _pruning(study: Study, trials: SweepData) -> str:
    """By which rule trials were stopped."""
    steps = rungs(trials.found.study)
    if not steps:
        return ""
    when = " and again from ".join(f"{step:,}" for step in steps)
    return (
        f"Pruned by successive halving: at the first evaluation from {when} of "
        f"{study.training.total_timesteps:,} steps on, of all trials that came so far the half "
        "with the lower environment return stops. Pruned trials are compared with no finished one: "
        "they are in no ranking, and in no curve, table or verdict of this page."
    )


def _stopped(result: TrialResult, sweep: Sweep, study: Study) -> Context:
    return {
        "arm": result.trial.arm,
        "text": f"pruned after {result.stopped_at or 0:,} of {study.training.total_timesteps:,} "
        f"steps at {_said(sweep, result.values)}",
    }
