"""`check` and `preview` on the command line: output, files, and what they leave unchanged."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from shaperun.check.check import check_study
from shaperun.cli import check, check_table
from shaperun.cli.console import SafeConsole
from shaperun.runs.open_study import open_study
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import parse_study
from tests.conftest import TINY, Shaperun, call_shaperun

FALLS = {"mode": "replace", "weights": {"fell": 1}}


def write(folder: Path, **arms: dict[str, Any]) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | {"arms": {"default": {}, **arms}}, sort_keys=False))
    return path


def test_check_prints_returns_and_writes_figures(tmp_path: Path, shaperun: Shaperun) -> None:
    write(tmp_path, falls=FALLS)
    done = shaperun("check", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    for text in (
        "balance",
        "do nothing",
        "▲ fall",
        "inverted-ranking",
        "expect it to learn to fall",
    ):
        assert text in done.stdout
    assert done.stdout.index("inverted-ranking") < done.stdout.index("Distances between rewards")
    names = {path.name for path in StudyFolder(tmp_path / "results" / "tiny").check.iterdir()}
    assert names == {
        f"{stem}.{kind}" for stem in ("rankings", "distances") for kind in ("png", "svg")
    }
    # A folder with only a check in it accepts training.
    assert shaperun("train", "tiny.yaml", "--seeds", "0", "--dry-run").returncode == 0
    short = ("--set", "training.total_timesteps=200", "--seeds", "0", "--arms", "default")
    assert shaperun("train", "tiny.yaml", *short).returncode == 0


def test_json_is_one_document_and_writes_nothing(tmp_path: Path, shaperun: Shaperun) -> None:
    file = write(tmp_path, falls=FALLS)
    done = shaperun("check", "tiny.yaml", "--json")
    document = json.loads(done.stdout)
    assert document["study"] == "tiny"
    assert document["errors"] == []
    assert {"inverted-ranking", "goal-lost"} <= {w["rule"] for w in document["warnings"]}
    assert document["rankings"]["falls"][0]["controller"] == "fall"
    assert list(tmp_path.iterdir()) == [file]


def test_strict_fails_on_findings(tmp_path: Path, shaperun: Shaperun) -> None:
    write(tmp_path, falls=FALLS)
    assert shaperun("check", "tiny.yaml", "--strict", "--json").returncode == 1
    write(tmp_path, guided=TINY["arms"]["guided"])  # type: ignore[index]
    enough = ("--set", "seeds=5", "--set", "training.total_timesteps=4000", "--difference", "100")
    fine = shaperun("check", "tiny.yaml", "--strict", *enough)
    assert fine.returncode == 0, fine.stdout
    assert "No findings." in fine.stdout
    assert "guided changes no ranking" in fine.stdout


def test_arms_can_be_selected(tmp_path: Path, shaperun: Shaperun) -> None:
    write(tmp_path, falls=FALLS)
    document = json.loads(shaperun("check", "tiny.yaml", "--json", "--arms", "falls").stdout)
    assert list(document["rankings"]) == ["falls"]
    assert shaperun("check", "tiny.yaml", "--arms", "flies").returncode == 2


def test_a_sweeps_arms_are_checked(tmp_path: Path, shaperun: Shaperun) -> None:
    write(tmp_path, guided=TINY["arms"]["guided"])  # type: ignore[index]
    sweep = "sweep={base: guided, method: grid, weights: {upright: [0, 1]}}"
    document = json.loads(shaperun("check", "tiny.yaml", "--json", "--set", sweep).stdout)
    assert list(document["rankings"]) == ["default", "guided", "upright=0", "upright=1"]


def test_a_searchs_corners_and_best_trials_are_checked(searched: Path) -> None:
    corners = [f"upright={u}_centred={c}" for u in (0, 10) for c in (0.1, 10)]
    for change, trials in (
        ("sweep.samples=9", 1),
        ("sweep.seed=1", 0),
    ):  # another seed is another search
        study, folder = open_study("searched", searched / "results", [change])
        found = check.check_arms(study, folder, [])
        arms = list(found.returns)
        assert arms[:6] == ["default", "guided", *corners]
        assert len(arms) == 6 + trials
        console = SafeConsole(stderr=False, quiet=False)
        with console.capture() as output:
            check._print_checked_weights(found, console)
        text = " ".join(output.get().split())
        assert "(upright, centred): checked the 4 corners of their ranges" in text
        assert ("and the best trials so far (upright=" in text) == bool(trials)
        assert set(found.returns) <= set(found.document()["rankings"])
    some = check.check_arms(study, folder, ["default"])
    with console.capture() as output:
        check._print_checked_weights(some, console)
    assert output.get() == ""


def test_the_spread_of_finished_runs_is_used(trained: Path) -> None:
    done = call_shaperun("check", "tiny.yaml", "--json", "--difference", "0.01", cwd=trained)
    messages = [w["message"] for w in json.loads(done.stdout)["warnings"]]
    assert any(
        "finished runs of one arm have a standard deviation" in message for message in messages
    )


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("-abs(angel)", "unknown name angel, expected one of"),
        ("().__class__", "an attribute (.) is not allowed in a formula"),
        ("1 / (x - x)", "the term own is inf"),
    ],
)
def test_an_error_is_reported_once(
    term: str, message: str, tmp_path: Path, shaperun: Shaperun
) -> None:
    own = {"mode": "add", "terms": {"own": term}, "weights": {"own": 1}}
    file = write(tmp_path, own=own)
    for command in (["check"], ["check", "--json"], ["preview"], ["train"]):
        done = shaperun(*command, "tiny.yaml")
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == [file]


def test_errors_are_in_the_json_document(tmp_path: Path, shaperun: Shaperun) -> None:
    write(tmp_path, own={"mode": "potential", "weights": {"push_right": 1}})
    done = shaperun("check", "tiny.yaml", "--json")
    assert done.returncode == 2
    [error] = json.loads(done.stdout)["errors"]
    assert "push_right depends on more than that" in error


def test_train_prints_headlines_and_continues(tmp_path: Path, shaperun: Shaperun) -> None:
    write(tmp_path, falls=FALLS)
    short = ("--set", "training.total_timesteps=200", "--seeds", "0")
    done = shaperun("train", "tiny.yaml", *short)
    assert done.returncode == 0, done.stderr
    assert "falls pays" in done.stderr
    assert "expect it to learn to fall" in done.stderr
    assert "2 of 2 runs finished" in done.stderr
    again = shaperun("train", "tiny.yaml", *short)
    assert "expect it to learn to fall" not in again.stderr  # all runs are done
    quiet = shaperun("train", "tiny.yaml", *short, "--fresh", "--quiet")
    assert quiet.stderr == ""


def test_preview_writes_a_page(tmp_path: Path, shaperun: Shaperun) -> None:
    write(tmp_path, falls=FALLS)
    done = shaperun("preview", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    page = StudyFolder(tmp_path / "results" / "tiny").preview
    assert done.stdout.strip() == str(page.relative_to(tmp_path))
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    # The only address is the SVG namespace, which is never requested.
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}
    assert '"falls"' in text


CODE = """
from pathlib import Path
import numpy as np
Path("sentinel").touch()
def tall(obs):
    return obs[:, 0]
"""


def test_code_needs_permission(tmp_path: Path, shaperun: Shaperun) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    own = {
        "mode": "potential",
        "terms": {"own": {"python": "mine:tall", "state_only": True}},
        "weights": {"own": 1},
    }
    write(tmp_path, own=own)
    short = ("--set", "training.total_timesteps=200", "--seeds", "0")
    for command in (("check",), ("preview",), ("train", *short), ("status",), ("compare",)):
        done = shaperun(*command, "tiny.yaml")
        assert done.returncode == 2
        assert "--allow-code" in done.stderr
        assert not (tmp_path / "sentinel").exists()
    done = shaperun("train", "tiny.yaml", *short, "--allow-code")
    assert done.returncode == 0, done.stderr
    assert "runs code that is not installed: mine:tall" in done.stderr
    assert (tmp_path / "sentinel").exists()
    record = json.loads(StudyFolder(tmp_path / "results/tiny").run("own", 0).config.read_text())
    assert list(record["code"]) == ["mine"]
    (tmp_path / "sentinel").unlink()
    assert shaperun("status", "tiny", "--allow-code").returncode == 0
    assert shaperun("compare", "tiny.yaml", *short[:2], "--allow-code").returncode == 0
    assert not (tmp_path / "sentinel").exists()  # reading results runs no code


def test_an_environment_without_built_in_terms(tmp_path: Path, shaperun: Shaperun) -> None:
    lake = {
        "evaluation": TINY["evaluation"],
        "training": {"total_timesteps": 400, "hyperparameters": {"n_steps": 50, "batch_size": 50}},
        "study": "lake",
        "environment": {"id": "FrozenLake-v1", "options": {"is_slippery": False}},
        "seeds": 1,
        "arms": {
            "default": {},
            "eager": {
                "mode": "potential",
                "terms": {"right": "obs[0] % 4", "down": "obs[0] // 4"},
                "weights": {"right": 0.1, "down": 0.1},
            },
        },
    }
    (tmp_path / "lake.yaml").write_text(yaml.safe_dump(lake))
    checked = shaperun("check", "lake.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "repeat action 0" in checked.stdout
    assert "act randomly" in checked.stdout
    for command in (("train", "lake.yaml"), ("compare", "lake"), ("record-gif", "lake")):
        done = shaperun(*command)
        assert done.returncode == 0, done.stderr
    assert "obs[0]" in shaperun("terms", "FrozenLake-v1").stdout
    normalized = shaperun("check", "lake.yaml", "--set", "training.normalize.observations=true")
    assert "are state indices, which cannot be normalized" in normalized.stderr


def test_unsupported_actions_are_refused(tmp_path: Path, shaperun: Shaperun) -> None:
    swing = {
        "study": "swing",
        "environment": {"id": "Pendulum-v1"},
        "training": {"algorithm": "DQN", "total_timesteps": 400},
        "arms": {"default": {}},
    }
    (tmp_path / "swing.yaml").write_text(yaml.safe_dump(swing))
    done = shaperun("train", "swing.yaml")
    assert done.returncode == 2
    assert (
        "DQN cannot learn the actions of Pendulum-v1, a Box space; choose from PPO" in done.stderr
    )


def test_distances_that_do_not_exist_have_no_table() -> None:
    study = parse_study(TINY)
    result = check_study(study, study.arms)
    epic = np.full_like(result.distances.epic, np.nan)
    vars(result)["distances"] = replace(result.distances, epic=epic)  # a cached property
    console = Console(file=io.StringIO(), width=100)
    check_table.print_distances(result, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "EPIC is undefined for all of these rewards." in shown
    assert not re.search(r"^EPIC +environment", shown, re.MULTILINE)
