"""Invalid input, and folders that cannot be written: one clear message, and no change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.doc_tables import ROOT
from tests.conftest import SEARCHED, TINY, Shaperun, call_shaperun
from tests.helpers.forgery import tree

BAD = {
    "no such file": (["train", "nothing.yaml"], "no such file"),
    "empty file": (["train", "empty.yaml"], "empty.yaml:1:1: found nothing, expected a study"),
    "binary file": (["train", "binary.yaml"], "binary.yaml:"),
    "deep file": (["train", "deep.yaml"], "deep.yaml:1:"),
    "cyclic file": (["train", "cyclic.yaml"], "cyclic.yaml:1:"),
    "unknown arm": (
        ["train", "tiny.yaml", "--arms", "x"],
        "unknown arm x; choose from default",
    ),
    "unknown seed": (["train", "tiny.yaml", "--seeds", "7"], "unknown seed 7; choose from 0, 1"),
    "seeds": (["train", "tiny.yaml", "--seeds", "a"], "expected integers"),
    "set": (["train", "tiny.yaml", "--set", "arms"], "expected KEY=VALUE"),
    "set value": (["train", "tiny.yaml", "--set", "seeds=x"], "--set seeds=x: seeds: found 'x'"),
    "set deep": (["train", "tiny.yaml", "--set", "study.x=1"], "study is not a mapping"),
    "executor": (["train", "tiny.yaml", "--executor", "x"], "unknown executor x"),
    "option": (["train", "tiny.yaml", "--worker", "2"], "No such option"),
    "option of the environment": (
        ["train", "tiny.yaml", "--set", "environment.options={gravity: 3}"],
        "CartPole-v1 cannot be made with them: CartPoleEnv.__init__() got an unexpected keyword",
    ),
    "option of the evaluation": (
        ["train", "tiny.yaml", "--set", "evaluation.options={gravity: 3}"],
        "evaluation.options: CartPole-v1 cannot be made with them: CartPoleEnv.__init__() got an",
    ),
    "actions that the terms cannot read": (
        ["train", "lander.yaml"],
        "LunarLander-v3 cannot be made with them: with these options an action is 2 numbers",
    ),
    "no arm": (["train", "tiny.yaml", "--arms", ","], "--arms ,: expected names"),
    "an empty arm": (["check", "tiny.yaml", "--arms", "default", "--arms", ""], "--arms default,:"),
    "an empty seed": (["train", "tiny.yaml", "--seeds", "0,"], "--seeds 0,: expected names"),
    "no folder": (["train", "tiny.yaml", "--results", ""], "expected a folder"),
    "no study": (["train", ""], "no such file or study: ''"),
    "no name to compare": (["compare", ""], "no such file or study: ''"),
    "no difference": (["check", "tiny.yaml", "--difference", "inf"], "expected a finite number"),
    "workers": (["train", "tiny.yaml", "--workers", "x"], "found x, expected an integer of at"),
    "format": (["record-gif", "tiny.yaml", "--format", "mov"], "found mov, expected one of gif"),
    "rule": (["record-gif", "tiny.yaml", "--pick", "x"], "expected one of best, median, worst"),
    "a new folder": (["init", "new/"], "new/ names no file"),
    "no new file": (["init", ""], "'' names no file"),
    "no environment": (["terms", ""], "unknown environment"),
    "twice": (["compare", "tiny.yaml", "tiny.yaml"], "tiny.yaml is given twice"),
    "one name": (
        ["compare", "tiny.yaml", "copy.yaml"],
        "tiny.yaml and copy.yaml are both called tiny",
    ),
    "unknown trial": (
        ["sweep", "searched.yaml", "--arms", "nope"],
        "unknown arm nope; there is none yet",
    ),
    "untrained": (["compare", "tiny.yaml"], "no arm of tiny has been trained"),
    "untrained gif": (["record-gif", "tiny.yaml"], "no runs in results/tiny"),
    "nothing trained": (["compare"], "nothing has been trained into results yet"),
    "foreign folder": (
        ["train", "tiny.yaml", "--results", "foreign"],
        "is not a study of shaperun",
    ),
    "a file for a folder": (["train", "tiny.yaml", "--results", "empty.yaml"], "empty.yaml"),
    "unknown environment": (["terms", "Lunar-v1"], "unknown environment Lunar-v1"),
    "existing file": (["init", "tiny.yaml"], "already exists"),
}


@pytest.fixture
def bad_folder(tiny_file: Path) -> Path:
    folder = tiny_file.parent
    (folder / "empty.yaml").write_text("")
    (folder / "copy.yaml").write_text(tiny_file.read_text())
    (folder / "searched.yaml").write_text(yaml.safe_dump(SEARCHED))
    lander = TINY | {"environment": {"id": "LunarLander-v3", "options": {"continuous": True}}}
    lander["arms"] = {"default": {}}
    (folder / "lander.yaml").write_text(yaml.safe_dump(lander))
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "deep.yaml").write_text("[" * 30_000)
    (folder / "cyclic.yaml").write_text("&a [*a]")
    (folder / "foreign" / "tiny").mkdir(parents=True)
    (folder / "foreign" / "tiny" / "thesis.tex").write_text("x")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_invalid_input_gets_one_clear_message(name: str, bad_folder: Path) -> None:
    arguments, message = BAD[name]
    before = tree(bad_folder)
    done = call_shaperun(*arguments, cwd=bad_folder)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert tree(bad_folder) == before


# Root may write everywhere, unless it gives up this right.
UNPRIVILEGED = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override"]


# Command -> the folder that it cannot write.
WRITING = {
    "train tiny.yaml": "results/tiny/study.yaml",
    "compare tiny --json": "results/tiny/compare",
    "report tiny": "results/tiny",
    "record-gif tiny": "results/tiny",
    "check tiny.yaml": "results/tiny",
}


def call_all(folder: str, *commands: str) -> None:
    """Print the status and outputs of commands, one after the other in this process."""
    done = [call_shaperun(*command.split(), cwd=Path(folder)) for command in commands]
    print(json.dumps([[one.returncode, one.stdout, one.stderr] for one in done]))


@pytest.mark.skipif(
    bool(UNPRIVILEGED) and shutil.which("setpriv") is None, reason="needs setpriv of util-linux"
)
def test_a_read_only_folder_gets_one_clear_message_at_the_start(copy: Path) -> None:
    study = copy / "results" / "tiny"
    (study / "compare").mkdir(exist_ok=True)
    folders = [study, study / "compare"]
    for path in folders:
        path.chmod(0o555)
    before = tree(copy)
    code = f"from {__name__} import call_all; import sys; call_all(*sys.argv[1:])"
    command = [*UNPRIVILEGED, sys.executable, "-c", code, str(copy), *WRITING]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for path in folders:
        path.chmod(0o755)
    for folder, done in zip(WRITING.values(), json.loads(child.stdout), strict=True):
        status, output, errors = done
        assert (status, output) == (2, ""), errors
        assert folder in errors
        assert "check the write permissions" in errors
        assert errors.count("\n") == 1
    assert tree(copy) == before


@pytest.mark.parametrize("command", ["check", "preview", "ask", "train"])
def test_a_missing_package_of_an_environment_is_named(
    command: str, tmp_path: Path, shaperun: Shaperun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of `sys.modules` that is None stands for a package that is not installed."""
    monkeypatch.setitem(sys.modules, "mujoco", None)
    study = TINY | {"environment": {"id": "Hopper-v5"}, "arms": {"default": {}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    assert shaperun("train", "study.yaml", "--dry-run").returncode == 0
    done = shaperun(command, "study.yaml")
    assert done.returncode == 2
    message = 'Hopper-v5 needs mujoco, which is not installed: pip install "shaperun[mujoco]"'
    assert done.stderr.splitlines()[-1].strip() == message
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]
