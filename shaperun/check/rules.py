"""Rules that find a flawed reward or study without training.

A rule is a generator function of one context; it yields a sentence per finding, with the numbers,
their consequence and a remedy. Rule names are stable: scripts may rely on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from shaperun.analysis.term_history import DOMINANT_SHARE
from shaperun.check.goals import pays_for_goal, reached_goals
from shaperun.check.length_incentive import find_length_incentive
from shaperun.check.ranking import BehaviorReturn, best_by_environment, inversions, most_rewarded
from shaperun.check.rule import ArmContext, about_arm
from shaperun.common.text import format_exact, format_number
from shaperun.envs.base import OWN_REWARD, Array, Transition
from shaperun.rewards.config import FormulaTerm, formula_of
from shaperun.rewards.differences import find_difference
from shaperun.rewards.kernel import RewardKernel

MOST_STEPS_SHARE = 0.8
LARGE_RETURN = 1_000.0  # a discounted return that a value function learns slowly
MODERATE_RETURN = 100.0  # one that it learns quickly
EXPLAINED_SHARE = 0.8  # of the variance of the environment's reward
MIN_PART_SHARE = 0.1  # of the standard deviation of the environment's reward


@about_arm
def inverted_ranking(arm: ArmContext) -> Iterator[str]:
    """Flag a reward that prefers a behavior which the environment ranks clearly lower."""
    wrong = inversions(arm.returns)
    if not wrong:
        return
    right, worst = best_by_environment(arm.returns), wrong[0]
    expected = "expect it to learn" if worst is most_rewarded(arm.returns) else "it may learn"
    remedy = f". Raise what it pays to {right.name}, or use mode potential"
    start = ", at the start of its schedule" if arm.config.schedule else ""
    yield (
        f"{arm.name} pays {format_number(worst.discounted_return)} to {worst.name} and "
        f"{format_number(right.discounted_return)} to {right.name}; {expected} to {worst.name} "
        f"(environment return {format_number(worst.environment_return)} instead of "
        f"{format_number(right.environment_return)}; pay discounted with γ = "
        f"{arm.training.gamma:g}{start})"
        f"{remedy if arm.config.mode in ('add', 'replace') else ''}"
    )


@about_arm
def every_step_costs(arm: ArmContext) -> Iterator[str]:
    """Flag a reward that is negative on most steps and pays the shortest episodes best."""
    short, right = most_rewarded(arm.returns), best_by_environment(arm.returns)
    steps = arm.non_final_rewards(short, right)
    if arm.config.mode in ("log", "potential") or _share(steps < 0) < MOST_STEPS_SHARE:
        return
    share, found = _share(steps < 0), find_length_incentive(arm)
    if short.behavior.length < right.behavior.length and short in inversions(arm.returns):
        yield (
            f"{format_number(100 * share)}% of the steps have a negative reward (mean "
            f"{format_number(steps.mean())}), so ending the episode early costs least: to "
            f"{short.name} takes {format_number(short.behavior.length)} steps, to {right.name} "
            f"{format_number(right.behavior.length)}. Expect short episodes; weight the outcome "
            "that you want, or use mode potential"
        )
    elif found and found.prefers_short:
        yield (
            f"{format_number(100 * share)}% of the steps have a negative reward (mean "
            f"{format_number(steps.mean())}), so ending the episode early costs least: of the "
            f"recorded episodes that reached nothing, those of {format_number(found.short_length)} "
            f"steps are paid {format_number(found.short_paid)} and those of "
            f"{format_number(found.long_length)} steps {format_number(found.long_paid)} "
            f"(discounted). Expect short episodes, {_condition(arm)}"
        )


@about_arm
def every_step_pays(arm: ArmContext) -> Iterator[str]:
    """Flag a reward that is positive on most steps and pays endless episodes best."""
    long = most_rewarded(arm.returns)
    steps, transition = arm.non_final_rewards(long), long.behavior.transition
    share = _share(steps > 0)
    if arm.config.mode in ("log", "potential") or share < MOST_STEPS_SHARE:
        return
    found = find_length_incentive(arm)
    lengths = np.concatenate([r.behavior.ends - r.behavior.starts for r in arm.returns])
    endless = transition.truncated[transition.ended].mean() > 0.5 and np.ptp(lengths) > 0
    reached = next(
        r for result, r in zip(arm.returns, reached_goals(arm), strict=True) if result is long
    )
    if endless and not reached.any():
        yield (
            f"{format_number(100 * share)}% of the steps have a positive reward (mean "
            f"{format_number(steps.mean())}), so lingering pays best: to {long.name} for "
            f"{format_number(long.behavior.length)} steps returns "
            f"{format_number(long.shaped_return)} without reaching anything. Expect episodes that "
            "never end; reward progress (mode potential) or the outcome that you want"
        )
    elif found and not found.prefers_short:
        yield (
            f"{format_number(100 * share)}% of the steps have a positive reward (mean "
            f"{format_number(steps.mean())}), so lingering pays: of the recorded episodes that "
            f"reached nothing, those of {format_number(found.long_length)} steps are paid "
            f"{format_number(found.long_paid)} and those of {format_number(found.short_length)} "
            f"steps {format_number(found.short_paid)} (discounted). Expect long episodes, "
            f"{_condition(arm)}"
        )


def _share(mask: npt.NDArray[np.bool_]) -> float:
    return float(mask.mean()) if len(mask) else 0.0


def _condition(arm: ArmContext) -> str:
    if arm.drops_env_reward:
        return "as nothing pays for reaching a goal; weight the outcome or the term environment"
    return "unless reaching the goal pays more than the difference; none of them did"


@about_arm
def goal_lost(arm: ArmContext) -> Iterator[str]:
    """Flag mode replace where no term pays for success instead of the environment's reward."""
    goals = sorted(name for name, good in arm.environment.outcomes.items() if good)
    named = any(term.name in goals and weight > 0 for _, term, weight in arm.weighted_terms)
    if not arm.drops_env_reward or named or pays_for_goal(arm):
        return
    dropped = f"mode replace drops the reward of {arm.environment.id}"
    successes = np.concatenate([_successful_returns(r, goals) for r in arm.returns])
    if len(successes):
        means = map(format_number, successes.mean(axis=0))
        env_return, env_last, shaped_return, shaped_last = means
        yield (
            f"{dropped}, and no term pays for success: an episode that ends as "
            f"{' or '.join(goals)} returns {env_return} there ({env_last} on the last step) and "
            f"{shaped_return} under {arm.name} ({shaped_last} on the last step). Weight the "
            f"outcome {goals[0]} or the term {OWN_REWARD}"
        )
        return
    right = best_by_environment(arm.returns)
    yield (
        f"{dropped}, which pays {format_number(right.environment_return)} to {right.name}, so only "
        f"the weighted terms remain to aim for. Weight the term {OWN_REWARD} to keep the goal"
    )


def _successful_returns(result: BehaviorReturn, goals: Sequence[str]) -> Array:
    """Return environment return, its last reward, shaped return, its last reward (n, 4)."""
    ends, rewards = result.behavior.ends, result.rewards
    last = rewards.env_reward[ends], rewards.shaped[ends]
    columns = np.stack([result.environment, last[0], result.shaped, last[1]], axis=1)
    return columns[[episode.outcome in goals for episode in result.behavior.episodes]]


@about_arm
def repeats_environment(arm: ArmContext) -> Iterator[str]:
    """Flag mode add with terms that the environment's reward already contains."""
    if arm.config.mode != "add":
        return
    transition = Transition.concatenate([r.behavior.transition for r in arm.returns])
    inside = ~transition.ended
    if not inside.any():
        return
    raw = np.concatenate([r.rewards.raw for r in arm.returns])[inside]
    before = arm.kernel.state_values(transition.obs)[inside]
    parts, explained = _find_linear_parts(transition.env_reward[inside], raw, before, arm.kernel)
    repeated = [parts[t.name] for _, t, _ in arm.weighted_terms if t.name in parts]
    if repeated:
        yield (
            f"{arm.environment.id} already pays {', '.join(repeated)} (such terms explain "
            f"{format_number(100 * explained)}% of the variance of its reward), so {arm.name} "
            "pays them twice. Remove them, or replace the whole reward"
        )


def _find_linear_parts(
    env_reward: Array, raw: Array, before: Array, kernel: RewardKernel
) -> tuple[dict[str, str], float]:
    """Regress the environment's rewards (N,) on the terms (N, K) and their changes from s to s′.

    `before` has the state terms' values at s, (N, K). Return the parts of the reward in words, by
    term, and the share of its variance explained; no parts where that is less than 80%.
    """
    names, columns = [], []
    for index, term in enumerate(kernel.terms):
        if term.name == OWN_REWARD or raw[:, index].std() == 0:
            continue
        if term.state_only:
            names.append((term.name, f"the change in {term.name}"))
            columns.append(raw[:, index] - before[:, index])
        names.append((term.name, term.name))
        columns.append(raw[:, index])
    spread = env_reward.std()
    if not columns or spread < 1e-9:
        return {}, 0.0
    matrix = np.stack([column - column.mean() for column in columns], axis=1)
    centered = env_reward - env_reward.mean()
    factors = np.linalg.lstsq(matrix, centered, rcond=None)[0]
    explained = 1.0 - float((centered - matrix @ factors).std() / spread) ** 2
    if explained < EXPLAINED_SHARE:
        return {}, explained
    strength = np.abs(factors) * matrix.std(axis=0)
    parts: dict[str, str] = {}
    for index in np.argsort(-strength):
        name, description = names[index]
        if strength[index] >= MIN_PART_SHARE * spread:
            parts.setdefault(name, f"{format_number(factors[index])} × {description}")
    return parts, explained


@about_arm
def constant_term(arm: ArmContext) -> Iterator[str]:
    """Flag a constant term, unless it pays or costs for the length of episodes."""
    lengths = np.concatenate([r.behavior.ends - r.behavior.starts for r in arm.returns])
    if arm.config.mode != "potential" and np.ptp(lengths):
        return
    raw = np.concatenate([r.rewards.raw for r in arm.returns])
    for index, term, weight in arm.weighted_terms:
        if np.ptp(raw[:, index]) <= 1e-12 * np.abs(raw[:, index]).max():
            yield (
                f"{term.name} (weight {format_exact(weight)}) is {format_exact(raw[0, index])} on "
                f"all {len(raw):,} recorded steps, so it cannot tell behaviors apart. Remove it, "
                "or check its formula"
            )


@about_arm
def drowned_terms(arm: ArmContext) -> Iterator[str]:
    """Flag a term that makes nearly all of the differences between returns, or of a potential."""
    if len(arm.weighted_terms) < 2 or arm.config.mode == "log":
        return
    is_potential = arm.config.mode == "potential"
    spread_of = _spread_in_potential if is_potential else _spread_of_returns
    spreads = {
        term.name: spread_of(arm, index, weight) for index, term, weight in arm.weighted_terms
    }
    total, largest = sum(spreads.values()), max(spreads, key=spreads.__getitem__)
    if total and spreads[largest] / total >= DOMINANT_SHARE:
        others = [name for name in spreads if name != largest]
        whole = (
            "variation of the potential"
            if is_potential
            else "differences between the behaviors' returns"
        )
        yield (
            f"{largest} makes {format_number(100 * spreads[largest] / total)}% of the {whole}, so "
            f"{', '.join(others)} "
            f"{'has' if len(others) == 1 else 'have'} almost no effect. Lower the weight of "
            f"{largest}, or remove the others"
        )


def _spread_in_potential(arm: ArmContext, index: int, weight: float) -> float:
    """Return the standard deviation of one term's part of the potential over all steps."""
    return abs(weight) * float(
        np.std(np.concatenate([r.rewards.raw[:, index] for r in arm.returns]))
    )


def _spread_of_returns(arm: ArmContext, index: int, weight: float) -> float:
    """Return the standard deviation of the behaviors' mean discounted returns from one term."""
    gamma = arm.training.gamma
    means = [
        r.behavior.sum_per_episode(weight * r.rewards.raw[:, index], gamma).mean()
        for r in arm.returns
    ]
    return float(np.std(means))


@about_arm
def large_returns(arm: ArmContext) -> Iterator[str]:
    """Flag returns so large that a value function learns them slowly."""
    if arm.training.normalize.rewards:
        return
    size = float(np.quantile(np.abs(np.concatenate([r.discounted for r in arm.returns])), 0.9))
    if size < LARGE_RETURN:
        return
    scale = f"scale: {float(f'{arm.config.scale * MODERATE_RETURN / size:.1g}'):g}, or "
    yield (
        f"a tenth of the recorded episodes have discounted returns beyond ±{format_number(size)}; "
        "the value function starts near 0, so expect a large value loss and slow learning. Set "
        f"{scale if arm.config.mode == 'replace' else ''}training.normalize.rewards: true"
    )


@about_arm
def gamma_differs(arm: ArmContext) -> Iterator[str]:
    """Flag potential-based shaping written by hand with a γ other than the learner's."""
    gamma = arm.training.gamma
    for _, term, weight in arm.weighted_terms:
        definition = arm.config.terms.get(term.name)
        found = None
        if isinstance(definition, str | FormulaTerm):
            found = find_difference(*formula_of(definition))
        if found is None or arm.config.mode == "potential":
            continue
        if found.positive_part and weight > 0:
            yield (
                f"{term.name} pays for an increase of a potential and never takes it back, so "
                "going back and forth pays again and again. Define the potential alone and use "
                "mode potential, which pays for a net increase"
            )
        elif not (found.positive_part or np.isclose(found.factor, gamma, rtol=1e-9, atol=0.0)):
            yield (
                f"{term.name} is a difference of potentials with γ = {found.factor:g}, but the "
                f"learner's γ is {gamma:g}, so it can change the optimal policy. Define the "
                "potential alone and use mode potential, which takes the learner's γ and handles "
                "episode ends"
            )


@about_arm
def clipped_potential(arm: ArmContext) -> Iterator[str]:
    """Flag a potential under normalized, clipped rewards, which preserve no ranking exactly."""
    if arm.config.mode == "potential" and arm.training.normalize.rewards:
        yield (
            "normalize.rewards scales and clips the learner's rewards, so the potential cancels "
            "out only approximately and may change the optimal policy. Set it to false to restore "
            "the guarantee"
        )
