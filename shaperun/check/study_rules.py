"""Rules about a study as an experiment: whether its runs can show what its author wants to know.

They follow the conventions of the rules about arms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from shaperun.analysis.summary import ALPHA
from shaperun.check.behaviors import MAX_EPISODE_STEPS, Behavior
from shaperun.check.rule import StudyContext, about_study
from shaperun.common.text import format_number, humanize, pluralize
from shaperun.stats import permutation
from shaperun.stats.comparison import runs_to_detect
from shaperun.study.outcomes import OTHER
from shaperun.study.training import TrainingConfig

MIN_UPDATES = 20  # tuned studies of on-policy learners make 24 (Pendulum) to 2,500
DETECTABLE_ERRORS = 2.8  # standard errors of a difference found with 80% power by a test at 5%


@about_study
def nothing_told_apart(context: StudyContext) -> Iterator[str]:
    """Flag an environment that pays all behaviors the same, so that no ranking is meaningful."""
    means = [float(b.returns.mean()) for b in context.behaviors]
    if max(means) - min(means) <= 1e-9 * max(1.0, max(map(abs, means))):
        names = ", ".join(humanize(b.name) for b in context.behaviors)
        outcomes = context.study.environment.describe().outcomes
        succeed = any(outcomes.get(b.outcome) for b in context.behaviors)
        none = "" if succeed else ": none reaches what it pays for"
        yield (
            f"{context.study.environment.id} pays {format_number(means[0])} to every recorded "
            f"behavior ({names}){none}. Ignore the rankings, which cannot "
            "tell a good reward from a bad one here"
        )


@about_study
def endless_episodes(context: StudyContext) -> Iterator[str]:
    """Flag an environment without a time limit whose episodes do not end by themselves."""
    environment = context.study.environment.describe()
    counts = {humanize(b.name): sum(e.cut for e in b.episodes) for b in context.behaviors}
    if environment.time_limit is None and any(counts.values()):
        episodes = sum(len(b.episodes) for b in context.behaviors)
        parts = ", ".join(f"{name}: {count}" for name, count in counts.items() if count)
        yield (
            f"{sum(counts.values())} of {episodes} recorded episodes ({parts}) had not ended after "
            f"{MAX_EPISODE_STEPS:,} steps, where they were cut, and no time limit of "
            f"{environment.id} is known; training waits for each to end. Set one, as in "
            "environment.options: {max_episode_steps: 500}"
        )


@about_study
def unmatched_ends(context: StudyContext) -> Iterator[str]:
    """Flag episodes that end in a way for which the study has no outcome."""
    if not context.study.environment.outcomes:
        return
    counts = {humanize(b.name): b.outcomes[OTHER] for b in context.behaviors if b.outcomes[OTHER]}
    if counts:
        episodes = sum(len(b.episodes) for b in context.behaviors)
        parts = ", ".join(f"{name} {count}" for name, count in counts.items())
        yield (
            f"{sum(counts.values())} of {episodes} recorded episodes end as {OTHER} ({parts}), as "
            "no outcome of the study is true there. Add one for them to environment.outcomes, such "
            "as timeout: {when: truncated}"
        )


@about_study
def too_few_seeds(context: StudyContext) -> Iterator[str]:
    """Flag a number of runs that cannot show a difference."""
    seeds, compared = len(context.study.seeds), len(context.study.arms) - 1
    if not compared:
        return
    fewest = permutation.min_runs(ALPHA / compared, paired=False)
    arms = "" if compared == 1 else f", corrected for {compared} compared arms,"
    if seeds < fewest:
        yield (
            f"the study has {pluralize(seeds, 'seed')} per arm, and with fewer than {fewest} an "
            f"exact test at 5%{arms} shows no difference, however large. Use {fewest} or more"
        )
    if context.spread and context.difference:
        variance = 2 * context.spread**2
        needed = ceil(runs_to_detect(context.difference, variance, ALPHA / compared))
        if needed > seeds:
            yield (
                "finished runs of one arm have a standard deviation of "
                f"{format_number(context.spread)} in environment return, so detecting a difference "
                f"of {format_number(context.difference)} with 80% power{arms} takes {needed:,} "
                f"seeds per arm, and the study has {seeds}. Add seeds, or expect to miss such a "
                "difference"
            )


@about_study
def too_few_updates(context: StudyContext) -> Iterator[str]:
    """Flag training that ends after a few updates of the policy."""
    trainings = [context.study.training_of(arm) for arm in context.study.arms.values()]
    yield from dict.fromkeys(filter(None, map(describe_few_updates, trainings)))


def describe_few_updates(training: TrainingConfig) -> str:
    """Return that a learner makes too few updates, and the remedy; empty if it makes enough."""
    steps, updates = training.steps_per_update, training.updates
    if not steps or not updates or updates >= MIN_UPDATES:
        return ""
    shorter = _rollout_length(training)
    remedy = f"training.hyperparameters.n_steps: {shorter}, or " if shorter else ""
    return (
        f"{training.algorithm} updates its policy {pluralize(updates, 'time')} in "
        f"{training.total_timesteps:,} steps, once per {steps:,} (n_steps × n_envs = "
        f"{steps // training.n_envs:,} × {training.n_envs}), so a comparison shows the first "
        f"updates rather than what the rewards lead to. Set {remedy}training.total_timesteps: "
        f"{steps * MIN_UPDATES:_} or more"
    )


def _rollout_length(training: TrainingConfig) -> int | None:
    """Return a power of two as n_steps with which there are enough updates; None without one."""
    batch_size = training.hyperparameters.get("batch_size", 1)
    longest = training.total_timesteps // (2 * MIN_UPDATES * training.n_envs)
    n_steps = 2 ** (longest.bit_length() - 1) if longest else 0
    return n_steps if n_steps * training.n_envs >= max(2, batch_size) else None


@about_study
def too_few_episodes(context: StudyContext) -> Iterator[str]:
    """Flag an evaluation too short for the difference that matters."""
    if not context.difference:
        return
    episodes, seeds = context.study.evaluation.final_episodes, len(context.study.seeds)
    best = max(context.evaluated, key=lambda b: float(b.returns.mean()))
    spread = float(best.returns.std(ddof=1)) if len(best.returns) > 1 else 0.0
    needed = ceil(2 * (DETECTABLE_ERRORS * spread / context.difference) ** 2 / seeds)
    if needed > episodes:
        yield (
            f"single episodes have a standard deviation of {format_number(spread)} in return (to "
            f"{humanize(best.name)}), so with {pluralize(seeds, 'seed')} × "
            f"{pluralize(episodes, 'final episode')} their noise alone hides a difference of "
            f"{format_number(context.difference)}. Set evaluation.final_episodes: {needed}"
        )


def default_difference(behaviors: Sequence[Behavior]) -> float | None:
    """Return a tenth of the range of the behaviors' returns, to one digit; None if all are equal.

    Returns are those of the environment.
    """
    means = [float(b.returns.mean()) for b in behaviors]
    return float(f"{(max(means) - min(means)) / 10:.1g}") or None
