"""The benchmarks work; their figures are another matter."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.speed.cohorts_figure import Point, draw
from benchmarks.speed.measure import Command, in_turn
from benchmarks.speed.study import write_study
from benchmarks.speed.time_breakdown import PARTS, REST, Stopwatches
from benchmarks.speed.train_once import INLINE
from benchmarks.speed.venvs import versions

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "benchmarks" / "README.md"


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.speed", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_quick_row_is_shown_and_not_kept() -> None:
    before = README.read_bytes()
    done = benchmarks("--quick", "kernel")
    assert done.returncode == 0, done.stderr
    assert "kernel, 6 terms × 4,096" in done.stdout
    assert README.read_bytes() == before


def test_an_unknown_row_is_refused_by_name() -> None:
    done = benchmarks("kernle")
    assert done.returncode == 2
    assert "there is no row kernle; there are training, lockstep," in done.stderr


# As short as a clock can be tried with.
SHORT = ("training.total_timesteps=128", "training.n_envs=2", "training.hyperparameters.n_steps=32")


def clocked(clock: str, folder: Path, seeds: list[int]) -> dict[str, Any]:
    """What a clock notes of a short training in lockstep."""
    out, study = folder / "noted.json", write_study(folder, rollouts=1, seeds=seeds)
    changes = [word for change in SHORT for word in ("--set", change)]
    command: Command = [
        sys.executable,
        "-m",
        f"benchmarks.speed.{clock}",
        out,
        "train",
        study,
        *changes,
    ]
    options: Command = ["--results", folder / "results", *INLINE]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    noted: dict[str, Any] = json.loads(out.read_text())
    return noted


def test_a_cohort_is_clocked_by_what_it_spends_its_time_in(tmp_path: Path) -> None:
    noted = clocked("time_breakdown", tmp_path, seeds=[0, 1, 2])
    assert noted["steps"] == 3 * 128
    assert set(noted["parts"]) == {*PARTS, REST}
    assert all(seconds > 0 for seconds in noted["parts"].values())
    assert abs(sum(noted["parts"].values()) - noted["seconds"]) < 1e-9
    assert 50 < noted["memory"] < 2_000


def test_what_a_cohort_did_is_done_again_by_the_bare_simulator(tmp_path: Path) -> None:
    noted = clocked("replay_actions", tmp_path, seeds=[0, 1])
    assert 0 < noted["bare_seconds"] < noted["seconds"]


def test_a_stopwatch_gives_what_is_called_within_a_part_to_that_part() -> None:
    class Nested:
        def outer(self) -> str:
            return self.inner()

        def inner(self) -> str:
            return "done"

    watches = Stopwatches()
    watches.watch("outer", Nested, "outer")
    watches.watch("inner", Nested, "inner")
    assert Nested().outer() == "done"
    assert set(watches.spent) == {"outer"}
    assert Nested().inner() == "done"
    assert set(watches.spent) == {"outer", "inner"}


def test_sides_are_measured_in_turn() -> None:
    asked: list[str] = []

    def side(name: str, number: int) -> float:
        asked.append(f"{name}{number}")
        return float(number)

    found = in_turn({"a": lambda n: side("a", n), "b": lambda n: side("b", n)}, 2, "s")
    assert asked == ["a0", "b0", "a1", "b1"]
    assert found == {"a": [0.0, 1.0], "b": [0.0, 1.0]}


def test_the_figure_of_cohorts_is_drawn(tmp_path: Path) -> None:
    points = [
        Point(backend, runs, 1e6 / (30 + 30 / runs), {"environment": 30.0, "update": 30 / runs})
        for backend in ("gymnasium", "EnvPool")
        for runs in (1, 8)
    ]
    draw(points, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size[0] == 1200


def test_peers_are_named_with_their_versions() -> None:
    named = [line.partition(" ") for line in versions()]
    assert [name for name, _, _ in named] == ["rl_zoo3", "sbx-rl", "jax"]
    assert all(version[0].isdigit() for _, _, version in named)
