"""The sweep's section of the report: ranking, the best trials on fresh seeds, pruned trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shaperun.analysis.summary import AGGREGATES, ArmSummary, format_estimate
from shaperun.common.text import format_exact, humanize, pluralize
from shaperun.report.charts import to_data_url
from shaperun.report.data import SweepData
from shaperun.search.halving import rung_timesteps
from shaperun.search.ranking import ConfirmedTrial, format_objectives
from shaperun.study.models import Study
from shaperun.study.sweep import SearchSweep, Sweep, describe_kinds

Context = dict[str, Any]
MAX_ROWS = 12  # shown at first; the rest is folded
SELECTION_BIAS = (
    "The best of many trials partly owes its value to chance, the more so the more trials there "
    "are; fresh seeds are free of this bias."
)


def make_sweep_section(
    study: Study, data: SweepData | None, arms: Iterable[ArmSummary]
) -> Context | None:
    """Return the variables of the sweep's section; None without a sweep."""
    if data is None or study.sweep is None:
        return None
    sweep, best = study.sweep, data.results.best
    summaries = {arm.arm: arm for arm in arms}
    fresh = {arm.arm: arm for arm in data.fresh}
    return {
        "method": _describe_method(study, sweep, data),
        "state": _describe_state(data),
        "kinds": describe_kinds(sweep.weights),
        "weights": list(sweep.weights),
        "objectives": [humanize(name) for name in sweep.metrics],
        "others": [humanize(name) for name in _other_names(sweep)],
        "ranking": [
            {"rank": rank} | _make_row(row, sweep, summaries)
            for rank, row in enumerate(data.results.ranking.iter_rows(named=True), start=1)
        ],
        "max_rows": MAX_ROWS,
        "best": [_make_best_row(winner, sweep, summaries, fresh) for winner in best],
        "confirmation": _describe_confirmation(study, best),
        "pruning": _describe_pruning(data.results.study),
        **_make_figures(data.figures),
        "pruned": [
            {
                "arm": result.trial.arm,
                "text": f"pruned after {result.stopped_at or 0:,} of "
                f"{study.training.total_timesteps:,} steps at "
                f"{format_objectives(sweep, result.values or ())[0]}",
            }
            for result in data.results.trials
            if result.state == "pruned"
        ],
    }


def write_headline(data: SweepData | None) -> str:
    """Return the result of the sweep in one sentence; empty without a sweep."""
    if data is None:
        return ""
    results, sweep = data.results, data.results.study.sweep
    if sweep is None or not results.best:
        return "Sweep: no trial is finished yet."
    trials = f"of {len(data.ranked_arms)} finished trials"
    if len(results.best) > 1:
        both = " and ".join(map(humanize, sweep.metrics))
        return f"Sweep: {len(results.best)} {trials} are on the Pareto front of {both}."
    (winner,) = results.best
    found, *again = format_objectives(sweep, *winner.known_values)
    text = f"Sweep: the best {trials} is {winner.result.trial.arm}, with "
    text += f"{found} on the seeds of the search"
    if not again:
        return f"{text}, not confirmed on fresh seeds."
    return f"{text} and {again[0]} on {pluralize(len(winner.seeds), 'fresh seed')}."


def _make_figures(figures: Mapping[str, bytes]) -> Context:
    """Return the figures, with several heatmaps of pairs of weights apart, to be folded."""
    urls = [
        {"name": name, "data": to_data_url(svg, "image/svg+xml")} for name, svg in figures.items()
    ]
    pairs = [figure for figure in urls if figure["name"].startswith("heatmap-")]
    pairs = pairs if len(pairs) > 1 else []
    return {"figures": [figure for figure in urls if figure not in pairs], "pairs": pairs}


def _other_names(sweep: Sweep) -> list[str]:
    return [] if "return" in sweep.metrics else ["return"]


def _describe_method(study: Study, sweep: Sweep, data: SweepData) -> str:
    single = len(study.seeds) == 1
    seeds = f"seed{'' if single else 's'} {', '.join(map(str, study.seeds))}"
    value = "its run" if single else f"{AGGREGATES[sweep.aggregate]} over its runs"
    return (
        f"Method {sweep.method} over {describe_kinds(sweep.weights)} of {sweep.base} "
        f"({', '.join(sweep.weights)}), for {sweep.describe_objectives()}: "
        f"{_count_planned(data)} trials, each trained with {seeds} and valued by {value}"
        f"{'; ranked by the first objective' if len(sweep.objective) > 1 else ''}."
    )


def _describe_state(data: SweepData) -> str:
    """Return the number of trials per state, including those that are not drawn yet."""
    kinds = {"done": "finished", "pruned": "pruned", "failed": "failed", "unfinished": "unfinished"}
    counts = {kind: data.results.count(state) for state, kind in kinds.items()}
    counts["not drawn yet"] = _count_planned(data) - len(data.results.trials)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count > 0)


def _count_planned(data: SweepData) -> int:
    sweep = data.results.study.sweep
    return sweep.samples if isinstance(sweep, SearchSweep) else len(data.results.trials)


def _make_row(row: Mapping[str, Any], sweep: Sweep, summaries: Mapping[str, ArmSummary]) -> Context:
    arm = summaries[row["arm"]]
    objectives = [(name, sweep.aggregate, row[name]) for name in sweep.metrics]
    others = [(name, "iqm", arm.metrics[name].iqm) for name in _other_names(sweep)]
    return {
        "arm": row["arm"],
        "weights": [format_exact(row[name]) for name in sweep.weights],
        "runs": row["runs"],
        "cells": [_make_cell(*item, arm) for item in [*objectives, *others]],
    }


def _make_cell(metric: str, aggregate: str, value: float, arm: ArmSummary) -> tuple[str, str]:
    """Return a value over runs, with the interval of the same statistic (none for the worst)."""
    estimate = arm.metrics[metric]
    low, high = estimate.interval_of(aggregate)
    return format_estimate(metric, replace(estimate, iqm=value, low=low, high=high))


def _make_best_row(
    winner: ConfirmedTrial,
    sweep: Sweep,
    summaries: Mapping[str, ArmSummary],
    fresh: Mapping[str, ArmSummary],
) -> Context:
    arm = winner.result.trial.arm

    def cells(
        values: Sequence[float] | None, arms: Mapping[str, ArmSummary]
    ) -> list[tuple[str, str]]:
        pairs = zip(sweep.metrics, values or (), strict=True)
        return [_make_cell(name, sweep.aggregate, value, arms[arm]) for name, value in pairs]

    return {
        "arm": arm,
        "search": cells(winner.result.values, summaries),
        "fresh": cells(winner.values, fresh) if winner.values else [],
    }


def _describe_confirmation(study: Study, best: Sequence[ConfirmedTrial]) -> str:
    if not best:
        return ""
    seeds = best[0].seeds
    if not seeds:
        return (
            "Not confirmed: the study asks for no fresh seeds (sweep.confirm: 0). The best of many "
            "trials partly owes its value to chance, so expect less than this."
        )
    names = ", ".join(map(str, seeds))
    if all(winner.values is None for winner in best):
        return (
            f"Not confirmed yet: the runs with the fresh seeds {names} are not finished; "
            f"rerun the sweep to train them. {SELECTION_BIAS}"
        )
    return (
        f"{SELECTION_BIAS} The fresh seeds are {names}; their runs count for no arm on this page. "
        "sweep/best.yaml trains the baseline on them, too."
    )


def _describe_pruning(study: Study) -> str:
    rungs = " and ".join(f"{step:,}" for step in rung_timesteps(study))
    if not rungs:
        return ""
    return (
        f"Successive halving: at the first evaluation after {rungs} of "
        f"{study.training.total_timesteps:,} steps, trials in the lower half of environment return "
        "are pruned. Pruned trials are in no ranking, curve, table or verdict of this page."
    )
