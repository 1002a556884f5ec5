"""Forged results folders run nothing, reach nothing outside, and never hang.

Every forged run verifies: an attacker who writes the files writes their hashes too.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from shaperun.analysis import comparison, results
from shaperun.analysis.updates import update_statistics
from shaperun.cli import progress
from shaperun.cli.console import SafeConsole
from shaperun.common.errors import UserError
from shaperun.common.files import write_json
from shaperun.common.text import escape_control_chars
from shaperun.report import data as report_material
from shaperun.report import files
from shaperun.report import page as report
from shaperun.rewards.schedule import LinearSchedule
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.status import RunStatus, read_run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.training.sb3_model import load_policy
from tests.helpers.forgery import Commands, memory_within, one_of, runs_of

ESCAPES = "\x1b[31m\x1b]8;;http://evil\x07\x1b]52;c;aGk=\x07\u202e\x9b2J[red][link=http://evil]x"


# JSON

DOCUMENTS = {
    "huge": b"[" + b"0," * 6_000_000 + b"0]",
    "deep": b"[" * 100_000,
    "deep in an object": b'{"a":' * 400 + b"0" + b"}" * 400,
    "list": b"[]",
    "text": b'"x"',
    "null": b"null",
    "binary": bytes(range(256)),
    "numbers": b'{"identity": 1, "config": 1, "files": 1, "versions": 1, "timesteps": "1"}',
    "lists": b'{"identity": [], "config": [], "files": [], "timesteps": [], "mean": [], "var": {}}',
    "beyond": b'{"timesteps": 1e999, "seconds": NaN, "evaluated_return": -Infinity, "phase": []}',
    "long": b'{"timesteps": ' + b"9" * 4000 + b', "seconds": 1e-320, "evaluated_return": 1e308}',
    "negative": b'{"timesteps": -5, "seconds": -1, "training_return": true, "mean": [NaN]}',
    "no text": b'{"phase": "\\ud800", "identity": "\\ud800", "versions": {"\\ud800": 1}}',
}


@pytest.mark.parametrize("name", ["run.json", "DONE.json", "progress.json"])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_forged_json_is_ignored(
    document: str, name: str, folder: StudyFolder, command: Commands
) -> None:
    run, forged = one_of(folder)
    (forged.path / name).write_bytes(DOCUMENTS[document])
    began = time.monotonic()
    code, said = command("status", "tiny", "--json")
    assert code == 0
    shown_run = next(r for r in json.loads(said)["runs"] if (r["arm"], r["seed"]) == ("guided", 1))
    assert shown_run["state"] == ("done" if name == "progress.json" else "interrupted")
    assert shown_run["timesteps"] >= 0
    status = read_run_status(folder, run)
    for shown in (status, replace(status, state="running")):
        progress.print_runs([shown], SafeConsole(stderr=False, quiet=False))
    forged.read_record()
    if name == "run.json":
        code, said = command("compare", "tiny")
        assert code == 2
        assert "run.json is damaged" in said or "trained from another configuration" in said
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_forged_statistics_of_observations_are_refused(document: str, folder: StudyFolder) -> None:
    run, forged = one_of(folder)
    forged.normalization.write_bytes(DOCUMENTS[document])
    with pytest.raises(UserError, match=r"normalization\.json is damaged"):
        load_policy(run.config, forged)


@pytest.mark.parametrize(
    "changes",
    [{"mean": [0.0] * 3}, {"var": [[1.0] * 4]}, {"var": [-1.0] * 4}, {"clip": 0}, {"epsilon": "x"}],
)
def test_statistics_must_have_the_shape_of_observations(
    changes: dict[str, object], folder: StudyFolder
) -> None:
    run, forged = one_of(folder)
    write_json(forged.normalization, json.loads(forged.normalization.read_text()) | changes)
    with pytest.raises(UserError, match=r"normalization\.json is damaged"):
        load_policy(run.config, forged)


# Tables


def forged_table(folder: StudyFolder, name: str, change: Callable[[str], str | bytes]) -> RunFolder:
    _, forged = one_of(folder)
    path = forged.path / name
    changed = change(path.read_text())
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    forged.finish()
    assert forged.read_state() == "done"
    return forged


def in_row(column: str, value: str, row: int = 3) -> Callable[[str], str]:
    def change(text: str) -> str:
        lines = text.splitlines(keepends=True)
        place = lines[0].strip().split(",").index(column)
        cells = lines[row].rstrip("\n").split(",")
        cells[place] = value
        return "".join([*lines[:row], ",".join(cells) + "\n", *lines[row + 1 :]])

    return change


def line(number: int, value: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        lines = text.splitlines(keepends=True)
        return "".join([*lines[:number], value, *lines[number + 1 :]])

    return change


EITHER: dict[str, Callable[[str], str | bytes]] = {
    "binary": lambda text: text.encode() + bytes(range(256)) + b"\n",
    "column twice": lambda text: text.replace("timesteps,", "timesteps,timesteps,", 1),
    "column lacking": lambda text: text.replace("timesteps", "time", 1),
    "formula for a column": lambda text: text.replace("\n", ",=cmd|' /C calc'!A0\n", 1),
    "gigantic line": lambda text: text + "1," * 5_000_000 + "\n",
    "empty line": line(2, "\n"),
    "no number": in_row("timesteps", "x"),
    "too large": in_row("timesteps", "9" * 30),
    "quote": in_row("timesteps", '"5'),
    "no text": lambda text: text.encode() + b"\xff\xfe,\n",
}
EVALUATIONS = EITHER | {
    "short line": line(2, "1,2\n"),
    "formula": in_row("outcome", "=cmd|' /C calc'!A0"),
    "escapes": in_row("outcome", ESCAPES),
    "unknown outcome": in_row("outcome", "landed"),
    "empty": in_row("return", ""),
    "NaN": in_row("return", "nan"),
    "infinite": in_row("sum_upright", "1e999"),
    "beyond": in_row("length", "-1"),
    "other episode": in_row("seed", "7"),
    "other order": in_row("episode", "4"),
    "in the past": in_row("timesteps", "-500"),
    "one too few": lambda text: "".join(text.splitlines(keepends=True)[:-1]),
    "one too many": lambda text: text + text.splitlines(keepends=True)[-1],
    "factor beyond": lambda text: text.replace("\n", ",1e13\n").replace(",1e13", ",schedule", 1),
    "column of a term lacking": lambda text: text.replace("sum_upright", "sum_other", 1),
}
UPDATES = EITHER | {"beyond": in_row("loss", "1e200"), "our own": lambda text: f"arm,{text}"}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_forged_evaluations_are_named(name: str, folder: StudyFolder) -> None:
    forged = forged_table(folder, "evaluations.csv", EVALUATIONS[name])
    with pytest.raises(UserError, match="--fresh --arms guided --seeds 1") as error:
        results.LoadedRuns(folder).episodes(runs_of(folder))
    assert f"{forged.evaluations} is damaged" in str(error.value)


def test_recorded_factors_of_a_schedule_are_required(folder: StudyFolder) -> None:
    study, _ = open_study("tiny", folder.path.parent)
    fading = LinearSchedule(kind="linear")
    arms = {"guided": study.arms["guided"].model_copy(update={"schedule": fading})}
    runs = plan_runs(study.model_copy(update={"arms": arms}), arms)
    with pytest.raises(UserError, match="is damaged: a column is missing"):
        results.LoadedRuns(folder).episodes(runs)


@pytest.mark.parametrize("name", UPDATES)
def test_forged_updates_are_named(name: str, folder: StudyFolder) -> None:
    forged = forged_table(folder, "updates.csv", UPDATES[name])
    with pytest.raises(UserError, match="--fresh --arms guided --seeds 1") as error:
        update_statistics(folder, runs_of(folder))
    assert f"{forged.updates} is damaged" in str(error.value)


def test_a_damaged_table_is_one_message_of_every_command(
    folder: StudyFolder, command: Commands
) -> None:
    forged_table(folder, "evaluations.csv", EVALUATIONS["formula"])
    for verb in ("compare", "record-gif", "report", "check"):
        code, said = command(verb, "tiny")
        assert (code, "evaluations.csv is damaged" in said) == (2, True), said
    assert command("status", "tiny")[0] == 0
    code, said = command("train", "tiny.yaml", "--fresh", "--arms", "guided", "--seeds", "1")
    assert code == 0, said
    assert command("compare", "tiny")[0] == 0  # as the message promised


def test_no_written_table_holds_a_formula(folder: StudyFolder, tmp_path: Path) -> None:
    study, _ = open_study("tiny", folder.path.parent)
    found = comparison.compare_arms(study, folder)
    evil = "=cmd|' /C calc'!A0"
    arms = [replace(arm, arm=evil) if arm.arm == "guided" else arm for arm in found.summary.arms]
    renaming = pl.col("arm").replace("guided", evil)
    forged = replace(
        found,
        summary=replace(found.summary, arms=arms),
        runs=found.runs.with_columns(renaming),
        episodes=found.episodes.with_columns(renaming, outcome=pl.lit("@SUM(1)")),
    )
    for path in files.write_comparison(forged, tmp_path / "compare"):
        if path.suffix == ".csv":
            cells = pl.read_csv(path).select(pl.col(pl.String)).to_series(0).to_list()
            assert f"'{evil}" in [*cells, *pl.read_csv(path)["arm"]]
            assert not any(str(cell)[0] in "=+-@" for cell in cells)


# The terminal


def test_nothing_in_a_results_folder_controls_the_terminal(
    folder: StudyFolder, command: Commands
) -> None:
    _, forged = one_of(folder)
    shutil.copytree(folder.path, folder.path.parent / f"tiny{ESCAPES}".replace("/", ""))
    for path in (forged.log, forged.error):
        path.write_text(ESCAPES)
    record = json.loads(forged.config.read_text())
    record["config"] |= {"seed": ESCAPES, ESCAPES: 1}
    write_json(forged.config, record | {"identity": ESCAPES})
    code, said = command("compare", "tiny")
    assert (code, "\\u001b[31m" in said, "\\u202e" in said) == (2, True, True)
    code, said = command("compare", "nothing")
    assert (code, "\\u009b2J[red]" in said) == (2, True)
    assert command("status", "tiny")[0] == 0
    folder.study.write_text(folder.study.read_text() + '"\\e[31m\\u202e": 1\n', encoding="utf-8")
    code, said = command("status", "tiny", "--debug")
    assert (code, "unknown key" in said) == (2, True)
    assert command("check", "tiny", "--json")[0] == 2


def test_failures_are_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    console = SafeConsole(stderr=False, quiet=False)
    failed = RunStatus("arm", 0, "failed", failure=f"Traceback\nValueError: {ESCAPES}")
    progress.follow_progress([[failed]], console)
    progress.print_outcome(StudyFolder(Path("results")), [failed], console)
    console.print(f"[red]{ESCAPES}[/red] :smile:")
    said = "".join(capsys.readouterr())
    assert escape_control_chars(said) == said
    assert said.count("\\u001b]52;c;aGk=") == 3
    assert "[red]\\u001b" in said


def test_only_the_program_sends_control_sequences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    orders = []
    for name in (ESCAPES, "x" * len(escape_control_chars(ESCAPES))):
        console = SafeConsole(stderr=False, quiet=False)
        assert console.is_terminal
        progress.follow_progress([[RunStatus(name, 0, "failed")]], console)
        orders.append(capsys.readouterr().out.count("\x1b"))
    assert orders[0] == orders[1] > 0


# The report


def test_provenance_is_text_in_the_report(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_material, "_record_gif", lambda *_: None)
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\ud800"
    _, forged = one_of(folder)
    record = json.loads(forged.config.read_text())
    record |= {"platform": evil, "versions": {evil: evil}, "git_revision": [evil]}
    forged.config.write_text(json.dumps(record))
    forged.error.write_text(evil[:-1])
    folder.study.write_bytes(folder.study.read_bytes() + f"# {evil[:-1]}\xff".encode("latin-1"))
    forged.finish()
    study, _ = open_study(str(folder.path.parents[1] / "tiny.yaml"), folder.path.parent)
    page = report.render_page(report_material.load_report_data(study, folder, print), static=True)
    page.encode()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;\\ud800" in page


def test_reading_a_study_file_is_bounded(folder: StudyFolder, command: Commands) -> None:
    with folder.study.open("ab") as file:
        file.truncate(2**40)  # which takes no space on a disk
    with memory_within(200):
        code, said = command("status", "tiny")
    assert (code, "larger than 1,000,000 bytes" in said) == (2, True)
