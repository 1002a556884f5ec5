"""The commands as a user types them, in real processes, on a study that trains in seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml
from PIL import Image
from stable_baselines3 import PPO

from benchmarks.doc_tables import ROOT
from shaperun.cli.main import main
from shaperun.runs.study_folder import StudyFolder
from tests.conftest import SEARCHED, TINY, Shaperun, call_shaperun


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained study that a test may change."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def test_train_finishes_all_runs(trained: Path) -> None:
    folder = StudyFolder(trained / "results" / "tiny")
    for arm in ("default", "guided"):
        for seed in (0, 1):
            run = folder.run(arm, seed)
            assert run.read_state() == "done"
            assert PPO.load(run.policy, device="cpu").num_timesteps == 2000
            assert len(pl.read_csv(run.evaluations).filter(timesteps=2000)) == 8
            assert run.log.exists()
    assert folder.study.exists()


def test_finished_runs_are_skipped(copy: Path, shaperun: Shaperun) -> None:
    before = snapshot(copy / "results" / "tiny" / "runs")
    again = shaperun("train", "tiny.yaml")
    assert again.returncode == 0
    assert "4 of 4 runs finished" in again.stderr
    assert snapshot(copy / "results" / "tiny" / "runs") == before


def test_a_lost_run_is_reproduced(copy: Path, shaperun: Shaperun) -> None:
    run = StudyFolder(copy / "results" / "tiny").run("guided", 1)
    before = run.evaluations.read_bytes()
    (run.path / "DONE.json").unlink()
    assert "interrupted" in shaperun("status", "tiny").stdout
    assert shaperun("train", "tiny.yaml", "--workers", "1").returncode == 0
    assert run.read_state() == "done"
    assert run.evaluations.read_bytes() == before


def test_status_lists_every_run(trained: Path) -> None:
    document = json.loads(call_shaperun("status", "--json", cwd=trained).stdout)
    assert document["study"] == "tiny"
    assert {(run["arm"], run["seed"]) for run in document["runs"]} == {
        (arm, seed) for arm in ("default", "guided") for seed in (0, 1)
    }
    for run in document["runs"]:
        assert (run["state"], run["timesteps"], run["total_timesteps"]) == ("done", 2000, 2000)


def test_dry_run_summarizes_many_runs_and_checks_what_train_checks(
    trained: Path, tiny_file: Path, shaperun: Shaperun
) -> None:
    done = shaperun("train", "tiny.yaml", "--dry-run", "--set", "seeds=10000")
    assert done.returncode == 0, done.stderr
    assert "PPO (engine lockstep), 20,000 runs of 2,000 steps" in done.stdout
    assert "20,000 waiting  ·  19,970 more runs not shown" in done.stdout
    assert len(done.stdout.splitlines()) < 40
    assert (
        "unknown executor x" in shaperun("train", "tiny.yaml", "--dry-run", "--executor=x").stderr
    )
    results = str(trained / "results")
    changed = (
        "train",
        "tiny.yaml",
        "--dry-run",
        "--results",
        results,
        "--set",
        "training.n_envs=2",
    )
    done = shaperun(*changed)
    assert done.returncode == 2
    assert "training.n_envs: 4 there, 2 here" in done.stderr
    assert shaperun(*changed, "--fresh").returncode == 0
    assert not (tiny_file.parent / "results").exists()


def test_dry_run_changes_nothing(tiny_file: Path, shaperun: Shaperun) -> None:
    done = shaperun("train", "tiny.yaml", "--dry-run", "--seeds", "1", "--arms", "guided")
    assert done.returncode == 0
    assert done.stdout.count("guided") == 2  # the arm, and its folder
    assert "waiting" in done.stdout
    assert list(tiny_file.parent.iterdir()) == [tiny_file]


def test_compare_prints_and_writes_results(copy: Path, shaperun: Shaperun) -> None:
    done = shaperun("compare")
    assert done.returncode == 0, done.stderr
    words = (
        "default",
        "guided",
        "return",
        "success rate",
        "underpowered",
        "seeds per arm",
        "Over training",
    )
    for word in words:
        assert word in done.stdout
    compare = StudyFolder(copy / "results" / "tiny").compare
    stems = ["curves", "outcomes", "terms"]
    names = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    names |= {f"{table}.{kind}" for table in ("runs", "episodes") for kind in ("csv", "parquet")}
    assert {path.name for path in compare.iterdir()} == names | {"summary.csv", "summary.json"}
    document = json.loads((compare / "summary.json").read_text())
    assert json.loads(shaperun("compare", "tiny.yaml", "--json").stdout) == document
    assert document["baseline"] == "default"
    assert document["arms"]["guided"]["runs"] == 2
    assert document["arms"]["guided"]["return"].keys() >= {"mean", "iqm", "low", "high", "level"}
    keys = {"arm", "baseline", "metric", "difference", "low", "high", "p_value", "verdict"}
    assert all(keys <= comparison.keys() for comparison in document["comparisons"])
    table = pl.read_csv(compare / "summary.csv")
    assert set(table["arm"]) == {"default", "guided"}
    before = {path: path.read_bytes() for path in compare.iterdir()}
    assert shaperun("compare", "tiny").returncode == 0
    assert {path: path.read_bytes() for path in compare.iterdir()} == before


def test_compare_reports_missing_runs(copy: Path, shaperun: Shaperun) -> None:
    folder = StudyFolder(copy / "results" / "tiny")
    shutil.rmtree(folder.run("guided", 0).path)
    (folder.run("guided", 1).path / "DONE.json").unlink()
    done = shaperun("compare", "tiny")
    assert done.returncode == 0
    assert "2 of 4 runs are not finished (1 waiting, 1 interrupted)" in done.stdout
    assert list(json.loads(shaperun("compare", "--json").stdout)["arms"]) == ["default"]


def test_arms_are_never_ranked_by_a_shaped_return(copy: Path, shaperun: Shaperun) -> None:
    done = shaperun("compare", "tiny", "--by", "shaped_return")
    assert done.returncode == 2
    assert "units of its own reward" in done.stderr
    assert shaperun("compare", "tiny", "--by", "length").returncode == 0
    assert "unknown metric size" in shaperun("compare", "tiny", "--by", "size").stderr


def test_gifs_replay_the_recorded_episode(copy: Path, shaperun: Shaperun) -> None:
    done = shaperun("record-gif", "tiny")
    assert done.returncode == 0, done.stderr
    folder = StudyFolder(copy / "results" / "tiny")
    assert {path.name for path in folder.gifs.iterdir()} == {
        "default.gif",
        "guided.gif",
        "side-by-side.gif",
    }
    assert "trained elsewhere" not in done.stderr  # the replay is bit-identical
    with Image.open(folder.gifs / "side-by-side.gif") as gif:
        assert gif.size[0] > gif.size[1]
        assert getattr(gif, "n_frames", 1) > 1
    assert shaperun("record-gif", "tiny", "--episode-seed", "8").returncode == 2
    assert shaperun("record-gif", "tiny", "--seed", "9").returncode == 2


def test_a_sweep_is_trained_and_ranked(tiny_file: Path, shaperun: Shaperun) -> None:
    sweep = "sweep={base: guided, method: grid, weights: {upright: [0, 1], centred: [0.5]}}"
    small = ["--set", "training.total_timesteps=400", "--set", "seeds=1", "--set", sweep]
    done = shaperun("sweep", "tiny.yaml", *small)
    assert done.returncode == 0, done.stderr
    folder = StudyFolder(tiny_file.parent / "results" / "tiny")
    ranking = pl.read_csv(folder.sweep / "ranking.csv")
    assert set(ranking["arm"]) == {"upright=0_centred=0.5", "upright=1_centred=0.5"}
    assert ranking["return"].is_sorted(descending=True)
    names = {path.name for path in folder.sweep.iterdir()}
    assert {"response-upright.png", "heatmap-upright-centred.svg", "ranking.json"} <= names
    assert "no sweep" in shaperun("sweep", "tiny.yaml").stderr


def test_one_failing_run_does_not_stop_the_others(tiny_file: Path, shaperun: Shaperun) -> None:
    wild = '{mode: add, terms: {wild: "1e40 if abs(obs[2]) > 0.1 else 0"}, weights: {wild: 1}}'
    arms = f"arms={{default: {{}}, wild: {wild}}}"
    done = shaperun("train", "tiny.yaml", "--set", arms, "--set", "training.total_timesteps=400")
    assert done.returncode == 1
    assert "wild/0 failed: the shaped reward is out of range (1e+40); lower" in done.stderr
    assert "2 of 4 runs finished" in done.stderr
    folder = StudyFolder(tiny_file.parent / "results" / "tiny")
    assert "Traceback" in (folder.run("wild", 1).read_failure() or "")
    states = {run["state"] for run in json.loads(shaperun("status", "--json").stdout)["runs"]}
    assert states == {"done", "failed"}
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_can_be_resumed(tiny_file: Path, kill: signal.Signals) -> None:
    folder = StudyFolder(tiny_file.parent / "results" / "tiny")
    command = [sys.executable, "-m", "shaperun", "train", "tiny.yaml"]
    long = [
        "--set",
        "training.total_timesteps=100_000_000",
        "--set",
        "evaluation.every=100_000_000",
    ]
    process = subprocess.Popen(
        [*command, *long], cwd=tiny_file.parent, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not folder.run("default", 0).read_progress() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "0 of 4 runs are finished" in errors
    assert "shaperun train tiny.yaml --set" in errors
    assert "Traceback" not in errors
    assert folder.run("default", 0).read_state() == "interrupted"


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


# Invalid input: one clear message, exit status 2, no change.
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
        "CartPole-v1 with gravity=3 cannot be used",
    ),
    "actions that the terms cannot read": (
        ["train", "lander.yaml"],
        "LunarLander-v3 with continuous=True cannot be used",
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
    before = snapshot(bad_folder)
    done = call_shaperun(*arguments, cwd=bad_folder)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert snapshot(bad_folder) == before


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
    before = snapshot(copy)
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
    assert snapshot(copy) == before


def test_a_changed_study_is_not_overwritten(copy: Path, shaperun: Shaperun) -> None:
    before = snapshot(copy)
    text = (copy / "tiny.yaml").read_text().replace("gamma: 0.98", "gamma: 0.9")
    changed = ["--set", "training.hyperparameters.gamma=0.9"]
    for verb in (["train"], ["compare"], ["record-gif"], ["train", "--arms", "guided"]):
        done = shaperun(verb[0], "tiny.yaml", *changed, *verb[1:])
        assert done.returncode == 2
        assert "training.hyperparameters.gamma: 0.98 there, 0.9 here" in done.stderr
    assert snapshot(copy) == before
    (copy / "tiny.yaml").write_text(text)
    done = shaperun("train", "tiny.yaml", "--fresh", "--set", "training.total_timesteps=400")
    assert done.returncode == 0, done.stderr


def test_new_arms_and_seeds_are_accepted(copy: Path, shaperun: Shaperun) -> None:
    more = ["--set", "arms.plain={}", "--seeds", "0"]
    done = shaperun("train", "tiny.yaml", *more)
    assert done.returncode == 0, done.stderr
    assert StudyFolder(copy / "results" / "tiny").run("plain", 0).read_state() == "done"


def test_init_writes_a_valid_study(shaperun: Shaperun, tmp_path: Path) -> None:
    assert shaperun("init").returncode == 0
    done = shaperun("train", "study.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "20 runs" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_sweep_that_has_not_begun_is_described(bad_folder: Path) -> None:
    done = call_shaperun("sweep", "searched.yaml", "--dry-run", cwd=bad_folder)
    assert "6 trials × 2 seeds × 400 steps" in done.stdout
    assert "No trial has been drawn yet." in done.stdout


def test_a_repeated_option_adds_names(tiny_file: Path, shaperun: Shaperun) -> None:
    both = ("--arms", "default", "--arms", "guided")
    done = shaperun("train", "tiny.yaml", "--dry-run", *both, "--seeds", "1", "--seeds", "0")
    assert "4 runs of 2,000 steps" in done.stdout


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


def test_terms_and_schema_name_every_term(shaperun: Shaperun) -> None:
    assert "main_engine" in shaperun("terms", "LunarLander-v3").stdout
    assert "upright" in json.dumps(json.loads(shaperun("schema").stdout))
