"""The figures of a sweep: their names, titles and notes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import polars as pl
from matplotlib.figure import Figure

from shaperun.common.text import pluralize
from shaperun.report.plots import parallel, pareto, response, style
from shaperun.report.plots import trials as plots
from shaperun.report.plots.trials import SweptWeight
from shaperun.stats.importance import explained_variance_shares
from shaperun.study.models import Study
from shaperun.study.sweep import GridSweep, Sweep, describe_kinds, describe_swept


def draw_figures(
    study: Study, ranking: pl.DataFrame, trials: pl.DataFrame
) -> Iterator[tuple[str, Figure]]:
    """Yield the named figures of a sweep from its `SweepResults.ranking` and `.table`."""
    if study.sweep is None:
        return
    title = f"{study.study}: sweep on {study.setting}"
    weights = swept_weights(study.sweep)
    yield from _responses(study, study.sweep, weights, ranking, trials, title)
    yield from _heatmaps(study, study.sweep, weights, ranking, title)
    yield from _joint_figures(study, study.sweep, weights, trials, title)


def swept_weights(sweep: Sweep) -> list[SweptWeight]:
    """Return the swept weights with their ranges."""
    if isinstance(sweep, GridSweep):
        return [
            SweptWeight(name, min(values), max(values), levels=tuple(sorted(set(values))))
            for name, values in sweep.weights.items()
        ]
    return [SweptWeight(n, r.low, r.high, r.log) for n, r in sweep.weights.items()]


def share_table(
    trials: pl.DataFrame, weights: Sequence[SweptWeight], objectives: Sequence[str]
) -> pl.DataFrame:
    """Return one row per objective and weight: objective, weight, share, chance, trials.

    The table is empty if too few trials are finished, or if all have the same value.
    """
    done = plots.select_finished(trials)
    positions = [weight.normalize(style.to_floats(done[weight.column])) for weight in weights]
    rows = [
        (objective, weight.name, share.share, share.chance, len(done))
        for objective in objectives
        for weight, share in zip(
            weights,
            explained_variance_shares(
                positions, style.to_floats(done[objective.removeprefix("-")])
            ),
            strict=False,
        )
    ]
    schema = ["objective", "weight", "share", "chance", "trials"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _responses(
    study: Study,
    sweep: Sweep,
    weights: Sequence[SweptWeight],
    ranking: pl.DataFrame,
    trials: pl.DataFrame,
    title: str,
) -> Iterator[tuple[str, Figure]]:
    """Yield a figure per weight: a curve for a grid, else a point per trial."""
    for weight in weights:
        text = f"{title}: {describe_swept(weight.name)}"
        others = _name_others(sweep, [weight.name])
        if isinstance(sweep, GridSweep):
            figure = response.plot_response_curve(
                _marginal(ranking, [weight.name], sweep).rename({weight.name: "value"}),
                weight=weight.name,
                title=text + (others and f", mean over {others}"),
                note=_curve_note(study, sweep),
                objectives=sweep.objective,
            )
        else:
            vary = others and f" Also different between trials: {others}."
            note = f"Points: trials, {_describe_points(study, sweep)}.{vary}{_omitted(trials)}"
            figure = plots.plot_response_scatter(
                trials, weight=weight, objectives=sweep.objective, title=text, note=note
            )
        yield f"response-{weight.name}", figure


def _name_others(sweep: Sweep, shown: Sequence[str]) -> str:
    """Return what is swept besides the shown weights; empty if nothing is."""
    others = [name for name in sweep.weights if name not in shown]
    if len(others) == 1:
        return f"the {describe_swept(others[0])}"
    return f"the other {describe_kinds(others)}" if others else ""


def _heatmaps(
    study: Study,
    sweep: Sweep,
    weights: Sequence[SweptWeight],
    ranking: pl.DataFrame,
    title: str,
) -> Iterator[tuple[str, Figure]]:
    log = [weight.name for weight in weights if weight.log]
    for x, y in itertools.combinations([weight.name for weight in weights], 2):
        others = _name_others(sweep, [x, y])
        figure = response.plot_heatmap(
            _marginal(ranking, [x, y], sweep),
            x=x,
            y=y,
            title=f"{title}: {x} and {y}" + (others and f", mean over {others}"),
            log=log,
            objectives=sweep.objective,
            statistic=_statistic(study, sweep),
        )
        yield f"heatmap-{x}-{y}", figure


def _joint_figures(
    study: Study,
    sweep: Sweep,
    weights: Sequence[SweptWeight],
    trials: pl.DataFrame,
    title: str,
) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of all weights together, each only if it has something to show."""
    objectives = sweep.objective
    if len(weights) + len(objectives) > 2:
        metric = plots.metric_name(objectives[0])
        axes = "axis" if len(objectives) == 1 else "two axes"
        note = (
            f"Lines: trials, colored by {metric} ({_statistic(study, sweep)}). On the last "
            f"{axes}, up is better.{_describe_pruned(trials)}{_omitted(trials)}"
        )
        figure = parallel.plot_parallel_coordinates(
            trials,
            weights=weights,
            objectives=objectives,
            title=f"{title}: all {describe_kinds(sweep.weights)}",
            note=note,
        )
        yield "parallel-coordinates", figure
    table = share_table(trials, weights, objectives)
    if not table.is_empty():
        figure = plots.plot_importance(
            table,
            title=f"{title}: importance of {describe_kinds(sweep.weights)}",
            note=_share_note(table, trials),
        )
        yield "importance", figure
    if len(objectives) == 2:
        note = f"Points: trials, {_describe_points(study, sweep)}.{_omitted(trials)}"
        figure = pareto.plot_pareto_front(
            trials, objectives=objectives, title=f"{title}: Pareto front", note=note
        )
        yield "pareto-front", figure


def _statistic(study: Study, sweep: Sweep) -> str:
    if len(study.seeds) == 1:
        return "one seed"
    statistic = "interquartile mean" if sweep.aggregate == "iqm" else sweep.aggregate
    return f"{statistic} of {len(study.seeds)} seeds"


def _describe_points(study: Study, sweep: Sweep) -> str:
    lines = "" if len(study.seeds) == 1 else ", with lines from the lowest to the highest seed"
    return f"{_statistic(study, sweep)}{lines}"


def _curve_note(study: Study, sweep: Sweep) -> str:
    """Return what a curve over a grid shows, which has no interval where it averages over arms."""
    statistic = _statistic(study, sweep)
    if len(study.seeds) == 1 or sweep.aggregate == "worst":
        return statistic
    interval = "range of the two runs" if len(study.seeds) == 2 else "95% interval"
    return f"{statistic}; band: {interval}, for single arms only"


def _omitted(trials: pl.DataFrame) -> str:
    """Return how many trials have no value to show."""
    states = trials.filter(seeds="search")["state"].to_list()
    parts = [
        f"{pluralize(states.count(state), 'trial')} {words}"
        for state, words in (("failed", "failed"), ("unfinished", "not finished"))
        if state in states
    ]
    return f" Not shown: {', '.join(parts)}." if parts else ""


def _describe_pruned(trials: pl.DataFrame) -> str:
    pruned = trials.filter(seeds="search", state="pruned")
    if pruned.is_empty():
        return ""
    steps = " or ".join(f"{at:,}" for at in pruned["stopped_at"].unique().sort())
    return f" Dashed: {len(pruned)} pruned after {steps} steps, not ranked."


def _share_note(table: pl.DataFrame, trials: pl.DataFrame) -> str:
    pruned = len(trials.filter(seeds="search", state="pruned"))
    omitted = f" {pruned} pruned trials are left out." if pruned else ""
    return (
        f"Share of the variance between {table['trials'][0]} finished trials that a fit (linear "
        "and quadratic, no interactions) loses without each. Orange: 95th percentile for one "
        f"without effect; gray bars do not exceed it.{omitted}"
    )


def _marginal(ranking: pl.DataFrame, names: list[str], sweep: Sweep) -> pl.DataFrame:
    """Return means over the arms that share these weights, with an interval for single arms."""
    shown = [n for n in dict.fromkeys([*sweep.metrics, "success_rate"]) if n in ranking.columns]
    alone = pl.len() == 1
    return ranking.group_by(names, maintain_order=True).agg(
        pl.col(shown).mean(),
        *(
            pl.when(alone).then(pl.col(f"{name}_{end}").first()).alias(f"{name}_{end}")
            for name in sweep.metrics
            for end in ("low", "high")
        ),
    )
