"""Commands in general: interrupts, help, --debug, and output that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shaperun.cli.main import main
from tests.conftest import Shaperun


def test_ctrl_c_prints_how_to_restart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("shaperun.runs.open_study.find_latest_study", interrupt)
    monkeypatch.setattr(sys, "argv", ["shaperun", "report", "--static"])
    with pytest.raises(SystemExit, match="130"):
        main()
    errors = capsys.readouterr().err
    assert errors == "interrupted; to start again: shaperun report --static\n"


def test_every_command_has_help(shaperun: Shaperun) -> None:
    everything = shaperun("--help").stdout
    for verb in ("init", "train", "sweep", "status", "compare", "record-gif", "terms", "schema"):
        assert verb in everything
        done = shaperun(verb, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
        assert "bool" not in done.stdout.lower()
    assert "bool" not in everything.lower()


def test_debug_shows_the_traceback(shaperun: Shaperun) -> None:
    done = shaperun("train", "nothing.yaml", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


TERMS = [sys.executable, "-m", "shaperun", "terms"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_device_is_the_users_problem() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(TERMS, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("cannot write the output: ")


def test_reader_of_a_pipe_may_leave() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(TERMS, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
