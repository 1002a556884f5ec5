"""The sections of the report, as the variables of its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from shaperun.analysis import (
    comparison,
    cross_reward,
    diagnostics,
    exploitation,
    learning_speed,
    results,
    summary,
    term_history,
    training_differences,
)
from shaperun.analysis.updates import training_cost
from shaperun.common.text import (
    escape_control_chars,
    format_column,
    format_number,
    humanize,
    pluralize,
)
from shaperun.envs.base import OWN_REWARD
from shaperun.report import charts
from shaperun.report.data import MAX_ARMS, ReportData
from shaperun.report.plots import arms as plots
from shaperun.report.plots import training
from shaperun.report.plots.style import format_percent, format_short, text_color
from shaperun.study.models import Study

Context = dict[str, Any]


def describe_drawn_arms(data: ReportData) -> str:
    """Return which arms are in the figures; empty if all are."""
    others = [arm.arm for arm in data.summary.arms if arm.arm != data.study.baseline]
    drawn = [arm for arm in data.drawn_arms if arm in others]
    if len(drawn) == len(others):
        return ""
    trials = data.sweep.ranked_arms if data.sweep else []
    best = [arm for arm in drawn if arm in trials]
    selection = f"the best {len(drawn)} of {len(others)} arms"
    if best:
        count = pluralize(len(trials), "finished trial")
        selection = f"the study's arms and the best {len(best)} of {count}"
    return f"Cards and figures show {selection}"


def write_headline(data: ReportData) -> str:
    """Return the verdicts on all arms in one sentence."""
    comparisons, baseline = data.summary.comparisons, data.summary.baseline
    verdicts = {c.arm: c.result.verdict for c in comparisons if c.metric == "return"}
    if baseline not in [arm.arm for arm in data.summary.arms]:
        return (
            f"No run of {baseline} is finished, so there is nothing to compare with; "
            "shaperun train FILE, with the file of this study, trains it."
        )
    if not verdicts:
        return f"There is nothing to compare {baseline} with."
    better, worse, underpowered, equal = (
        [arm for arm, verdict in verdicts.items() if verdict == word]
        for word in ("better", "worse", "underpowered", "no difference shown")
    )
    kind = "reward"
    if len({comparison.baseline for comparison in comparisons}) > 1:
        kind, baseline = "arm", "its baseline"
    parts = [f"No {kind} was shown to be better than {baseline}"]
    if better:
        parts = [
            f"{join_names(better)} {'is' if len(better) == 1 else 'are'} better than {baseline}"
        ]
    if worse:
        parts.append(f"{join_names(worse)} {'is' if len(worse) == 1 else 'are'} worse")
    if underpowered:
        parts.append(f"too few runs to tell for {join_names(underpowered)}")
    if equal and (better or worse or underpowered):
        parts.append(f"no difference shown for {join_names(equal)}")
    return "; ".join(parts) + "."


def join_names(names: Sequence[str], max_names: int = 6) -> str:
    """Join names with commas and "and"; names beyond `max_names` are counted."""
    if len(names) > max_names:
        return f"{', '.join(names[:max_names])} and {len(names) - max_names} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def make_training_grid(data: ReportData) -> Context | None:
    """Return the environment return by reward and learner, if several learners share a reward."""
    grid = training_differences.training_grid(data.study)
    if grid is None:
        return None
    arms_done = data.summary.arms
    texts = summary.format_estimates("return", [arm.metrics["return"] for arm in arms_done])
    returns = {arm.arm: text for arm, text in zip(arms_done, texts, strict=True)}
    rows = []
    for reward in grid.rewards:
        arms = [grid.arms.get((reward, learner), "") for learner in grid.learners]
        rows.append({"reward": reward, "cells": [returns.get(arm) for arm in arms]})
    return {"learners": grid.learners, "rows": rows}


def describe_missing_runs(data: ReportData) -> str:
    """Return which runs are not finished, and how many of them diverged."""
    # After a sweep alone, the headline says how to train the baseline.
    begun = {status.arm for status in data.statuses if status.state != "waiting"}
    planned = [status for status in data.statuses if status.arm in begun]
    missing = [status for status in planned if status.state != "done"]
    if not missing:
        return ""
    kinds = Counter("diverged" if s.diverged else s.state for s in missing)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    names = join_names([f"{s.arm}/{s.seed}" for s in missing], 12)
    total = pluralize(len(planned), "run")
    return f"Left out of all tables are {len(missing)} of {total} ({counts}): {names}."


def make_tables(data: ReportData) -> Context:
    """Return the tables of final policies and of learning."""
    arms = data.summary.arms
    metrics = list(arms[0].metrics)
    compared = [data.summary.compared_in(name) for name in metrics]
    verdicts = {arm: c.result.verdict for arm, c in compared[0].items()}  # in the return
    costs = {row["arm"]: row for row in training_cost(data.statuses).to_dicts()}
    columns = [
        summary.format_estimates(name, [arm.metrics[name] for arm in arms]) for name in metrics
    ]
    aucs = summary.format_estimates("auc", [arm.learning["auc"] for arm in arms])
    return {
        "estimates": summary.describe_estimates(arms),
        "intervals": summary.describe_intervals(arm.runs for arm in arms),
        "metrics": metrics,
        "rows": [
            {
                "arm": arm.arm,
                "runs": arm.runs,
                "cells": list(cells),
                "verdict": verdicts.get(arm.arm, ""),
            }
            for arm, cells in zip(arms, zip(*columns, strict=True), strict=True)
        ],
        "differences": [
            {"arm": arm, "cells": [_make_difference(of[arm]) for of in compared]}
            for arm in verdicts
        ],
        "learning": [
            {"auc": auc} | _make_learning_row(arm, costs.get(arm.arm))
            for arm, auc in zip(arms, aucs, strict=True)
        ],
        "solved": data.study.evaluated_environment.describe().solved,
        "total_cost": _describe_cost(training_cost(data.all_statuses)),
    }


def _make_difference(comparison: summary.ArmComparison) -> Context:
    difference, interval = summary.format_difference(comparison.result)
    return {
        "verdict": comparison.result.verdict,
        "text": f"{difference} {interval}".strip(),
        "p": f"{comparison.p_adjusted:.2g}",
    }


def _make_learning_row(arm: summary.ArmSummary, cost: Mapping[str, Any] | None) -> Context:
    return {
        "arm": arm.arm,
        "steps": _format_steps_to_solved(arm),
        "timesteps": _format_steps(cost["timesteps"]) if cost else "",
        "minutes": format_number(cost["seconds"] / 60 / cost["runs"]) if cost else "",
        "speed": format_number(cost["steps_per_second"]) if cost else "",
    }


def _format_steps_to_solved(arm: summary.ArmSummary) -> tuple[str, str]:
    """Return the steps to solve, as a lower bound if the mean includes censored runs."""
    estimate = arm.learning.get("steps_to_solved")
    if estimate is None or arm.solved is None:
        return "", ""
    if not arm.solved:
        return "never", f"0 of {pluralize(arm.runs, 'run')}"
    bound = "≥ " if arm.runs - arm.solved > arm.runs // 4 else ""
    return f"{bound}{_format_steps(estimate.iqm)}", f"{arm.solved} of {pluralize(arm.runs, 'run')}"


def _describe_cost(cost: pl.DataFrame) -> str:
    steps, seconds, runs = (float(cost[c].sum()) for c in ("timesteps", "seconds", "runs"))
    count = pluralize(int(runs), "run")
    return f"{count}, {_format_steps(steps)} steps, {seconds / 3600:.2g} core-hours"


def _format_steps(steps: float) -> str:
    """Return a number of steps with three significant digits, as 1.5M."""
    return format_short(float(f"{steps:.3g}"))


def make_curves(data: ReportData) -> Context:
    """Return the learning curves of the drawn arms, as SVG and as data of the interactive chart."""
    curves, shown = data.curves, data.drawn_arms
    arms, environment = list(data.study.arms), data.study.evaluated_environment.describe()
    center, solved = learning_speed.center_curves(curves, environment), environment.solved
    labels = {arm: escape_control_chars(arm) for arm in arms}
    mask = pl.col("arm").is_in(shown)
    # Colors go by index, so all arms up to the last drawn one are passed.
    last = max(arms.index(arm) for arm in shown)
    figure = plots.plot_learning_curves(
        curves.filter(mask), center.filter(mask), title="", threshold=solved, arms=arms[: last + 1]
    )
    beyond = plots.place_threshold(solved, curves.filter(mask)["return"])
    light, dark = zip(*charts.theme_colors(arms), strict=True)
    return {
        "curves_svg": charts.inline_svg(figure, arms),
        "curves": {
            "arms": charts.make_curve_data(curves, center, labels, shown),
            "light": light,
            "dark": dark,
            "solved": None if beyond else solved,
        },
        "lines": plots.describe_curves(center.filter(mask)),
        "solved_beyond": beyond,
        "curve_episodes": comparison.curve_episodes_note(data.study),
    }


def make_outcomes(data: ReportData) -> Context:
    """Return one row per arm, its outcomes with their shares and colors, and a legend."""
    shares = results.outcome_shares(
        data.final, data.study, data.study.evaluated_environment.describe()
    )
    palette = plots.occurred_outcomes(shares)
    rows = [
        {
            "arm": arm,
            "parts": [
                {
                    "name": humanize(name),
                    "share": row["share"],
                    "percent": format_percent(row["share"]),
                    "color": color,
                    "ink": text_color(color),
                }
                for name, color in palette.items()
                for row in shares.filter(arm=arm, outcome=name).to_dicts()
                if row["share"]
            ],
        }
        for arm in dict.fromkeys(shares["arm"])
    ]
    return {
        "outcomes": rows,
        "outcome_legend": {humanize(name): color for name, color in palette.items()},
    }


def make_matrix(data: ReportData) -> Context:
    """Return the returns of every arm's policies under every reward, best per column marked."""
    table = cross_reward.cross_rewards(data.final, data.study)
    arms, rewards = (list(dict.fromkeys(table[name])) for name in ("arm", "reward"))
    if len(arms) > 3 * MAX_ARMS:
        drawn = set(data.drawn_arms)
        arms = [arm for arm in arms if arm in drawn]
        rewards = [reward for reward in rewards if reward in {OWN_REWARD, *drawn}]
    cells = {(row["arm"], row["reward"]): row for row in table.to_dicts()}
    columns = [_make_column([cells[arm, reward] for arm in arms]) for reward in rewards]
    potentials = [name for name, arm in data.study.arms.items() if arm.mode == "potential"]
    return {
        "gaps": list(_describe_gaps(table, data.study)),
        "rewards": rewards,
        "potentials": [name for name in potentials if name in rewards],
        "rows": [
            {"arm": arm, "cells": list(row)}
            for arm, row in zip(arms, zip(*columns, strict=True), strict=True)
        ],
    }


def _describe_gaps(table: pl.DataFrame, study: Study) -> Iterator[str]:
    """Yield why returns are missing: terms that runs do not have, or that they define otherwise."""
    absent: dict[str, None] = {}
    differing: dict[str, None] = {}
    for arm, missing in table.filter(pl.col("missing") != "").select("arm", "missing").iter_rows():
        known = study.resolve_reward(study.arms[arm]).terms
        for name in missing.split(", "):
            (differing if name in known else absent)[name] = None
    if absent:
        yield (
            f"some runs did not record {', '.join(absent)}; define such a term under “terms” of "
            "the study, not of an arm, to record it in all runs"
        )
    if differing:
        yield (
            f"some runs recorded {', '.join(differing)} with another formula or other parameters "
            "than this reward has; define each variant under “terms” of the study, with a name of "
            "its own, to record all of them in all runs"
        )


def _make_column(cells: Sequence[Mapping[str, Any]]) -> list[Context]:
    """Return the cells of one reward; returns have the same decimals."""
    returns = [cell["return"] for cell in cells if cell["return"] is not None]
    texts, low, high = (
        iter(format_column(returns)),
        min(returns, default=0),
        max(returns, default=0),
    )
    return [
        {"text": "–", "missing": cell["missing"], "rank": 0.0, "best": False, "own": False}
        if (value := cell["return"]) is None
        else {
            "text": next(texts),
            "missing": "",
            "rank": (value - low) / (high - low) if high > low else 0.5,
            "best": value == high,
            "own": cell["arm"] == cell["reward"],
        }
        for cell in cells
    ]


def make_exploitation(data: ReportData) -> Context:
    """Return how environment and shaped return of every run moved apart."""
    drifts = exploitation.find_drifts(data.episodes, data.study)
    drawn = [drift for drift in drifts if drift.arm in data.drawn_arms]
    arms = list(data.study.arms)
    held = exploitation.hold_schedules(data.episodes, data.study)
    curves = results.learning_curves(held, data.study.evaluation.episodes)
    figure = training.plot_drifts(curves, drawn, title="", arms=arms)
    return {
        "drifts": sorted(drifts, key=lambda drift: (not drift.diverged, -drift.drop)),
        "diverged": sum(drift.diverged for drift in drifts),
        "drifts_svg": charts.inline_svg(figure, arms) if drawn else "",
    }


def make_terms(data: ReportData) -> Context:
    """Return the contributions of the terms over training, and notes on useless terms."""
    shown = data.drawn_arms
    episodes = data.episodes.filter(pl.col("arm").is_in(shown))
    history = term_history.term_history(episodes, data.study)
    arms = [arm for arm in shown if arm in history["arm"]]
    figure = training.plot_terms(term_history.mean_term_history(history), title="", arms=arms)
    ended = term_history.schedule_notes(data.final, data.study)
    notes = {
        arm: [*filter(None, [ended.get(arm)]), *term_history.term_notes(history, arm)]
        for arm in arms
    }
    return {
        "terms_svg": charts.inline_svg(figure, list(data.study.arms)),
        "term_notes": {arm: lines for arm, lines in notes.items() if lines},
    }


def make_health(data: ReportData) -> Context:
    """Return the update statistics of the runs, and those out of bounds."""
    updates, shown = data.updates, data.drawn_arms
    if updates.is_empty():
        return {"health_svg": "", "diagnostics": [], "more_diagnostics": []}
    arms = list(data.study.arms)
    measures = diagnostics.reported_measures(updates, data.study)
    groups = group_diagnostics(updates, data.study)
    drawn = updates.filter(pl.col("arm").is_in(shown))
    return {
        "health_svg": charts.inline_svg(
            training.plot_health(drawn, measures, title="", arms=arms), arms
        ),
        "diagnostics": [group for group in groups if group["arm"] in shown],
        "more_diagnostics": [group for group in groups if group["arm"] not in shown],
    }


def group_diagnostics(updates: pl.DataFrame, study: Study) -> list[Context]:
    """Return one entry per rule and arm, with its seeds and the first message."""
    groups: dict[tuple[str, str], list[diagnostics.Diagnostic]] = {}
    for item in diagnostics.diagnose(updates, study):
        groups.setdefault((item.rule, item.arm), []).append(item)
    return [
        {
            "rule": diagnostics.describe_rule(rule),
            "arm": arm,
            "seeds": _format_seeds([item.seed for item in group], study),
            "message": group[0].message[0].upper() + group[0].message[1:],
        }
        for (rule, arm), group in groups.items()
    ]


def _format_seeds(seeds: Sequence[int], study: Study) -> str:
    if len(seeds) == len(study.seeds) > 1:
        return "all seeds"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
