"""A short version of `make envpool`: real differences are detected, and only those."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats

from benchmarks.envpool.__main__ import (
    COPIES,
    PAGE,
    compare_all,
    compare_controller,
    compare_terrains,
    play_controller,
)
from benchmarks.envpool.compare import (
    ComparedEpisodes,
    QuantityTest,
    adjust_p_values,
    difference_of_means,
    run_tests,
)
from benchmarks.envpool.play import Episodes, play
from benchmarks.envpool.report import format_report
from benchmarks.envpool.terrain import LANDERS, TerrainComparison, make_raised, resting_height
from shaperun.envs.base import Controller
from shaperun.envs.builtin import environments
from shaperun.envs.envpool_support import SUPPORTED, UNSUPPORTED
from shaperun.study.environment import EnvironmentConfig
from shaperun.training.envpool_vector_env import EnvPoolVectorEnv
from shaperun.training.vector_env import Array, SequentialVectorEnv, Step

GYMNASIUM, ENVPOOL = SequentialVectorEnv.from_config, EnvPoolVectorEnv.from_config


class Scripted:
    """Copies of an environment like CartPole whose episodes have fixed lengths."""

    action_space = spaces.Discrete(2)

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths, self._steps = np.array(lengths), np.zeros(len(lengths), int)

    def reset(self, seeds: Sequence[int]) -> Array:
        return np.zeros((len(seeds), 4), np.float32)

    def step(self, actions: Array) -> Step:
        self._steps += 1
        ended = self._steps == self._lengths
        last_obs = np.tile(self._steps[:, None], 4).astype(np.float32) if ended.any() else None
        self._steps[ended] = 0
        obs = np.zeros((len(actions), 4), np.float32)
        return Step(obs, actions * 1.0, ended, np.zeros_like(ended), last_obs)


class ActsOnce:
    """A policy whose first action is 1; all later ones are 0."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, _: Any) -> int:
        self.steps += 1
        return int(self.steps == 1)


def test_all_copies_play_equally_many_episodes_each_with_a_new_policy() -> None:
    controller = Controller("once", "", ActsOnce)
    envs = cast("SequentialVectorEnv", Scripted([2, 9]))
    episodes = play(envs, environments()["CartPole-v1"], controller, [0, 1], 3)
    assert sorted(episodes.lengths) == [2, 2, 2, 9, 9, 9]
    assert episodes.returns.tolist() == [1.0] * 6
    np.testing.assert_array_equal(episodes.last_obs[:, 0], episodes.lengths)
    assert len(episodes) == 6


def test_episodes_equal_those_of_a_plain_loop() -> None:
    episodes = play_controller(GYMNASIUM, "LunarLanderContinuous-v3", "land", 5, 2)
    policy = environments()["LunarLanderContinuous-v3"].controllers["land"]
    env = gym.make("LunarLanderContinuous-v3")
    expected = []
    for seed in (5, 6):
        act, total, steps, done = policy.make(), 0.0, 0, False
        obs, _ = env.reset(seed=seed)
        while not done:
            obs, reward, terminated, truncated, _ = env.step(act(obs))
            total, steps, done = total + float(reward), steps + 1, terminated or truncated
        expected.append((steps, total, *obs))
    played = sorted(zip(episodes.lengths, episodes.returns, *episodes.last_obs.T, strict=True))
    np.testing.assert_array_equal(played, sorted(expected))
    assert set(episodes.outcomes) == {"landed"}


def test_episodes_are_divided_among_the_copies() -> None:
    assert len(play_controller(GYMNASIUM, "CartPole-v1", "fall", 0, 7)) == 7
    assert len(play_controller(ENVPOOL, "CartPole-v1", "fall", 0, COPIES + 1)) == 2 * COPIES


def test_faster_rod_of_pendulum_is_detected() -> None:
    row = compare_controller("Pendulum-v1", "spin", 0, 200)
    assert {result.quantity for result in row.tests} == {"return"}  # length, outcome are constant
    assert min(result.p for result in row.tests) < 0.001
    slow = compare_controller("Pendulum-v1", "hang", 0, 200)  # below the speed limit
    assert min(result.p for result in slow.tests) > 0.05


def test_other_gravity_is_detected() -> None:
    environment = environments()["LunarLander-v3"]
    sides: list[Episodes] = []
    for gravity, first in ((-10.0, 0), (-5.0, 50)):
        config = EnvironmentConfig(id="LunarLander-v3", options={"gravity": gravity})
        with closing(GYMNASIUM(config, 50)) as envs:
            crash = environment.controllers["crash"]
            sides.append(play(envs, environment, crash, range(first, first + 50), 1))
    heavy, light = sides
    p = [result.p for result in run_tests(heavy, light, make_rng()) if result.quantity == "length"]
    assert max(p) < 0.001


@pytest.mark.parametrize("env_id", LANDERS)
def test_terrain_is_one_percent_higher(env_id: str) -> None:
    ours, raised, theirs = (
        resting_height(play_controller(make_envs, env_id, "land", 0, 10))
        for make_envs in (GYMNASIUM, make_raised, ENVPOOL)
    )
    assert raised - ours == pytest.approx(0.005, abs=0.0005)
    assert raised == pytest.approx(theirs, abs=0.0005)


def test_rounding_is_not_a_difference() -> None:
    """In single precision a reward of −0.1 is another number, in every step of every episode."""
    row = compare_controller("MountainCarContinuous-v0", "strain", 0, 2)
    assert set(row.gymnasium.returns) != set(row.envpool.returns)
    assert not row.tests


def test_tests_keep_their_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.envpool.compare.RESAMPLES", 999)
    pairs = [(draw_episodes(seed), draw_episodes(-seed)) for seed in range(1, 301)]
    p = np.array([[result.p for result in run_tests(a, b, make_rng())] for a, b in pairs])
    assert p.shape == (300, 5)
    assert ((p <= 0.05).mean(axis=0) < 0.05 + 3 * 0.0126).all()
    assert (p <= 0.05).any(axis=0).all()


def test_p_of_rare_outcomes_equals_that_of_fisher() -> None:
    a = draw_episodes(1, outcomes=["landed"] * 95 + ["crashed"] * 5)
    b = draw_episodes(2, outcomes=["landed"] * 100)
    (p,) = [result.p for result in run_tests(a, b, make_rng()) if result.quantity == "outcome"]
    assert p == pytest.approx(stats.fisher_exact([[95, 5], [100, 0]]).pvalue, abs=0.003)


def test_holm_adjusts_over_all_rows() -> None:
    rows = [make_row("land", 0.01, 0.5), make_row("crash"), make_row("hover", 0.04)]
    assert [list(map(float, p)) for p in adjust_p_values(rows)] == [
        [pytest.approx(0.03), pytest.approx(0.5)],
        [],
        [pytest.approx(0.08)],
    ]


def test_interval_of_a_difference() -> None:
    a, b = np.array([1.0, 3.0]), np.array([2.0, 6.0])
    assert difference_of_means(a, b) == pytest.approx((2, 2 - 1.96 * 5**0.5, 2 + 1.96 * 5**0.5))
    assert difference_of_means(a * 0, b * 0) == (0, 0, 0)


def test_report_has_all_tables() -> None:
    row = make_row("land", 0.01, 0.5)
    sides = (row.gymnasium, row.gymnasium, row.envpool)
    terrain = TerrainComparison(row.env_id, sides)
    text = format_report([row, make_row("crash")], [terrain])
    assert text.startswith("60 episodes per side and row, 2 tests.")
    assert re.search(r"^\| LunarLander-v3 \| land \| .* \| \*\*0\.02\*\* \|", text, re.MULTILINE)
    assert re.search(r"^\| LunarLander-v3 \| crash \| .* \| – \|$", text, re.MULTILINE)
    assert "| LunarLander-v3 | land | return | a test | 0.01 | **0.02** |" in text
    assert "| LunarLander-v3 | 0.2000 | 0.2000 | 0.2000 |" in text  # the terrain


def test_page_has_every_controller_and_only_the_differences_it_explains() -> None:
    text = PAGE.read_text(encoding="utf-8")
    block = text.split("<!-- envpool: begin -->")[1].split("<!-- envpool: end -->")[0]
    table = block.split("\n\n")[1]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == list_controllers()
    significant = [(row[0], row[1]) for row in rows if "**" in " ".join(row)]
    assert significant == [("LunarLanderContinuous-v3", "land"), ("Pendulum-v1", "spin")]


def test_all_controllers_play(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def pretend(env_id: str, controller: str, first_seed: int, episodes: int) -> ComparedEpisodes:
        seeds.append(first_seed)
        return make_row(controller, 0.5)

    monkeypatch.setattr("benchmarks.envpool.__main__.compare_controller", pretend)
    assert len(list(compare_all(1_000))) == len(list_controllers())
    assert np.diff(seeds).min() >= 2 * COPIES  # no two rows share episodes


def test_landings_are_played_on_the_other_terrain_too() -> None:
    rows = [make_row("hover", 0.5), make_row("land", 0.5)]
    (terrain,) = compare_terrains(rows, 2)
    ours, raised, theirs = terrain.sides
    assert (ours, theirs) == (rows[1].gymnasium, rows[1].envpool)
    assert len(raised) == 2


def list_controllers() -> list[tuple[str, str]]:
    ids = (*SUPPORTED, *UNSUPPORTED)
    return [(env_id, name) for env_id in ids for name in environments()[env_id].controllers]


def make_row(controller: str, *p: float) -> ComparedEpisodes:
    quantities = ("return", "length", "outcome")
    tests = tuple(QuantityTest(name, "a test", x) for name, x in zip(quantities, p, strict=False))
    outcomes = ["landed"] * 50 + ["crashed"] * 10
    ours, theirs = (draw_episodes(seed, outcomes=outcomes) for seed in (0, 1))
    return ComparedEpisodes("LunarLander-v3", controller, ours, theirs, tests)


def draw_episodes(seed: int, outcomes: Sequence[str] = ()) -> Episodes:
    random = np.random.default_rng([abs(seed), seed > 0])
    drawn = np.array(outcomes or random.choice(["landed", "crashed"], 60, p=[0.9, 0.1]))
    n = len(drawn)
    last_obs = np.tile([0.1, 0.2], (n, 1))
    return Episodes(random.normal(size=n), random.integers(200, 300, n), drawn, last_obs)


def make_rng() -> np.random.Generator:
    return np.random.default_rng(0)
