"""Rewards of environments without controllers are judged by the lengths of their episodes."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from shaperun.check.check import Check, check_study
from shaperun.study.models import parse_study

PITS = {(0, 3), (1, 1), (2, 3), (3, 0), (3, 2), (1, 4)}
NEAR = "-(8 - obs[0] - obs[1])"


class Grid(gym.Env[Any, Any]):
    """Five by five squares with pits, and a goal in the far corner that no random walk reaches."""

    observation_space = gym.spaces.Box(0, 4, (2,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = np.zeros(2, dtype=int)
        return self.place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        move = [(1, 0), (0, 1), (-1, 0), (0, -1)][int(action)]
        self.place = np.clip(self.place + move, 0, 4)
        x, y = self.place.tolist()
        goal = (x, y) == (4, 4)
        terminated = goal or (x, y) in PITS
        return self.place.astype(np.float32), 10.0 * goal, terminated, False, {}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    gym.register("Grid-v0", lambda **_: Grid(), max_episode_steps=100)
    yield
    del gym.registry["Grid-v0"]


def checked(env_id: str, formula: str, mode: str, weight: float = 1.0, **options: Any) -> Check:
    arm = {"mode": mode, "terms": {"term": formula}, "weights": {"term": weight}}
    study = parse_study(
        {
            "study": "s",
            "environment": {"id": env_id, "options": options},
            "training": {"total_timesteps": 1000},
            "arms": {"default": {}, "a": arm},
        }
    )
    return check_study(study, study.arms)


def found(check: Check) -> dict[str, str]:
    rules = ("every-step-costs", "every-step-pays")
    return {f.rule: f.message for f in check.findings if f.rule in rules}


@pytest.mark.parametrize("mode", ["replace", "add"])
def test_costs_that_reward_an_early_death(mode: str) -> None:
    [(rule, message)] = found(checked("Grid-v0", NEAR, mode)).items()
    assert rule == "every-step-costs"
    assert "those of 3 steps are paid −18" in message
    condition = "nothing pays for reaching a goal" if mode == "replace" else "unless reaching the"
    assert condition in message


def test_pay_that_rewards_lingering() -> None:
    [(rule, message)] = found(checked("Grid-v0", "1", "add")).items()
    assert rule == "every-step-pays"
    assert "so lingering pays" in message


@pytest.mark.parametrize(
    ("env_id", "formula", "mode", "weight"),
    [
        ("Grid-v0", NEAR, "potential", 1.0),
        ("Grid-v0", "env_reward", "add", 1.0),
        ("Grid-v0", "-1", "add", 0.01),  # less than what a goal pays
        ("FrozenLake-v1", "-1", "add", 0.01),
        ("CartPole-v1", "1 - abs(angle)", "replace", 1.0),  # to last is the goal
        ("MountainCar-v0", "-1", "replace", 1.0),  # as the environment itself
        ("Acrobot-v1", "-1", "add", 1.0),
        ("Pendulum-v1", "-abs(spin)", "add", 1.0),  # all episodes have one length
    ],
)
def test_innocent_rewards(env_id: str, formula: str, mode: str, weight: float) -> None:
    assert found(checked(env_id, formula, mode, weight)) == {}


def test_costs_in_an_environment_with_holes() -> None:
    assert "every-step-costs" in found(checked("FrozenLake-v1", "-1", "add"))


def test_bad_behaviors_advise_no_number_of_episodes() -> None:
    check = checked("Grid-v0", NEAR, "add")
    assert {f.rule for f in check.findings} & {"too-few-episodes"} == set()
