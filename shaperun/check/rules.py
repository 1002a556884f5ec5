"""The ways in which rewards go wrong that can be seen without training: a rule each.

A rule is a function of a `Case`, one arm with everything that is known of it, and yields what it
finds as a sentence with the numbers that prove it and what to do. Its name is stable: scripts may
look for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from shaperun.analysis.term_history import DROWNED_SHARE
from shaperun.check.behaviours import Behaviour
from shaperun.check.ranking import BehaviourReturn, best_by_environment, inversions, most_rewarded
from shaperun.check.rule import (
    ARM_RULES,
    STUDY_RULES,
    ArmContext,
    Finding,
    Rule,
    StudyContext,
    about_arm,
    about_study,
)
from shaperun.common.text import format_number, humanize
from shaperun.envs.base import OWN_REWARD, Array
from shaperun.rewards.expression import difference_factor
from shaperun.rewards.kernel import RewardKernel
from shaperun.stats import permutation

NEARLY_ALL_STEPS = 0.8  # the share of steps that counts as nearly all of them
LARGE_RETURN = 1_000.0  # a discounted return that a value function takes long to reach
MODERATE_RETURN = 100.0  # one that it reaches soon
EXPLAINED_SHARE = 0.8  # the share of the environment's reward that makes it a sum of terms
POWER = 2.8  # standard errors between means that a test at 5% finds in 80% of cases


def arm_findings(case: ArmContext) -> list[Finding]:
    """Everything that is wrong with one arm, in the order of the rules."""
    return [
        Finding(name, case.arm, text) for name, rule in ARM_RULES.items() for text in rule(case)
    ]


def study_findings(plan: StudyContext) -> list[Finding]:
    """Everything that is wrong with the study as an experiment."""
    return [Finding(name, None, text) for name, rule in STUDY_RULES.items() for text in rule(plan)]


@about_arm
def inverted_ranking(case: ArmContext) -> Iterator[str]:
    """The reward prefers a behaviour that the environment ranks clearly lower."""
    wrong = inversions(case.paid)
    if not wrong:
        return
    right, worst = best_by_environment(case.paid), wrong[0]
    expected = (
        f"expect it to {humanize(worst.behaviour.name)}"
        if worst is most_rewarded(case.paid)
        else f"it may well {humanize(worst.behaviour.name)}"
    )
    yield (
        f"{case.arm} pays {format_number(worst.discounted_return)} to {humanize(worst.behaviour.name)} and "
        f"{format_number(right.discounted_return)} to {humanize(right.behaviour.name)}: {expected} "
        f"(environment return {format_number(worst.environment_return)} instead of "
        f"{format_number(right.environment_return)}; discounted with γ = {case.training.gamma:g})"
    )


@about_arm
def every_step_costs(case: ArmContext) -> Iterator[str]:
    """Every step costs, and the shortest life is paid best."""
    short, right = most_rewarded(case.paid), best_by_environment(case.paid)
    steps = case.inside(short, right)
    if case.config.mode in ("log", "potential") or (steps < 0).mean() < NEARLY_ALL_STEPS:
        return
    if short.behaviour.length < right.behaviour.length and short in inversions(case.paid):
        yield (
            f"{format_number(100 * (steps < 0).mean())}% of the steps cost, "
            f"{format_number(-steps.mean())} on average, so a short life is a cheap one: to "
            f"{humanize(short.behaviour.name)} takes {format_number(short.behaviour.length)} steps, to "
            f"{humanize(right.behaviour.name)} {format_number(right.behaviour.length)}. Pay for the end that "
            "you want, or make a potential of the terms"
        )


@about_arm
def every_step_pays(case: ArmContext) -> Iterator[str]:
    """Every step pays, and the longest life is paid best although it reaches nothing."""
    long = most_rewarded(case.paid)
    steps = case.inside(long)
    if case.config.mode in ("log", "potential") or (steps > 0).mean() < NEARLY_ALL_STEPS:
        return
    endless = long.behaviour.transition.truncated[long.behaviour.transition.ended].mean() > 0.5
    if endless and not case.environment.outcomes.get(long.behaviour.outcome):
        yield (
            f"{format_number(100 * (steps > 0).mean())}% of the steps pay, "
            f"{format_number(steps.mean())} on average, and nothing ends that: to "
            f"{humanize(long.behaviour.name)} for {format_number(long.behaviour.length)} steps earns "
            f"{format_number(long.shaped_return)}. Pay for progress (mode potential) or for the end"
        )


@about_arm
def goal_lost(case: ArmContext) -> Iterator[str]:
    """The mode replace drops the environment's reward, and nothing pays for success instead."""
    good = {name for name, is_good in case.environment.outcomes.items() if is_good}
    if not case.replaces or any(term.name in good and w > 0 for _, term, w in case.weighted):
        return
    successes = np.concatenate([_successes(payment, good) for payment in case.paid])
    if len(successes):
        own_return, own, shaped_return, shaped = (format_number(x) for x in successes.mean(axis=0))
        yield (
            f"replace drops what {case.environment.id} pays: an episode that ends as "
            f"{' or '.join(sorted(good))} earns {own_return} there, {own} of it on the last step. "
            f"{case.arm} pays {shaped_return} and {shaped}. Weigh the outcome {sorted(good)[0]} "
            f"or the term {OWN_REWARD}"
        )
        return
    right = best_by_environment(case.paid)
    yield (
        f"replace drops what {case.environment.id} pays, {format_number(right.environment_return)} to "
        f"{humanize(right.behaviour.name)}: nothing but the terms is left to aim for. Weigh the term "
        f"{OWN_REWARD} to keep it"
    )


def _successes(payment: BehaviourReturn, good: set[str]) -> Array:
    """Returns and last rewards (n, 4) of a behaviour's good episodes: environment's, shaped."""
    behaviour, rewards = payment.behaviour, payment.rewards
    lasts = np.append(behaviour.starts[1:], len(behaviour.transition)) - 1
    columns = (
        payment.environment,
        rewards.env_reward[lasts],
        payment.shaped,
        rewards.shaped[lasts],
    )
    chosen = [episode.outcome in good for episode in behaviour.episodes]
    return np.stack(columns, axis=1)[chosen]


@about_arm
def repeats_environment(case: ArmContext) -> Iterator[str]:
    """The mode add weighs terms that the environment's own reward is made of already."""
    if case.config.mode != "add":
        return
    transition = [p.behaviour.transition for p in case.paid]
    inside = np.concatenate([~t.ended for t in transition])
    own = np.concatenate([t.env_reward for t in transition])[inside]
    raw = np.concatenate([p.rewards.raw for p in case.paid])[inside]
    before = np.concatenate([case.kernel.state_values(t.obs) for t in transition])[inside]
    parts = _parts_of(own, raw, before, case.kernel)
    found = [part for place, term, _ in case.weighted if (part := parts.get(term.name))]
    if found:
        yield (
            f"{case.environment.id} already pays {', '.join(found)} "
            f"({parts['']} of its reward is a sum of these terms): {case.arm} counts them twice. "
            "Leave them out, or replace the reward as a whole"
        )


def _parts_of(own: Array, raw: Array, before: Array, kernel: RewardKernel) -> dict[str, str]:
    """Which terms, or changes of them, the environment's reward is a linear sum of; in words."""
    names, columns = [], []
    for place, term in enumerate(kernel.terms):
        if term.name == OWN_REWARD or raw[:, place].std() == 0:
            continue
        if term.state_only:
            names.append((term.name, f"a change of {term.name}"))
            columns.append(raw[:, place] - before[:, place])
        names.append((term.name, term.name))
        columns.append(raw[:, place])
    spread = own.std()
    if not columns or spread < 1e-9:
        return {}
    matrix = np.stack([column - column.mean() for column in columns], axis=1)
    factors = np.linalg.lstsq(matrix, own - own.mean(), rcond=None)[0]
    left = (own - own.mean() - matrix @ factors).std()
    explained = 1.0 - (left / spread) ** 2
    if explained < EXPLAINED_SHARE:
        return {}
    strength = np.abs(factors) * matrix.std(axis=0)
    found: dict[str, str] = {"": f"{format_number(100 * explained)}%"}
    for place in np.argsort(-strength):
        name, what = names[place]
        if strength[place] >= 0.1 * spread and name not in found:
            found[name] = f"{format_number(factors[place])} × {what}"
    return found


@about_arm
def constant_term(case: ArmContext) -> Iterator[str]:
    """A weighted term has the same value on every step, so it teaches nothing."""
    raw = np.concatenate([p.rewards.raw for p in case.paid])
    for place, term, weight in case.weighted:
        if np.ptp(raw[:, place]) <= 1e-12 * np.abs(raw[:, place]).max():
            yield (
                f"{term.name} (weight {weight:g}) was {raw[0, place]:g} on all "
                f"{len(raw):,} recorded steps: it tells no behaviour from another. Leave it out, "
                "or look at its formula"
            )


@about_arm
def drowned_terms(case: ArmContext) -> Iterator[str]:
    """One term moves the return so much that the others do not count."""
    if len(case.weighted) < 2 or case.config.mode == "log":
        return
    moved = {
        term.name: _spread_between(case, place, weight) for place, term, weight in case.weighted
    }
    total = sum(moved.values())
    loudest = max(moved, key=lambda name: moved[name])
    if total and moved[loudest] / total >= DROWNED_SHARE:
        others = [name for name in moved if name != loudest]
        yield (
            f"{loudest} makes {format_number(100 * moved[loudest] / total)}% of what sets the behaviours' "
            f"returns apart; {', '.join(others)} {'is' if len(others) == 1 else 'are'} drowned. "
            "Lower its weight, or leave the others out"
        )


def _spread_between(case: ArmContext, place: int, weight: float) -> float:
    """How far the behaviours' mean returns from one term lie apart (standard deviation)."""
    gamma = case.training.gamma
    means = [
        p.behaviour.per_episode(weight * p.rewards.raw[:, place], gamma).mean() for p in case.paid
    ]
    return float(np.std(means))


@about_arm
def large_returns(case: ArmContext) -> Iterator[str]:
    """The returns are so large that the value function takes long to reach them."""
    if case.training.normalize.rewards:
        return
    size = float(np.quantile(np.abs(np.concatenate([p.discounted for p in case.paid])), 0.9))
    if size < LARGE_RETURN:
        return
    mend = "set training.normalize.rewards: true"
    if case.config.mode == "replace":
        scale = float(f"{case.config.scale * MODERATE_RETURN / size:.1g}")
        mend = f"set scale: {scale:g}, or {mend[4:]}"
    yield (
        f"a tenth of the recorded episodes have discounted returns beyond ±{format_number(size)}: the "
        f"value function starts at 0 and takes long to get there. {mend[0].upper()}{mend[1:]}"
    )


@about_arm
def gamma_differs(case: ArmContext) -> Iterator[str]:
    """Potential-based shaping written by hand with another γ than the learner's."""
    gamma = case.training.gamma
    for _, term, _ in case.weighted:
        definition = case.config.terms.get(term.name)
        factor = difference_factor(definition) if isinstance(definition, str) else None
        if factor is not None and factor != gamma and case.config.mode != "potential":
            yield (
                f"{term.name} is a difference of potentials with γ = {factor:g}, and the learner's "
                f"is {gamma:g}: it changes what is best. Define the potential alone and use the "
                "mode potential, which takes the learner's γ and knows how episodes end"
            )


@about_arm
def clipped_potential(case: ArmContext) -> Iterator[str]:
    """Rewards are normalised and clipped, which a potential does not survive."""
    if case.config.mode == "potential" and case.training.normalize.rewards:
        yield (
            "normalize.rewards scales and clips what the learner sees, so that the shaping no "
            "longer cancels out exactly. Set it to false, or take the guarantee as approximate"
        )


@about_study
def nothing_told_apart(plan: StudyContext) -> Iterator[str]:
    """The environment pays every behaviour the same, so that no ranking means anything."""
    means = [float(b.returns.mean()) for b in plan.behaviours]
    if max(means) - min(means) <= 1e-9 * max(1.0, max(map(abs, means))):
        names = ", ".join(humanize(b.name) for b in plan.behaviours)
        yield (
            f"{plan.study.environment.id} pays {format_number(means[0])} to {names} alike: none of them "
            "reaches what it pays for, so their ranking cannot tell a good reward from a bad one"
        )


@about_study
def too_few_seeds(plan: StudyContext) -> Iterator[str]:
    """So few runs cannot show a difference."""
    seeds, fewest = len(plan.study.seeds), permutation.min_runs(0.05, paired=False)
    if len(plan.study.arms) < 2:
        return
    if seeds < fewest:
        yield (
            f"with {seeds} seeds an arm, no outcome of an exact test at 5% can show a difference, "
            f"however large. Take {fewest} or more"
        )
    if plan.spread:
        needed = int(np.ceil(2 * (POWER * plan.spread / plan.difference) ** 2))
        if needed > seeds:
            yield (
                f"finished runs of one arm spread by {format_number(plan.spread)} (standard deviation): a "
                f"difference of {format_number(plan.difference)} in environment return takes {needed} "
                f"seeds an arm to show in 4 of 5 studies, and there are {seeds}"
            )


@about_study
def too_few_episodes(plan: StudyContext) -> Iterator[str]:
    """The evaluation is too short for the difference that matters."""
    episodes, seeds = plan.study.evaluation.final_episodes, len(plan.study.seeds)
    top = max(plan.behaviours, key=lambda b: float(b.returns.mean()))
    spread = float(top.returns.std(ddof=1)) if len(top.returns) > 1 else 0.0
    needed = int(np.ceil(2 * (POWER * spread / plan.difference) ** 2 / seeds))
    if needed > episodes:
        yield (
            f"the returns of single episodes spread by {format_number(spread)} (to "
            f"{humanize(top.name)}): with {seeds} seeds × {episodes} final episodes their luck alone "
            f"hides a difference of {format_number(plan.difference)}. Take "
            f"evaluation.final_episodes: {needed}"
        )


def default_difference(behaviours: Sequence[Behaviour]) -> float:
    """A difference in environment return worth showing, where nobody says which.

    It is a tenth of what lies between the best and the worst behaviour, to one digit.
    """
    means = [float(b.returns.mean()) for b in behaviours]
    return float(f"{(max(means) - min(means)) / 10:.1g}") or 1.0


RULES: Mapping[str, Rule] = {**ARM_RULES, **STUDY_RULES}
