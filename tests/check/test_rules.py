"""Every rule on a reward that it must flag, and on one that it must not."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shaperun.check.check import Check, check_study
from shaperun.check.rule import ARM_RULES, STUDY_RULES
from shaperun.envs.base import Transition
from shaperun.study.models import parse_study

BASE: dict[str, Any] = {
    "study": "s",
    "environment": {"id": "LunarLander-v3"},
    "training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.999}},
    "seeds": 5,
}
TUTORIAL = {
    "mode": "replace",
    "weights": {"distance": 200, "velocity": 50, "angle": 50, "legs": 10, "main_engine": 0.3},
}
LINGER = {"mode": "replace", "weights": {"legs": 1, "height": 1}, "terms": {"height": "1 + 0 * y"}}
BY_HAND = "0.9 * norm(obs[0:2]) - norm(last_obs[0:2])"
ALL_IN_ONE = {"mode": "replace", "weights": {"environment": 1, "landed": 100}}
NORMALIZED = {"total_timesteps": 1000, "normalize": {"rewards": True}}

# rule -> an arm that it flags, other keys of the study, a pattern of the message,
# and an arm that it does not flag.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, dict[str, Any]]] = {
    "inverted-ranking": (TUTORIAL, {}, r"pays −[\d,]+ to crash and −[\d,]+ to land", {}),
    "every-step-costs": (
        TUTORIAL,
        {},
        r"ending the episode early costs least: to crash takes [\d.]+ steps",
        ALL_IN_ONE,
    ),
    "every-step-pays": (
        LINGER,
        {},
        r"lingering pays best: to (hover|linger) for [\d,]+ steps",
        ALL_IN_ONE,
    ),
    "goal-lost": (
        TUTORIAL,
        {},
        r"ends as landed returns 2\d\d there \(100 on the last",
        ALL_IN_ONE,
    ),
    "repeats-environment": (
        {"mode": "add", "weights": {"distance": 1, "legs": 1}},
        {},
        r"already pays (100|10) × the change in \w+, (100|10) × the change in",
        {"mode": "add", "weights": {"main_engine": 1}},
    ),
    "constant-term": (
        {"mode": "potential", "weights": {"same": 2}, "terms": {"same": "3"}},
        {},
        r"same \(weight 2\) is 3 on all",
        {"mode": "add", "weights": {"bonus": 0.01}, "terms": {"bonus": "1"}},  # for survival
    ),
    "drowned-terms": (
        {"mode": "replace", "weights": {"distance": 1000, "angle": 0.1}},
        {},
        r"distance makes \d+(\.\d)?% of .*, so angle has almost no effect",
        {"mode": "replace", "weights": {"distance": 1, "velocity": 1}},
    ),
    "large-returns": (TUTORIAL, {}, r"Set scale: 0\.00", ALL_IN_ONE),
    "gamma-differs": (
        {"mode": "add", "weights": {"f": 1}, "terms": {"f": BY_HAND}},
        {},
        r"γ = 0\.9, but the learner's γ is 0\.999",
        {"mode": "add", "weights": {"f": 1}, "terms": {"f": BY_HAND.replace("0.9", "0.999")}},
    ),
    "clipped-potential": (
        {"mode": "potential", "weights": {"distance": 1}},
        {"training": NORMALIZED},
        r"scales and clips",
        {"mode": "add", "weights": {"distance": 1}},
    ),
}


@cache
def _checked(arm: str, more: str) -> Check:
    import ast

    data = BASE | ast.literal_eval(more) | {"arms": {"default": {}, "a": ast.literal_eval(arm)}}
    study = parse_study(data, allow_code=True)
    return check_study(study, study.arms)


def checked(arm: dict[str, Any], more: dict[str, Any] | None = None) -> Check:
    return _checked(repr(arm), repr(more or {}))


def messages(check: Check, rule: str, arm: str | None) -> list[str]:
    return [f.message for f in check.findings if (f.rule, f.arm) == (rule, arm)]


@pytest.mark.parametrize("rule", CASES)
def test_rule_flags_its_reward(rule: str) -> None:
    arm, more, pattern, _ = CASES[rule]
    [message, *_] = messages(checked(arm, more), rule, "a")
    assert re.search(pattern, message)


@pytest.mark.parametrize("rule", CASES)
def test_rule_does_not_flag_other_rewards(rule: str) -> None:
    _, more, _, innocent = CASES[rule]
    check = checked(innocent, more)
    assert messages(check, rule, "a") == []
    if rule != "large-returns":
        assert messages(check, rule, "default") == []


def test_every_rule_has_a_case_a_docstring_and_a_row_in_the_guide() -> None:
    about_studies = {
        *("too-few-seeds", "too-few-updates", "too-few-episodes", "nothing-told-apart"),
        "endless-episodes",  # tests/cli/test_own_code.py
        "unmatched-ends",  # tests/study/test_outcomes.py
    }
    rules = ARM_RULES | STUDY_RULES
    assert rules.keys() == CASES.keys() | about_studies
    assert all(rule.__doc__ for rule in rules.values())
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    assert [rule for rule in rules if f"`{rule}`" not in guide] == []


@pytest.mark.parametrize(
    ("env_id", "arm", "lost"),
    [
        ("MountainCar-v0", {"bonus": "1000 if terminated else x"}, False),
        ("MountainCar-v0", {"bonus": "x"}, True),
        ("Acrobot-v1", {"bonus": "200 if terminated else -abs(spin1)"}, False),
        ("LunarLander-v3", {"bonus": "100 if terminated else 0"}, True),  # a crash pays as well
        ("LunarLander-v3", {"bonus": "100 if terminated and env_reward > 0 else 0"}, False),
        ("CartPole-v1", {"bonus": "1 - abs(angle)"}, False),  # to last is the goal
        ("CartPole-v1", {"bonus": "-abs(angle)"}, True),
    ],
)
def test_goal_is_found_in_what_the_reward_pays(
    env_id: str, arm: dict[str, str], lost: bool
) -> None:
    reward = {"mode": "replace", "terms": arm, "weights": {"bonus": 1}}
    check = checked(reward, {"environment": {"id": env_id}})
    assert bool(messages(check, "goal-lost", "a")) is lost


def twice_paid(transition: Transition) -> Any:
    return 2 * transition.env_reward


@pytest.mark.parametrize(
    ("definition", "lost"),
    [
        ({"python": f"{__name__}:twice_paid"}, False),  # what it reads is unknown
        ("2 * env_reward", False),
        ({"formula": "-env_reward_scale * abs(x)", "env_reward_scale": 2}, True),
    ],
)
def test_goal_is_lost_only_without_the_reward_of_the_environment(
    definition: Any, lost: bool
) -> None:
    reward = {"mode": "replace", "terms": {"own": definition}, "weights": {"own": 1}}
    assert bool(messages(checked(reward), "goal-lost", "a")) is lost


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        ("last_angle - angle", True),
        ("0.999 * x - last_x", False),
        ("5 * (0.999 * x - last_x)", False),
        ("5 * (x - last_x)", True),
        ("max(0, 0.999 * x - last_x)", True),
    ],
)
def test_hand_written_potentials_in_any_form(formula: str, found: bool) -> None:
    arm = {"mode": "add", "weights": {"f": 1}, "terms": {"f": formula}}
    assert bool(messages(checked(arm), "gamma-differs", "a")) is found


def test_cost_of_an_increase_is_no_payment() -> None:
    terms = {"f": "max(0, x - last_x)"}
    for weight, found in ((1, True), (-1, False)):
        arm = {"mode": "add", "weights": {"f": weight}, "terms": terms}
        assert bool(messages(checked(arm), "gamma-differs", "a")) is found


def test_potential_of_one_term_says_so() -> None:
    arm = {"mode": "potential", "weights": {"distance": 1000, "legs": 0.1}}
    [message] = messages(checked(arm), "drowned-terms", "a")
    assert re.match(
        r"distance makes \d+(\.\d)?% of the variation of the potential, so legs", message
    )


def test_schedule_that_ends_with_the_reward_of_the_environment_keeps_the_goal() -> None:
    for end, lost in ((0.0, False), (1.0, True)):
        schedule = {"kind": "linear", "from": 1.0, "to": end}
        check = checked({**TUTORIAL, "schedule": schedule})
        assert bool(messages(check, "goal-lost", "a")) is lost


def test_too_few_seeds() -> None:
    assert messages(checked({}, {"seeds": 5}), "too-few-seeds", None) == []
    [message] = messages(checked({}, {"seeds": 3}), "too-few-seeds", None)
    assert "Use 4 or more" in message


def test_too_few_seeds_knows_how_many_arms_are_compared() -> None:
    arms = {"default": {}, **{name: {"mode": "add", "weights": {"legs": 1}} for name in "ab"}}
    for seeds, found in ((4, ["corrected for 2 compared arms, shows no difference"]), (5, [])):
        study = parse_study(BASE | {"arms": arms, "seeds": seeds})
        result = messages(check_study(study, study.arms), "too-few-seeds", None)
        assert len(result) == len(found)
        assert all(part in text for part, text in zip(found, result, strict=True))


def test_spread_of_finished_runs_decides_the_number_of_seeds() -> None:
    study = parse_study(BASE | {"arms": {"default": {}, "a": {}}})
    wide = check_study(study, study.arms, difference=10, spread=20)
    # 2 (2.8016 · 20 / 10)² / 0.84 + 1.96² / 2 = 76.7, as `compare` recommends.
    assert "takes 77 seeds" in messages(wide, "too-few-seeds", None)[0]
    narrow = check_study(study, study.arms, difference=60, spread=20)
    assert messages(narrow, "too-few-seeds", None) == []


def test_too_few_episodes() -> None:
    assert (
        messages(checked({}, {"environment": {"id": "FrozenLake-v1"}}), "too-few-episodes", None)
        == []
    )
    few = {"evaluation": {"final_episodes": 2}}
    study = parse_study(BASE | few | {"arms": {"default": {}, "a": {}}})
    [message] = messages(check_study(study, study.arms, difference=5), "too-few-episodes", None)
    needed = int(message.rsplit(" ", 1)[-1])
    more = parse_study(
        BASE | {"evaluation": {"final_episodes": needed}} | {"arms": {"default": {}, "a": {}}}
    )
    assert messages(check_study(more, more.arms, difference=5), "too-few-episodes", None) == []


def test_environment_that_pays_all_behaviors_alike() -> None:
    lake = {"id": "FrozenLake-v1", "options": {"is_slippery": False}}
    study = parse_study(BASE | {"environment": lake, "arms": {"default": {}}})
    [message] = messages(check_study(study, study.arms), "nothing-told-apart", None)
    assert "pays 0 to every recorded behavior (repeat action 0, act randomly)" in message
    assert messages(checked({}), "nothing-told-apart", None) == []


def test_too_few_updates() -> None:
    few = {"training": {"total_timesteps": 60_000, "n_envs": 16}}
    [message] = messages(checked({}, few), "too-few-updates", None)
    assert "PPO updates its policy 2 times in 60,000 steps, once per 32,768" in message
    assert "training.hyperparameters.n_steps: 64, or training.total_timesteps: 655_360" in message
    remedies = ({"hyperparameters": {"n_steps": 64}}, {"total_timesteps": 655_360})
    for remedy in remedies:
        enough = {"training": few["training"] | remedy}
        assert messages(checked({}, enough), "too-few-updates", None) == []
    dqn = {"training": few["training"] | {"algorithm": "DQN"}}
    assert messages(checked({}, dqn), "too-few-updates", None) == []
