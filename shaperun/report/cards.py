"""The cards of the report: an arm's verdicts, its prediction, its policies and its training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from shaperun.analysis import exploitation
from shaperun.analysis.exploitation import Conduct, ExploitVerdict
from shaperun.analysis.relabel import final_progress
from shaperun.analysis.summary import NEVER_SOLVED, ArmComparison, format_difference
from shaperun.check.check import Check
from shaperun.check.ranking import (
    BehaviorReturn,
    behavior_returns,
    best_by_environment,
    most_rewarded,
)
from shaperun.check.study_rules import describe_few_updates
from shaperun.common.text import humanize
from shaperun.report.data import ReportData
from shaperun.report.sections import group_diagnostics

Context = dict[str, Any]

LABELS = {
    "return": "final return",
    "auc": "return over training",
    "steps_to_solved": "steps to solve",
}


def make_cards(data: ReportData) -> list[Context]:
    """Return one card per drawn arm: its verdicts, and what it learned."""
    compared = {comparison.arm for comparison in data.summary.comparisons}
    return [_make_card(data, arm) for arm in data.drawn_arms if arm in compared]


def _make_card(data: ReportData, arm: str) -> Context:
    comparisons = {c.metric: c for c in data.summary.comparisons if c.arm == arm}
    comparison = comparisons["return"]
    judgment = _judge(data, arm)
    return {
        "arm": arm,
        "baseline": comparison.baseline,
        "verdict": comparison.result.verdict,
        "facts": [
            _make_fact(label, comparisons[metric])
            for metric, label in LABELS.items()
            if metric in comparisons
        ],
        "improvement": f"{comparison.result.improvement:.0%}" if comparison.is_tested else "–",
        "advice": comparison.advice,
        "prediction": _describe_prediction(data.check, arm, judgment) if judgment else "",
        "behavior": exploitation.describe_exploitation(judgment) if judgment else "",
        "training": list(_describe_training(data, arm)),
    }


def _judge(data: ReportData, arm: str) -> ExploitVerdict | None:
    if data.check is None or arm not in data.check.returns:
        return exploitation.judge_exploitation(data.episodes, data.study, arm)
    returns = data.check.evaluated_returns(arm)
    best = best_by_environment(returns)
    behavior = best.behavior
    # As for the policies, the reward is that of the end of training.
    progress = final_progress(data.final.filter(arm=arm), data.study.arms[arm]) or 0.0
    [right] = behavior_returns(data.check.kernels[arm], [behavior], gamma=1.0, progress=progress)
    counts = behavior.outcomes
    scripted = Conduct(
        f"the scripted “{right.name}”",
        right.environment_return,
        right.shaped_return,
        {name: count / counts.total() for name, count in counts.items()},
        behavior.length,
        needs_discounting=_needs_discounting(best, returns),
    )
    return exploitation.judge_exploitation(
        data.episodes, data.study, arm, scripted, data.check.difference
    )


def _needs_discounting(best: BehaviorReturn, returns: Sequence[BehaviorReturn]) -> bool:
    """Return whether the best behavior is paid most discounted, but not undiscounted."""
    undiscounted = max(returns, key=lambda result: result.shaped_return)
    return best is most_rewarded(returns) and best is not undiscounted


def _describe_prediction(check: Check | None, arm: str, judgment: ExploitVerdict) -> str:
    """Return what the scripted behaviors predicted, next to what the policies do."""
    if check is None or arm not in check.returns:
        return ""
    best, outcome = most_rewarded(check.returns[arm]), judgment.outcome
    predicted = f"{best.name} ({humanize(best.behavior.outcome)})"
    observed = f"{humanize(outcome)} in {judgment.policies.outcomes[outcome]:.0%}"
    return f"Predicted by check: {predicted}. Observed: {observed} of the final episodes."


def _describe_training(data: ReportData, arm: str) -> Iterator[str]:
    """Yield what is wrong with an arm's training, which its verdict may be due to."""
    few = describe_few_updates(data.study.training_of(data.study.arms[arm]))
    if few:
        yield f"{few}."
    groups = [
        f"{group['rule'][0].lower()}{group['rule'][1:]} ({group['seeds']})"
        for group in group_diagnostics(data.updates, data.study)
        if group["arm"] == arm
    ]
    if groups:
        yield f"Training: {'; '.join(groups)}. See “Training health”."


def _make_fact(label: str, comparison: ArmComparison) -> Context:
    result = comparison.result
    never = result.verdict == NEVER_SOLVED
    difference, interval = (result.verdict, "") if never else format_difference(result)
    return {
        "label": label,
        "difference": difference,
        "interval": interval,
        "p": f"{comparison.p_adjusted:.2g}" if comparison.is_tested else "",
        "verdict": "" if never else ", ".join([result.verdict, *comparison.never_notes]),
    }
