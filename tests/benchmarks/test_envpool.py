"""The shorter version of `make physics`: what differs is found, and what is alike passes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats

from benchmarks.envpool import report
from benchmarks.envpool.__main__ import (
    COPIES,
    compared,
    envpools,
    every,
    gymnasiums,
    on_their_grounds,
    played,
)
from benchmarks.envpool.compare import Compared, Result, adjusted, difference, examine
from benchmarks.envpool.play import Episodes, play
from benchmarks.envpool.terrain import LANDERS, Grounds, height, raised
from shaperun.envs.base import Controller
from shaperun.envs.builtin import environments
from shaperun.envs.envpool_support import SUPPORTED, UNSUPPORTED
from shaperun.study.environment import EnvironmentConfig
from shaperun.training.vector_env import Array, SequentialVectorEnv, Step


class Scripted:
    """Copies of something like a CartPole whose episodes last as long as they are told to."""

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


class Counting:
    """A policy that is 1 with the first step of its life only."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, _: Any) -> int:
        self.steps += 1
        return int(self.steps == 1)


def test_quick_episodes_are_not_too_many_and_everyone_has_a_policy_of_its_own() -> None:
    controller = Controller("count", "", Counting)
    found = play(Scripted([2, 9]), environments()["CartPole-v1"], controller, [0, 1], 3)
    assert sorted(found.lengths) == [2, 2, 2, 9, 9, 9]
    assert found.returns.tolist() == [1.0] * 6
    np.testing.assert_array_equal(found.last_obs[:, 0], found.lengths)
    assert len(found) == 6


def test_episodes_are_what_a_plain_loop_makes_of_them() -> None:
    found = played(gymnasiums, "LunarLanderContinuous-v3", "land", 5, 2)
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
    got = sorted(zip(found.lengths, found.returns, *found.last_obs.T, strict=True))
    np.testing.assert_array_equal(got, sorted(expected))
    assert set(found.outcomes) == {"landed"}


def test_episodes_are_divided_among_the_copies() -> None:
    assert len(played(gymnasiums, "CartPole-v1", "fall", 0, 7)) == 7
    assert len(played(envpools, "CartPole-v1", "fall", 0, COPIES + 1)) == 2 * COPIES


def test_a_rod_that_turns_further_than_it_may_is_found() -> None:
    row = compared("Pendulum-v1", "spin", 0, 200)
    assert {one.quantity for one in row.results} == {"return"}  # its length and outcome are one
    assert min(one.p for one in row.results) < 0.001
    braked = compared("Pendulum-v1", "hang", 0, 200)  # below the speed limit it is the same rod
    assert min(one.p for one in braked.results) > 0.05


def test_another_gravity_is_found() -> None:
    environment = environments()["LunarLander-v3"]
    sides: list[Episodes] = []
    for gravity, first in ((-10.0, 0), (-5.0, 50)):
        config = EnvironmentConfig(id="LunarLander-v3", options={"gravity": gravity})
        with closing(SequentialVectorEnv.from_config(config, 50)) as copies:
            crash = environment.controllers["crash"]
            sides.append(play(copies, environment, crash, range(first, first + 50), 1))
    heavy, light = sides
    found = [one.p for one in examine(heavy, light, rng()) if one.quantity == "length"]
    assert max(found) < 0.001


@pytest.mark.parametrize("env_id", LANDERS)
def test_the_ground_is_one_percent_higher(env_id: str) -> None:
    mine, moved, theirs = (
        height(played(make, env_id, "land", 0, 10)) for make in (gymnasiums, raised, envpools)
    )
    assert moved - mine == pytest.approx(0.005, abs=0.0005)
    assert moved == pytest.approx(theirs, abs=0.0005)


def test_rounding_is_no_difference() -> None:
    """A reward of −0.1 is another number in single precision, in every step of every episode."""
    row = compared("MountainCarContinuous-v0", "strain", 0, 2)
    assert set(row.gymnasium.returns) != set(row.envpool.returns)
    assert not row.results


def test_what_is_alike_is_found_to_differ_as_rarely_as_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.envpool.compare.DRAWS", 999)
    p = np.array(
        [[one.p for one in examine(drawn(seed), drawn(-seed), rng())] for seed in range(1, 301)]
    )
    assert p.shape == (300, 5)
    assert ((p <= 0.05).mean(axis=0) < 0.05 + 3 * 0.0126).all()
    assert (p <= 0.05).any(axis=0).all()


def test_rare_outcomes_are_as_improbable_as_fisher_says() -> None:
    a = drawn(1, outcomes=["landed"] * 95 + ["crashed"] * 5)
    b = drawn(2, outcomes=["landed"] * 100)
    (found,) = [one.p for one in examine(a, b, rng()) if one.quantity == "outcome"]
    assert found == pytest.approx(stats.fisher_exact([[95, 5], [100, 0]]).pvalue, abs=0.003)


def test_holm_is_over_all_rows() -> None:
    rows = [row("land", 0.01, 0.5), row("crash"), row("hover", 0.04)]
    assert [list(map(float, ps)) for ps in adjusted(rows)] == [
        [pytest.approx(0.03), pytest.approx(0.5)],
        [],
        [pytest.approx(0.08)],
    ]


def test_the_interval_of_a_difference() -> None:
    a, b = np.array([1.0, 3.0]), np.array([2.0, 6.0])
    assert difference(a, b) == pytest.approx((2, 2 - 1.96 * 5**0.5, 2 + 1.96 * 5**0.5))
    assert difference(a * 0, b * 0) == (0, 0, 0)


def test_tables_are_written_into_the_page(tmp_path: Path) -> None:
    copy = tmp_path / "envpool.md"
    text = report.PAGE.read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    one = row("land", 0.01, 0.5)
    ground = Grounds(one.env_id, one.gymnasium, one.gymnasium, one.envpool)
    report.keep([one, row("crash")], [ground], copy)
    new = copy.read_text(encoding="utf-8")
    before, _, after = outside(text)
    assert new.startswith(f"{before}{report.BEGIN}\n60 episodes a side and row, 2 tests.")
    assert new.endswith(f"{report.END}{after}")
    table = outside(new)[1]
    assert re.search(r"^\| LunarLander-v3 \| land \| .* \| \*\*0\.02\*\* \|", table, re.MULTILINE)
    assert re.search(r"^\| LunarLander-v3 \| crash \| .* \| – \|$", table, re.MULTILINE)
    assert "| LunarLander-v3 | land | return | a test | 0.01 | **0.02** |" in table
    assert "| LunarLander-v3 | 0.2000 | 0.2000 | 0.2000 |" in table  # the ground
    assert list(tmp_path.iterdir()) == [copy]


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    copy = tmp_path / "envpool.md"
    copy.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="physics: begin"):
        report.keep([row("land", 0.01)], [], copy)
    assert copy.read_text(encoding="utf-8") == "nothing\n"


def test_the_page_has_every_controller_and_finds_no_more_than_it_says() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    table = outside(text)[1].split("\n\n")[1]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    known = [
        (id_, name)
        for id_ in (*SUPPORTED, *UNSUPPORTED)
        for name in environments()[id_].controllers
    ]
    assert [(line[0], line[1]) for line in lines] == known
    found = [(line[0], line[1]) for line in lines if "**" in " ".join(line)]
    assert found == [("LunarLanderContinuous-v3", "land"), ("Pendulum-v1", "spin")]


def test_all_controllers_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def pretend(env_id: str, controller: str, first: int, episodes: int) -> Compared:
        seeds.append(first)
        return row(controller, 0.5)

    monkeypatch.setattr("benchmarks.envpool.__main__.compared", pretend)
    assert len(list(every(1_000))) == sum(
        len(environments()[env_id].controllers) for env_id in (*SUPPORTED, *UNSUPPORTED)
    )
    assert np.diff(seeds).min() >= 2 * COPIES  # no two rows are the same episodes


def test_landings_are_played_on_the_other_ground_too() -> None:
    rows = [row("hover", 0.5), row("land", 0.5)]
    (found,) = on_their_grounds(rows, 2)
    assert (found.gymnasium, found.envpool) == (rows[1].gymnasium, rows[1].envpool)
    assert len(found.raised) == 2


def row(controller: str, *p: float) -> Compared:
    quantities = ("return", "length", "outcome")
    found = tuple(Result(quantity, "a test", x) for quantity, x in zip(quantities, p, strict=False))
    outcomes = ["landed"] * 50 + ["crashed"] * 10
    mine, theirs = (drawn(seed, outcomes=outcomes) for seed in (0, 1))
    return Compared("LunarLander-v3", controller, mine, theirs, found)


def drawn(seed: int, outcomes: Sequence[str] = ()) -> Episodes:
    random = np.random.default_rng([abs(seed), seed > 0])
    ended = np.array(outcomes or random.choice(["landed", "crashed"], 60, p=[0.9, 0.1]))
    n = len(ended)
    last_obs = np.tile([0.1, 0.2], (n, 1))
    return Episodes(random.normal(size=n), random.integers(200, 300, n), ended, last_obs)


def outside(text: str) -> tuple[str, str, str]:
    """What stands before the marks, between them and after them."""
    before, rest = text.split(report.BEGIN)
    between, after = rest.split(report.END)
    return before, between, after


def rng() -> np.random.Generator:
    return np.random.default_rng(0)
