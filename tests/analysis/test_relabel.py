"""Returns of recorded episodes under any reward, against rollouts with that reward."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.analysis.relabel import contributions, missing_terms, shaped_returns
from shaperun.check.behaviors import Behavior, record_behaviors
from shaperun.envs.builtin import environments
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import Study, parse_study
from shaperun.training.evaluation import Evaluation

EPISODES = 6
POLICIES = ("balance", "fall", "drift")  # with all outcomes
TERMS = {"bowl": "0.1 + x * x", "effort": "abs(action - last_x)"}
HALF_WAY = {"kind": "piecewise", "points": [[0.0, 0.4]]}
FADING = {"kind": "linear", "from": 1.0, "to": 0.2}

ACTING: dict[str, float] = {"upright": 0.7, "push_right": 0.1, "effort": -0.3, "fell": -20}
STATES: dict[str, float] = {"upright": 1, "still": -0.2, "bowl": 2}
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "add": {"mode": "add", "weights": {**ACTING, "environment": 0.5}, "scale": 0.25},
    "replace": {"mode": "replace", "weights": {"centred": 2, "balanced": 30, "off_track": -5}},
    "replace-all": {"mode": "replace", "weights": {**ACTING, "environment": -1}, "scale": 3},
    "potential": {"mode": "potential", "weights": STATES, "scale": 4},
    "add-held": {"mode": "add", "weights": ACTING, "schedule": HALF_WAY},
    "replace-held": {
        "mode": "replace",
        "weights": {**ACTING, "environment": 0.5},
        "scale": 0.25,
        "schedule": HALF_WAY,
    },
    "potential-held": {"mode": "potential", "weights": STATES, "schedule": HALF_WAY},
    "add-fading": {"mode": "add", "weights": ACTING, "schedule": FADING},
    "replace-fading": {"mode": "replace", "weights": ACTING, "schedule": FADING},
}
CARTPOLE = environments()["CartPole-v1"]


@cache
def study() -> Study:
    return parse_study(
        {
            "study": "s",
            "environment": {"id": "CartPole-v1", "options": {"max_episode_steps": 150}},
            "training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.97}},
            "terms": TERMS,
            "arms": ARMS,
        }
    )


@cache
def recorded(arm: str, progress: float = 1.0) -> pl.DataFrame:
    """The episodes of all policies, as a run of the arm records them."""
    evaluation = Evaluation(study().run_config(study().arms[arm], 0))
    episodes = []
    for name in POLICIES:
        policy = CARTPOLE.controllers[name].make()

        def act(obs: npt.NDArray[Any], policy: Any = policy) -> npt.NDArray[Any]:
            return np.array([policy(row) for row in obs])

        episodes += evaluation(act, EPISODES, progress)
    evaluation.close()
    return pl.DataFrame(episodes)


@cache
def behaviors() -> list[Behavior]:
    """The same episodes, step by step."""
    found = {b.name: b for b in record_behaviors(study().environment, EPISODES)}
    return [found[name] for name in POLICIES]


def stepwise(reward: RewardConfig) -> npt.NDArray[np.float64]:
    """The return of each episode as the sum of what the kernel pays for its steps."""
    kernel = RewardKernel(CARTPOLE, study().resolve_reward(reward), study().training.gamma)
    return np.concatenate([b.sum_per_episode(kernel(b.transition).shaped) for b in behaviors()])


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_episodes_have_every_outcome() -> None:
    assert set(recorded("default")["outcome"]) == {"balanced", "fell", "off_track"}
    assert set(recorded("default")["terminated"]) == {0, 1}


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("arm", ARMS)
def test_unshaped_run_determines_the_returns_of_a_shaped_run(arm: str, progress: float) -> None:
    reward = study().arms[arm]
    paid = shaped_returns(recorded("default"), study(), reward, progress)
    assert paid == near(recorded(arm, progress)["shaped_return"].to_numpy())


@pytest.mark.parametrize("other", ["add", "replace-held", "potential"])
def test_returns_do_not_depend_on_the_recording_arm(other: str) -> None:
    for arm, reward in study().arms.items():
        paid = shaped_returns(recorded(other), study(), reward)
        assert paid == near(recorded(arm)["shaped_return"].to_numpy())


def test_default_progress_is_the_end_of_training() -> None:
    reward = study().arms["replace-fading"]
    paid = shaped_returns(recorded("default"), study(), reward)
    assert paid == near(recorded("replace-fading", 1.0)["shaped_return"].to_numpy())
    assert paid != near(recorded("replace-fading", 0.0)["shaped_return"].to_numpy())


@pytest.mark.parametrize("arm", ARMS)
def test_contributions_add_up(arm: str) -> None:
    reward = study().arms[arm]
    parts = contributions(recorded("default"), study(), reward, 0.25)
    assert all(part.shape == (len(POLICIES) * EPISODES,) for part in parts.values())
    assert sum(parts.values()) == near(recorded(arm, 0.25)["shaped_return"].to_numpy())
    shaping = set(reward.weights) - {"environment"}
    assert parts.keys() - {"environment"} == shaping
    own = reward.mode != "replace" or reward.schedule or "environment" in reward.weights
    assert ("environment" in parts) == bool(own)


def test_each_contribution_by_hand() -> None:
    rows = recorded("default")
    own = rows["return"].to_numpy()
    fell = (rows["outcome"] == "fell").to_numpy()
    add = contributions(rows, study(), study().arms["add"])
    assert add["fell"] == near(np.where(fell, 0.25 * -20, 0))
    assert add["environment"] == near(own * (1 + 0.25 * 0.5))
    assert add["push_right"] == near(0.25 * 0.1 * rows["sum_push_right"].to_numpy())
    held = contributions(rows, study(), study().arms["replace-held"])
    assert held["environment"] == near(own * (0.6 + 0.4 * 0.25 * 0.5))
    assert held["fell"] == near(0.4 * add["fell"])


def test_constant_potential_pays_what_discounting_takes_away() -> None:
    # γ Σ Φ(s′) − Σ Φ(s), with Φ = 1 at every state: T (γ − 1), and γ less where it terminated.
    reward = RewardConfig(mode="potential", weights={"one": 1.0}, terms={"one": "1 + 0 * x"})
    rows = recorded("default").with_columns(
        pl.col("length").cast(pl.Float64).alias("sum_one"),
        *(pl.lit(1.0).alias(f"{kind}_one") for kind in ("first", "last")),
    )
    length, ended = (rows[name].to_numpy() for name in ("length", "terminated"))
    paid = contributions(rows, study(), reward)["one"]
    assert paid == near(-0.03 * length - 0.97 * ended)
    assert paid == near(stepwise(reward) - rows["return"].to_numpy())


weights = st.floats(-100, 100)
STATE_NAMES = ["upright", "centred", "still", "bowl"]
ALL_NAMES = [*STATE_NAMES, "push_right", "effort", "fell", "balanced", "environment"]


@st.composite
def rewards(draw: st.DrawFn) -> RewardConfig:
    mode: Any = draw(st.sampled_from(["add", "replace", "potential"]))
    names = st.sampled_from(STATE_NAMES if mode == "potential" else ALL_NAMES)
    factor = draw(st.none() | st.floats(-2, 2))
    return RewardConfig.model_validate(
        {
            "mode": mode,
            # At least one term pays; see below for rewards without one.
            "weights": {**draw(st.dictionaries(names, weights, max_size=5)), "upright": 1.5},
            "scale": draw(st.floats(0.01, 10)),
            "schedule": None
            if factor is None
            else {"kind": "piecewise", "points": [[0.0, factor]]},
        }
    )


@settings(max_examples=40, deadline=None)
@given(rewards())
def test_returns_are_sums_over_steps(reward: RewardConfig) -> None:
    expected = stepwise(reward)
    size = np.abs(expected).max()
    paid = shaped_returns(recorded("default"), study(), reward)
    assert paid == pytest.approx(expected, rel=1e-9, abs=1e-8 + 1e-11 * size)


def test_terms_without_weight_are_not_needed_nor_listed() -> None:
    reward = RewardConfig(
        mode="add", weights={"upright": 1, "own": 0}, terms={"own": "last_x"}, scale=2
    )
    parts = contributions(recorded("default"), study(), reward)
    assert set(parts) == {"environment", "upright"}


@pytest.mark.parametrize(
    "changes", [{"weights": {"upright": 0}}, {"weights": {}}, {"scale": 0, "weights": ACTING}]
)
def test_reward_without_weights_returns_zero(changes: dict[str, Any]) -> None:
    reward = RewardConfig.model_validate({"mode": "replace", **changes})
    paid = shaped_returns(recorded("default"), study(), reward)
    assert paid.tolist() == [0.0] * len(recorded("default"))


def test_listed_terms_do_not_depend_on_the_episodes() -> None:
    # The environment's reward counts with a factor of 0.6, even if it is 0 in all episodes.
    faded = {"mode": "replace", "weights": {"upright": 1}, "schedule": HALF_WAY}
    reward, rows = RewardConfig.model_validate(faded), recorded("default")
    poor = contributions(rows.with_columns(pl.lit(0.0).alias("return")), study(), reward)
    assert poor.keys() == contributions(rows, study(), reward).keys()


OWN = {"mode": "add", "weights": {"own": 1.0}, "terms": {"own": "x"}}


def find_missing(runs_of: dict[str, Any], reward: dict[str, Any]) -> set[str]:
    arms = {"default": {}, "runs": runs_of, "reward": reward}
    both = parse_study(study().model_dump(exclude={"arms"}) | {"arms": arms})
    runs, wanted = (both.resolve_reward(both.arms[name]) for name in ("runs", "reward"))
    return missing_terms(runs, wanted, CARTPOLE)


@pytest.mark.parametrize(
    ("runs_of", "reward", "missing"),
    [
        ({}, OWN, {"own"}),
        (OWN, OWN, set()),
        # A term is recorded also without weight, or without shaping.
        (OWN | {"weights": {"own": 0.0, "upright": 1}}, OWN, set()),
        ({"terms": {"own": "x"}}, OWN, set()),
        # The same name with another formula, and a run without the term.
        (OWN | {"terms": {"own": "2 * x"}}, OWN, {"own"}),
        ({"mode": "add", "weights": {"bowl": 1}}, OWN, {"own"}),
        # All runs record the study's and environment's terms, the outcomes and the reward.
        ({}, {"mode": "add", "weights": {"bowl": 1, "effort": 2}}, set()),
        ({}, {"mode": "replace", "weights": {"upright": 1, "fell": -1, "environment": 1}}, set()),
        # Terms that pay nothing are not needed.
        ({}, OWN | {"weights": {"own": 0.0, "upright": 1}}, set()),
        ({}, OWN | {"scale": 0.0}, set()),
        # A term of the study that the arm redefines is another term.
        ({}, {"mode": "add", "weights": {"bowl": 1}, "terms": {"bowl": "x"}}, {"bowl"}),
    ],
)
def test_unrecorded_terms_are_missing(
    runs_of: dict[str, Any], reward: dict[str, Any], missing: set[str]
) -> None:
    assert find_missing(runs_of, reward) == missing
