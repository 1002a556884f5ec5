"""The speed benchmarks run; their figures are not tested."""

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from warnings import catch_warnings

import pytest
from PIL import Image
from stable_baselines3 import PPO

from benchmarks.doc_tables import ROOT
from benchmarks.speed.__main__ import README, ROWS
from benchmarks.speed.cohorts import Point, draw
from benchmarks.speed.lockstep_clock import PARTS, REST, Stopwatches
from benchmarks.speed.measure import Command, Row, measure_in_turn
from benchmarks.speed.study import write_study
from benchmarks.speed.train_once import INLINE
from benchmarks.speed.venvs import peer_versions
from shaperun.runs import plan
from shaperun.training import envs
from shaperun.training.engines import lockstep


def run_benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.speed", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_quick_row_is_printed_and_not_published() -> None:
    before = README.read_bytes()
    done = run_benchmarks("--quick", "kernel")
    assert done.returncode == 0, done.stderr
    assert "kernel, 6 terms × 4,096" in done.stdout
    assert README.read_bytes() == before


def test_unknown_row_is_refused() -> None:
    done = run_benchmarks("kernle")
    assert done.returncode == 2
    assert "unknown row 'kernle'; choose from training, lockstep," in done.stderr


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_a_function(name: str) -> None:
    assert callable(resolve_name(f"benchmarks.speed.{ROWS[name]}"))


def test_row_compares_its_median_with_the_target() -> None:
    row = Row("time", [1.0, 4.0, 2.0], "{:.1f}", "s", at_most=2.0)
    assert row.cells() == ["time", "2.0 s", "1.0 – 4.0", "≤ 2.0 s", "yes", 3]
    assert Row("speed", [1.0], at_least=2.0).cells() == ["speed", "1.00 ×", "", "≥ 2.00 ×", "no", 1]


# The shortest training that a clock accepts.
SHORT = ("training.total_timesteps=128", "training.n_envs=2", "training.hyperparameters.n_steps=32")


# What the clocks change, each in a process of its own.
CHANGED: list[tuple[Any, str]] = [
    (plan, "MAX_COHORT_SIZE"),
    (plan, "MAX_COHORT_MINIBATCH"),
    (lockstep, "Cohort"),
    (lockstep.Cohort, "_evaluate"),
    (envs, "SequentialVectorEnv"),
    (envs.TrainingEnvs, "shape_rewards"),
    (PPO, "learn"),
    *(method for methods in PARTS.values() for method in methods),
]


def train_with_clock(
    folder: Path, command: Command, seeds: list[int], engine: str = "lockstep"
) -> Any:
    """Run a clock as `python -m` does, in this process, which has already imported everything."""
    study = write_study(folder, rollouts=1, seeds=seeds, engine=engine)
    changes = [word for change in SHORT for word in ("--set", change)]
    module, *arguments = map(str, [*command, "train", study, "--results", folder / "results"])
    polite = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, catch_warnings(action="ignore"):
        for owner, name in CHANGED:
            patch.setattr(owner, name, getattr(owner, name))  # which restores it afterwards
        patch.setattr(sys, "argv", [module, *arguments, *map(str, INLINE), *changes])
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            assert not end.code  # noqa: PT017
        finally:
            signal.signal(signal.SIGTERM, polite)
    return json.loads((folder / "timing.json").read_text())


def test_clock_splits_the_time_of_a_cohort(tmp_path: Path) -> None:
    clock: Command = ["benchmarks.speed.lockstep_clock", tmp_path / "timing.json", "parts"]
    timing = train_with_clock(tmp_path, clock, [0, 1, 2])
    assert timing["steps"] == 3 * 128
    assert set(timing["parts"]) == {*PARTS, REST}
    assert all(seconds > 0 for seconds in timing["parts"].values())
    assert abs(sum(timing["parts"].values()) - timing["seconds"]) < 1e-9
    assert 50 < timing["memory"] < 20_000


def test_clock_replays_a_cohort_on_the_bare_simulator(tmp_path: Path) -> None:
    clock: Command = ["benchmarks.speed.lockstep_clock", tmp_path / "timing.json", "replay"]
    timing = train_with_clock(tmp_path, clock, [0, 1])
    assert 0 < timing["bare_seconds"] < timing["seconds"]


@pytest.mark.parametrize("variant", ["timed", "bare"])
def test_clock_times_shaping(variant: str, tmp_path: Path) -> None:
    clock: Command = ["benchmarks.speed.ppo_clock", tmp_path / "timing.json"]
    stopwatch = tmp_path / "stopwatch.json"
    program: Command = ["benchmarks.speed.shaping", variant, stopwatch]
    timing = train_with_clock(tmp_path, [*clock, *program], [0], engine="sb3")
    assert timing["steps"] == 128
    seconds = json.loads(stopwatch.read_text())
    assert (0 < seconds < timing["seconds"]) if variant == "timed" else seconds == 0


def test_nested_calls_belong_to_the_outer_part() -> None:
    class Nested:
        def outer(self) -> str:
            return self.inner()

        def inner(self) -> str:
            return "done"

    stopwatches = Stopwatches()
    stopwatches.watch("outer", Nested, "outer")
    stopwatches.watch("inner", Nested, "inner")
    assert Nested().outer() == "done"
    assert set(stopwatches.seconds) == {"outer"}
    assert Nested().inner() == "done"
    assert set(stopwatches.seconds) == {"outer", "inner"}


def test_sides_are_measured_in_turn() -> None:
    calls: list[str] = []

    def side(name: str, number: int) -> float:
        calls.append(f"{name}{number}")
        return float(number)

    values = measure_in_turn({"a": lambda n: side("a", n), "b": lambda n: side("b", n)}, 2, "s")
    assert calls == ["a0", "b0", "a1", "b1"]
    assert values == {"a": [0.0, 1.0], "b": [0.0, 1.0]}


def test_figure_of_cohorts_is_drawn(tmp_path: Path) -> None:
    points = [
        Point(backend, runs, 1e6 / (30 + 30 / runs), {"environment": 30.0, "update": 30 / runs})
        for backend in ("gymnasium", "EnvPool")
        for runs in (1, 8)
    ]
    draw(points, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size[0] == 1200


def test_peers_have_versions() -> None:
    lines = [line.partition(" ") for line in peer_versions()]
    assert [name for name, _, _ in lines] == ["rl_zoo3", "sbx-rl", "jax"]
    assert all(version[0].isdigit() for _, _, version in lines)
