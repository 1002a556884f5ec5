"""Which figures a sweep gets, under which names, and what is written over them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from shaperun.report.plots import parallel, pareto, response, style
from shaperun.report.plots import trials as search_plots
from shaperun.report.plots.trials import SweptWeight, count_things
from shaperun.stats.importance import explained_variance_shares
from shaperun.study.models import Study
from shaperun.study.sweep import GridSweep, Sweep


def write_figures(
    study: Study, ranking: pl.DataFrame, trials: pl.DataFrame, folder: Path
) -> list[Path]:
    """Write the figures of a sweep.

    Args:
        study: the study, whose sweep it is.
        ranking: the arms of the finished trials, as `sweep_results` ranks them.
        trials: as `search_plots` takes them.
        folder: where the figures go.
    """
    if study.sweep is None:
        return []
    title = f"{study.study}: sweep on {study.environment.id}"
    weights = swept_weights(study.sweep)
    figures = itertools.chain(
        _responses(study, study.sweep, weights, ranking, trials, title),
        _heatmaps(weights, ranking, title),
        _over_all(study, study.sweep, weights, trials, title),
    )
    return [path for name, figure in figures for path in style.save(figure, folder / name)]


def swept_weights(sweep: Sweep) -> list[SweptWeight]:
    """The swept weights and where they were sought."""
    if isinstance(sweep, GridSweep):
        return [
            SweptWeight(name, min(values), max(values), levels=tuple(sorted(set(values))))
            for name, values in sweep.weights.items()
        ]
    return [SweptWeight(n, r.low, r.high, r.log) for n, r in sweep.weights.items()]


def share_table(
    trials: pl.DataFrame, weights: Sequence[SweptWeight], objectives: Sequence[str]
) -> pl.DataFrame:
    """What each weight explains of each objective: objective, weight, share, chance, trials.

    Empty where too few trials finished, or where all came to the same.
    """
    done = search_plots.finished_trials(trials)
    even = [weight.even(style.floats(done[weight.column])) for weight in weights]
    rows = [
        (objective, weight.name, share.share, share.chance, len(done))
        for objective in objectives
        for weight, share in zip(
            weights,
            explained_variance_shares(even, style.floats(done[objective.removeprefix("-")])),
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
    """What a sweep came to over each of its weights: a curve over a grid, else a point a trial."""
    others = "" if len(weights) == 1 else ", over all values of the others"
    for weight in weights:
        text = f"{title}: weight of {weight.name}"
        if isinstance(sweep, GridSweep):
            table = _marginal(ranking, [weight.name]).rename({weight.name: "value"})
            figure = response.response_curve(table, weight=weight.name, title=text + others)
        else:
            vary = "" if len(weights) == 1 else " The other weights vary too."
            note = f"A point is one trial: {_measured(study, sweep)}.{vary}{_missing(trials)}"
            figure = search_plots.response_scatter(
                trials, weight=weight, objectives=sweep.objective, title=text, note=note
            )
        yield f"response-{weight.name}", figure


def _heatmaps(
    weights: Sequence[SweptWeight], ranking: pl.DataFrame, title: str
) -> Iterator[tuple[str, Figure]]:
    others = ", over all values of the others" if len(weights) > 2 else ""
    log = [weight.name for weight in weights if weight.log]
    for x, y in itertools.combinations([weight.name for weight in weights], 2):
        text = f"{title}: {x} and {y}{others}"
        figure = response.heatmap(_marginal(ranking, [x, y]), x=x, y=y, title=text, log=log)
        yield f"heatmap-{x}-{y}", figure


def _over_all(
    study: Study,
    sweep: Sweep,
    weights: Sequence[SweptWeight],
    trials: pl.DataFrame,
    title: str,
) -> Iterator[tuple[str, Figure]]:
    """Figures of all weights together, each where there is something to see in it."""
    objectives = sweep.objective
    if len(weights) + len(objectives) > 2:
        by = search_plots.metric_name(objectives[0])
        last = "axis" if len(objectives) == 1 else "two axes"
        note = (
            f"A line is one trial, coloured by {by} ({_together(study, sweep)}). On the last "
            f"{last}, up is better.{_pruned(trials)}{_missing(trials)}"
        )
        figure = parallel.parallel_coordinates(
            trials,
            weights=weights,
            objectives=objectives,
            title=f"{title}: all weights",
            note=note,
        )
        yield "parallel-coordinates", figure
    table = share_table(trials, weights, objectives)
    if not table.is_empty():
        figure = search_plots.importance(
            table, title=f"{title}: what each weight explains", note=_explained(table, trials)
        )
        yield "importance", figure
    if len(objectives) == 2:
        note = f"A point is one trial: {_measured(study, sweep)}.{_missing(trials)}"
        figure = pareto.pareto_front(
            trials, objectives=objectives, title=f"{title}: Pareto front", note=note
        )
        yield "pareto-front", figure


def _together(study: Study, sweep: Sweep) -> str:
    """What a trial's value is made of."""
    if len(study.seeds) == 1:
        return "one seed"
    together = "interquartile mean" if sweep.aggregate == "iqm" else sweep.aggregate
    return f"{together} of {len(study.seeds)} seeds"


def _measured(study: Study, sweep: Sweep) -> str:
    """The same, and what the lines through a point are."""
    ends = "" if len(study.seeds) == 1 else ", lines from the lowest to the highest of them"
    return f"{_together(study, sweep)}{ends}"


def _missing(trials: pl.DataFrame) -> str:
    """The trials of which there is nothing to show."""
    states = trials.filter(seeds="search")["state"].to_list()
    said = [
        f"{count_things(states.count(state), 'trial')} {words}"
        for state, words in (("failed", "failed"), ("unfinished", "not finished"))
        if state in states
    ]
    return f" Not shown: {', '.join(said)}." if said else ""


def _pruned(trials: pl.DataFrame) -> str:
    stopped = trials.filter(seeds="search", state="pruned")
    if stopped.is_empty():
        return ""
    steps = " or ".join(f"{at:,}" for at in stopped["stopped_at"].unique().sort())
    return f" Dashed: {len(stopped)} pruned after {steps} steps, not ranked."


def _explained(table: pl.DataFrame, trials: pl.DataFrame) -> str:
    pruned = len(trials.filter(seeds="search", state="pruned"))
    left_out = f"; {pruned} that were pruned are left out" if pruned else ""
    return (
        f"Of the variation between {table['trials'][0]} finished trials, what a fit (straight and "
        "curved, no interactions) loses without the weight. Orange line: what a weight that does "
        f"nothing stays below 19 times of 20; grey: no more than that{left_out}."
    )


def _marginal(ranking: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Means over the arms that share these weights; an interval only where it is a single arm's."""
    alone = pl.len() == 1
    return ranking.group_by(names, maintain_order=True).agg(
        pl.col("return", *(c for c in ["success_rate"] if c in ranking.columns)).mean(),
        *(
            pl.when(alone).then(pl.col(end).first()).alias(end)
            for end in ("return_low", "return_high")
        ),
    )
