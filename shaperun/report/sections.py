"""The sections of the report, as what its template shows."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from shaperun.analysis import (
    cross_reward,
    diagnostics,
    exploitation,
    results,
    summary,
    term_history,
    training_differences,
)
from shaperun.analysis import updates as training_record
from shaperun.common.text import escape_control_chars, format_number, humanize
from shaperun.envs.base import OWN_REWARD
from shaperun.report import charts
from shaperun.report.data import MAX_ARMS, ReportData
from shaperun.report.plots import arms as plots
from shaperun.report.plots import training
from shaperun.report.plots.style import format_percent, format_short, text_colour

Context = dict[str, Any]


def drawn_arms(material: ReportData) -> str:
    """Which arms figures have room for; empty where it is all of them."""
    others = [arm.arm for arm in material.summary.arms if arm.arm != material.study.baseline]
    shown = [arm for arm in material.shown if arm in others]
    if len(shown) == len(others):
        return ""
    trials = material.trials.ranked if material.trials else []
    best = [arm for arm in shown if arm in trials]
    if not best:
        return f"The best {len(shown)} of {len(others)} arms are described and drawn"
    return (
        f"The study's own arms and the best {len(best)} of {len(trials)} finished trials are "
        "described and drawn"
    )


def headline(found: summary.Summary) -> str:
    """The answer in a sentence: did any reward help?"""
    verdicts = {c.arm: c.result.verdict for c in found.comparisons if c.metric == "return"}
    if found.baseline not in [arm.arm for arm in found.arms]:
        return f"No run of {found.baseline} is finished, so there is nothing to compare with."
    if not verdicts:
        return f"There is nothing to compare {found.baseline} with."
    groups = {kind: [a for a, v in verdicts.items() if v == kind] for kind in verdicts.values()}
    better, worse = groups.get("better", []), groups.get("worse", [])
    few = groups.get("underpowered", [])
    equal = [a for a in verdicts if a not in better + worse + few]
    baselines = {c.baseline for c in found.comparisons}
    theirs = found.baseline if len(baselines) == 1 else "what it is compared with"
    said = f"{join_names(better)} {is_or_are(better)} better than {theirs}"
    parts = [said if better else f"No arm was shown to be better than {theirs}"]
    if not better and len(baselines) == 1:
        parts = [f"No reward was shown to be better than {theirs}"]
    if worse:
        parts.append(f"{join_names(worse)} {is_or_are(worse)} worse")
    if few:
        parts.append(f"for {join_names(few)} there are too few runs to tell")
    if equal and (better or worse or few):
        parts.append(f"{join_names(equal)} {is_or_are(equal)} about as good")
    return "; ".join(parts) + "."


def is_or_are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def join_names(names: Sequence[str], most: int = 6) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def verdict_cards(material: ReportData) -> list[Context]:
    compared = {comparison.arm for comparison in material.summary.comparisons}
    return [_card(material, arm) for arm in material.shown if arm in compared]


def _card(material: ReportData, arm: str) -> Context:
    """What is said of one arm: the verdict, over training as well, and what it learned."""
    found = {c.metric: c for c in material.summary.comparisons if c.arm == arm}
    own = found["return"]
    verdict = own.result.verdict
    judged = exploitation.judge_exploitation(material.episodes, material.study, arm)
    return {
        "arm": arm,
        "baseline": own.baseline,
        "verdict": verdict,
        "facts": [
            _fact(text, found[name])
            for name, text in (
                ("return", "return at the end"),
                ("auc", "return over training"),
                ("steps_to_solved", "steps to solve it"),
            )
            if name in found
        ],
        "improvement": f"{own.result.improvement:.0%}",
        "seeds_needed": own.result.seeds_needed,
        "behaviour": exploitation.describe(judged, verdict) if judged else "",
    }


def training_grid_section(material: ReportData) -> Context | None:
    """Environment return by reward and learner, where a reward was given to several."""
    grid = training_differences.training_grid(material.study)
    if grid is None:
        return None
    returns = {
        arm.arm: summary.format_estimate("return", arm.metrics["return"])
        for arm in material.summary.arms
    }
    rows = []
    for reward in grid.rewards:
        arms = [grid.arms.get((reward, learner), "") for learner in grid.learners]
        rows.append({"reward": reward, "cells": [returns.get(arm) for arm in arms]})
    return {"learners": grid.learners, "rows": rows}


def _fact(text: str, comparison: summary.ArmComparison) -> Context:
    """A difference to the baseline with its interval, p-value and verdict."""
    result = comparison.result
    interval = ""
    if math.isfinite(result.low):
        level = "" if abs(result.level - 0.95) < 1e-9 else f" ({result.level:.0%})"
        interval = f"{_signed(result.low)}…{_signed(result.high)}{level}"
    return {
        "text": text,
        "difference": _signed(result.difference),
        "interval": interval,
        "p": f"{comparison.p_adjusted:.2g}",
        "verdict": result.verdict,
    }


def _signed(value: float) -> str:
    size = format_short(float(f"{value:.3g}")) if abs(value) >= 10_000 else format_number(value)
    return f"+{size}" if value > 0 else size


def missing_runs(material: ReportData) -> str:
    """Which runs the figures do without; those that diverged are named."""
    states = [state for state in material.states if state.state != "done"]
    if not states:
        return ""
    kinds = Counter("diverged" if s.diverged else s.state for s in states)
    what = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    names = join_names([f"{s.arm}/{s.seed}" for s in states], 12)
    return (
        f"{len(states)} of {len(material.states)} runs are left out of every figure of the tables "
        f"({what}): {names}."
    )


def tables(material: ReportData) -> Context:
    found = material.summary
    metrics = list(found.arms[0].metrics)
    verdicts = {c.arm: c.result.verdict for c in found.comparisons if c.metric == "return"}
    cost = training_record.training_cost(material.states)
    total = training_record.training_cost(material.every_state)
    costs = {row["arm"]: row for row in cost.to_dicts()}
    return {
        "metrics": [name.removesuffix("_rate") for name in metrics],
        "rows": [
            {
                "arm": arm.arm,
                "runs": arm.runs,
                "cells": [summary.format_estimate(name, arm.metrics[name]) for name in metrics],
                "verdict": verdicts.get(arm.arm, ""),
            }
            for arm in found.arms
        ],
        "learning": [_learning_row(arm, costs.get(arm.arm)) for arm in found.arms],
        "solved": material.study.environment.describe().solved,
        "total_cost": _total(total),
    }


def _learning_row(arm: summary.ArmSummary, cost: Mapping[str, Any] | None) -> Context:
    return {
        "arm": arm.arm,
        "auc": summary.format_estimate("auc", arm.learning["auc"]),
        "steps": _steps(arm),
        "timesteps": _rough(cost["timesteps"]) if cost else "",
        "minutes": f"{cost['seconds'] / 60 / cost['runs']:.1f}" if cost else "",
        "speed": f"{cost['steps_per_second']:,.0f}" if cost else "",
    }


def _steps(arm: summary.ArmSummary) -> tuple[str, str]:
    """Steps to solve it; where censored runs are among those averaged it is a lower bound."""
    estimate = arm.learning.get("steps_to_solved")
    if estimate is None or arm.solved is None:
        return "", ""
    if not arm.solved:
        return "never", f"0 of {arm.runs} runs"
    bound = "≥ " if arm.runs - arm.solved > arm.runs // 4 else ""
    return f"{bound}{_rough(estimate.iqm)}", f"{arm.solved} of {arm.runs} runs"


def _total(cost: pl.DataFrame) -> str:
    steps, seconds, runs = (float(cost[c].sum()) for c in ("timesteps", "seconds", "runs"))
    return f"{runs:g} runs, {_rough(steps)} steps, {seconds / 3600:.2g} core-hours"


def _rough(steps: float) -> str:
    return format_short(float(f"{steps:.3g}"))


def curves(material: ReportData, shown: Sequence[str]) -> Context:
    curves = material.curves
    centre = summary.center_curves(curves)
    arms = list(material.study.arms)
    labels = {arm: escape_control_chars(arm) for arm in arms}
    solved = material.study.environment.describe().solved
    some = pl.col("arm").is_in(shown)
    # Colours go by place, so none is left out before the last that is drawn.
    last = max(arms.index(arm) for arm in shown)
    figure = plots.learning_curves(
        curves.filter(some), centre.filter(some), title="", threshold=solved, arms=arms[: last + 1]
    )
    colours = charts.theme(arms)
    return {
        "curves_svg": charts.inline_svg(figure, arms),
        "curves": {
            "arms": charts.curve_data(curves, centre, labels, shown),
            "light": [light for light, _ in colours],
            "dark": [dark for _, dark in colours],
            "solved": solved,
        },
    }


def outcomes(material: ReportData) -> list[Context]:
    """A row an arm: its outcomes with their shares, colours and inks."""
    environment = material.study.environment.describe()
    shares = results.outcome_shares(material.final, material.study, environment)
    palette = plots.outcome_colours(shares)
    return [
        {
            "arm": arm,
            "parts": [
                {
                    "name": humanize(name),
                    "share": row["share"],
                    "percent": format_percent(row["share"]),
                    "colour": colour,
                    "ink": text_colour(colour),
                }
                for name, colour in palette.items()
                for row in shares.filter(arm=arm, outcome=name).to_dicts()
                if row["share"]
            ],
        }
        for arm in dict.fromkeys(shares["arm"])
    ]


def cross_reward_matrix(material: ReportData) -> Context:
    """Policies by rewards; in each column the best-paid policies are marked."""
    table = cross_reward.cross_rewards(material.final, material.study)
    arms, rewards = (list(dict.fromkeys(table[name])) for name in ("arm", "reward"))
    if len(arms) > 3 * MAX_ARMS:
        keep = set(material.shown)
        arms = [arm for arm in arms if arm in keep]
        rewards = [reward for reward in rewards if reward in {OWN_REWARD, *keep}]
    cells = {(row["arm"], row["reward"]): row for row in table.to_dicts()}
    return {
        "rewards": rewards,
        "rows": [
            {"arm": arm, "cells": [_matrix_cell(cells, arm, r, arms) for r in rewards]}
            for arm in arms
        ],
    }


def _matrix_cell(
    cells: Mapping[tuple[str, str], Mapping[str, Any]], arm: str, reward: str, arms: Sequence[str]
) -> Context:
    cell = cells[arm, reward]
    column = [cells[a, reward]["return"] for a in arms if cells[a, reward]["return"] is not None]
    value = cell["return"]
    if value is None:
        return {"text": "–", "missing": cell["missing"], "place": 0.0, "best": False, "own": False}
    low, high = min(column), max(column)
    return {
        "text": format_number(value),
        "missing": "",
        "place": (value - low) / (high - low) if high > low else 0.5,
        "best": value == high,
        "own": arm == reward,
    }


def exploitation_section(material: ReportData, shown: Sequence[str]) -> Context:
    found = exploitation.find_drifts(material.episodes, material.study)
    pictured = [drift for drift in found if drift.arm in shown]
    arms = list(material.study.arms)
    figure = training.drifts(material.curves, pictured, title="", arms=arms)
    return {
        "drifts": sorted(found, key=lambda drift: (not drift.diverged, -drift.drop)),
        "parted": sum(drift.diverged for drift in found),
        "drifts_svg": charts.inline_svg(figure, arms) if pictured else "",
    }


def term_section(material: ReportData, shown: Sequence[str]) -> Context:
    history = term_history.term_history(
        material.episodes.filter(pl.col("arm").is_in(shown)), material.study
    )
    table = term_history.over_training(history)
    arms = [arm for arm in shown if arm in history["arm"]]
    figure = training.terms(table, title="", arms=arms)
    notes = {arm: term_history.term_notes(history, arm) for arm in arms}
    return {
        "terms_svg": charts.inline_svg(figure, list(material.study.arms)),
        "term_notes": {arm: found for arm, found in notes.items() if found},
    }


def training_health(material: ReportData, shown: Sequence[str]) -> Context:
    updates = material.updates
    if updates.is_empty():
        return {"health_svg": "", "breaches": [], "more_breaches": []}
    arms = list(material.study.arms)
    pictured = updates.filter(pl.col("arm").is_in(shown))
    measures = diagnostics.measures(updates, material.study)
    breaches = group_diagnostics(diagnostics.diagnose(updates, material.study))
    figure = training.health(pictured, measures, title="", arms=arms)
    return {
        "health_svg": charts.inline_svg(figure, arms),
        "breaches": [breach for breach in breaches if breach["arm"] in shown],
        "more_breaches": [breach for breach in breaches if breach["arm"] not in shown],
    }


def group_diagnostics(found: Iterable[diagnostics.Diagnostic]) -> list[Context]:
    """One entry a rule and arm, with its runs and the message of the first of them."""
    groups: dict[tuple[str, str], list[diagnostics.Diagnostic]] = {}
    for breach in found:
        groups.setdefault((breach.rule, breach.arm), []).append(breach)
    return [
        {
            "rule": humanize(rule.replace("-", "_")),
            "arm": arm,
            "seeds": ", ".join(str(breach.seed) for breach in group),
            "message": group[0].message[0].upper() + group[0].message[1:],
        }
        for (rule, arm), group in groups.items()
    ]


def provenance(material: ReportData) -> Context:
    # A trial may be pruned that was finished before pruning was asked for.
    arms = material.study.arms
    done = [s for s in material.every_state if s.state == "done" and s.arm in arms]
    records = [material.records[s.arm, s.seed] for s in done]
    name = material.study.study
    return {
        "resolved": material.resolved,
        "versions": _versions(records),
        "hashes": [_hashes(s.arm, s.seed, material.records[s.arm, s.seed]) for s in done],
        "commands": [
            f"shaperun {verb} {shlex.quote(f'{name}.yaml')}"
            for verb in ("train", *(["sweep"] if material.study.sweep else []), "report")
        ],
    }


def _versions(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the runs were made with; where they differ, everything that there was."""
    found: dict[str, list[str]] = {}
    for record in records:
        facts = {
            **(record.get("versions") or {}),
            "platform": record.get("platform"),
            "git revision": record.get("git_revision"),
        }
        for key, value in facts.items():
            if str(value) not in found.setdefault(key, []):
                found[key].append(str(value))
    return {key: ", ".join(values) for key, values in found.items()}


def _hashes(arm: str, seed: int, record: Mapping[str, Any]) -> Context:
    digests = record.get("files") or {}
    return {
        "arm": arm,
        "seed": seed,
        "identity": str(record.get("identity")),
        "files": {name: str(digest) for name, digest in digests.items()},
    }
