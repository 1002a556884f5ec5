"""Commands that are printed, and options that several commands share."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import pytest

from shaperun.cli import options
from shaperun.cli.options import StudyOptions
from tests.conftest import Shaperun, call_shaperun

SHORT = ("--set", "training.total_timesteps=200", "--set", "seeds=1")


def printed_commands(text: str) -> list[list[str]]:
    """Return the arguments of every command in an output."""
    lines = [line.partition("shaperun ") for line in text.splitlines()]
    return [shlex.split(arguments) for _, found, arguments in lines if found]


def test_a_command_repeats_the_options() -> None:
    given = StudyOptions(Path("my results"), ["seeds=2", "arms.x={scale: 1}"], allow_code=True)
    assert shlex.split(given.command("check", "-a b.yaml")) == [
        *("shaperun", "check", "./-a b.yaml", "--results", "my results"),
        *("--set", "seeds=2", "--set", "arms.x={scale: 1}", "--allow-code"),
    ]
    assert StudyOptions().command("compare", "tiny") == "shaperun compare tiny"


def test_commands_of_train_run_as_printed(tiny_file: Path, shaperun: Shaperun) -> None:
    tiny_file.rename(tiny_file.parent / "my tiny.yaml")
    falls = "arms.falls={mode: replace, weights: {fell: 1}}"
    done = shaperun("train", "my tiny.yaml", "--results", "my results", *SHORT, "--set", falls)
    assert done.returncode == 0, done.stderr
    commands = printed_commands(done.stderr)
    assert [arguments[0] for arguments in commands] == ["check", "compare"]
    for arguments in commands:
        again = shaperun(*arguments)
        assert again.returncode == 0, again.stderr
        assert "falls" in again.stdout


def test_commands_of_a_sweep_run_as_printed(tiny_file: Path, shaperun: Shaperun) -> None:
    sweep = "sweep={base: guided, method: grid, weights: {upright: [0, 1]}, confirm: 1}"
    given = ("tiny.yaml", "--results", "r", *SHORT, "--set", sweep)
    started = printed_commands(shaperun("status", *given).stdout)
    assert [arguments[0] for arguments in started] == ["sweep"]
    done = shaperun(*started[0])
    assert done.returncode == 0, done.stderr
    commands = printed_commands(done.stdout)
    assert [arguments[0] for arguments in commands] == ["report", "train"]
    for arguments in commands:
        again = shaperun(*arguments)
        assert again.returncode == 0, again.stderr
    assert (tiny_file.parent / "r" / "tiny-best" / "study.yaml").exists()


def test_a_resumed_command_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["shaperun", "train", "a b.yaml", "--fresh", "--seeds", "1"])
    assert options.command_line(without="--fresh") == "shaperun train 'a b.yaml' --seeds 1"


def test_the_latest_study_is_named(trained: Path) -> None:
    for command in (["status", "--json"], ["compare", "--json"]):
        done = call_shaperun(*command, cwd=trained)
        assert done.stderr == "Study: tiny, the most recently trained in results\n"
        assert done.stdout.startswith("{")
    assert call_shaperun("status", "tiny", cwd=trained).stderr == ""


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["n", "y"])
def test_fresh_asks_on_a_terminal(
    answer: str, tiny_file: Path, shaperun: Shaperun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shaperun("train", "tiny.yaml", *SHORT).returncode == 0
    policy = tiny_file.parent / "results/tiny/runs/default/0/policy.zip"
    before = policy.stat().st_mtime_ns
    monkeypatch.setattr("shaperun.cli.train.is_interactive", lambda: True)
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    done = shaperun("train", "tiny.yaml", *SHORT, "--fresh")
    assert "--fresh deletes 2 runs in results/tiny: 400 steps, 0:0" in done.stderr
    assert done.returncode == (0 if answer == "y" else 2)
    assert (policy.stat().st_mtime_ns == before) == (answer == "n")


def test_fresh_says_what_it_deletes_without_a_terminal(tiny_file: Path, shaperun: Shaperun) -> None:
    for arguments in ([], ["--yes"]):
        first = shaperun("train", "tiny.yaml", *SHORT, "--fresh", "--arms", "default", *arguments)
        assert first.returncode == 0, first.stderr
    assert first.stderr.startswith("--fresh deletes 1 run in results/tiny: 200 steps, 0:0")
