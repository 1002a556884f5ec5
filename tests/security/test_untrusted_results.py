"""Forged results folders run nothing, reach nothing outside, and never hang.

Every forged run verifies: an attacker who writes the files writes their hashes too.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

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
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.status import RunStatus, read_run_status
from shaperun.runs.study_folder import StudyFolder
from shaperun.training.sb3_model import load_policy
from tests.helpers.forgery import Commands, Evil, memory_within, tree

ESCAPES = "\x1b[31m\x1b]8;;http://evil\x07\x1b]52;c;aGk=\x07\u202e\x9b2J[red][link=http://evil]x"


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> StudyFolder:
    """The trained study, which a test may forge."""
    shutil.copytree(trained, tmp_path / "work")
    return StudyFolder(tmp_path / "work" / "results" / "tiny")


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    """A file that must never be created."""
    return tmp_path / "sentinel"


@pytest.fixture
def command(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Commands:
    return Commands(folder.path.parent.parent, monkeypatch, capsys)


def runs_of(folder: StudyFolder) -> list[Run]:
    study, _ = open_study("tiny", folder.path.parent)
    return plan_runs(study, study.arms)


def one_of(folder: StudyFolder) -> tuple[Run, RunFolder]:
    """The run guided/1."""
    run = next(run for run in runs_of(folder) if (run.arm, run.seed) == ("guided", 1))
    return run, folder.run("guided", 1)


# policy.zip


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(
    contents: dict[str, bytes], compression: int = zipfile.ZIP_STORED, more: str = ""
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        for name, content in contents.items():
            target.writestr(name, content)
        if more:
            target.writestr(more, b"x")
    return file.getvalue()


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def parameters(good: dict[str, bytes]) -> dict[str, torch.Tensor]:
    found = torch.load(io.BytesIO(good["policy.pth"]), weights_only=True)
    return dict(found)


def every_member_a_pickle(good: dict[str, bytes], sentinel: Path) -> bytes:
    evil = Evil(sentinel)
    data = {"policy_class": {":type:": "x", ":serialized:": text(pickle.dumps(evil))}}
    return archive(
        {
            "data": json.dumps(data).encode(),
            **{name: saved({"x": evil}) for name in good if name.endswith(".pth")},
        }
    )


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def evil_beside_good(good: dict[str, bytes], sentinel: Path) -> bytes:
    evil = saved({**parameters(good), "more": Evil(sentinel)})
    return archive(good | {"policy.pth": evil})


def a_legacy_file(good: dict[str, bytes], sentinel: Path) -> bytes:
    legacy = saved({"x": Evil(sentinel)}, _use_new_zipfile_serialization=False)
    return archive(good | {"policy.pth": legacy})


def a_plain_pickle(good: dict[str, bytes], sentinel: Path) -> bytes:
    return archive(good | {"policy.pth": pickle.dumps(Evil(sentinel))})


def no_archive(_good: dict[str, bytes], sentinel: Path) -> bytes:
    return pickle.dumps(Evil(sentinel))


def a_bomb(good: dict[str, bytes], _: Path) -> bytes:
    return archive(good | {"policy.pth": bytes(250_000_000)}, zipfile.ZIP_DEFLATED)


def a_large_member(good: dict[str, bytes], _: Path) -> bytes:
    return archive(good | {"policy.pth": good["policy.pth"] + bytes(100_000)})


def a_bomb_within(good: dict[str, bytes], _: Path) -> bytes:
    bomb = {"archive/data/0": bytes(30_000_000), "archive/data.pkl": b"."}
    return archive(good | {"policy.pth": archive(bomb, zipfile.ZIP_DEFLATED)})


def a_greedy_pickle(good: dict[str, bytes], _: Path) -> bytes:
    # bytearray(2**33), which torch's safe mode would make
    greedy = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R."
    return archive(good | {"policy.pth": archive({"archive/data.pkl": greedy})})


def of_other_shapes(good: dict[str, bytes], _: Path) -> bytes:
    other = {name: value[:1] for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def of_other_names(good: dict[str, bytes], _: Path) -> bytes:
    other = {f"x{name}": value for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def of_other_types(good: dict[str, bytes], _: Path) -> bytes:
    other = {name: value.half() for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def not_numbers(good: dict[str, bytes], _: Path) -> bytes:
    other = {name: value * float("nan") for name, value in parameters(good).items()}
    return archive(good | {"policy.pth": saved(other)})


def no_dictionary(good: dict[str, bytes], _: Path) -> bytes:
    return archive(good | {"policy.pth": saved(torch.zeros(3))})


def no_policy(good: dict[str, bytes], _: Path) -> bytes:
    return archive({name: content for name, content in good.items() if name != "policy.pth"})


FORGED: dict[Callable[[dict[str, bytes], Path], bytes], str] = {
    every_member_a_pickle: "a pickle in it asks for",
    evil_beside_good: "a pickle in it asks for",
    a_legacy_file: "not a zip file",
    a_plain_pickle: "not a zip file",
    no_archive: "not a zip file",
    a_bomb: "is compressed",
    a_large_member: "is larger than",
    a_bomb_within: "is compressed",
    a_greedy_pickle: "asks for builtins bytearray",
    of_other_shapes: "expected",
    of_other_names: "other names",
    of_other_types: "is not an array of",
    not_numbers: "values that are not finite",
    no_dictionary: "no parameters",
    no_policy: "no item named",
}


@pytest.mark.parametrize("forge", FORGED, ids=lambda forge: forge.__name__)
def test_a_forged_policy_does_nothing(
    forge: Callable[[dict[str, bytes], Path], bytes], folder: StudyFolder, sentinel: Path
) -> None:
    run, forged = one_of(folder)
    forged.policy.write_bytes(forge(members(forged.policy), sentinel))
    forged.finish()
    assert forged.read_state() == "done"
    with memory_within(200), pytest.raises(UserError) as error:
        load_policy(run.config, forged)
    assert not sentinel.exists()
    assert FORGED[forge] in str(error.value)
    assert f"{forged.policy} is damaged" in str(error.value)
    assert "--fresh --arms guided --seeds 1" in str(error.value)


def test_a_forged_policy_is_an_error_of_every_command(
    folder: StudyFolder, sentinel: Path, command: Commands
) -> None:
    for run in runs_of(folder):
        forged = folder.run(run.arm, run.seed)
        forged.policy.write_bytes(every_member_a_pickle(members(forged.policy), sentinel))
        forged.finish()
    code, said = command("record-gif", "tiny")
    assert (code, "policy.zip is damaged" in said) == (2, True)
    code, said = command("report", "tiny", "--static")
    assert (code, "no GIF" in said) == (0, True)  # the numbers need no policy
    assert command("compare", "tiny")[0] == command("status", "tiny")[0] == 0
    assert command("train", "tiny.yaml")[0] == 0  # all of it is done
    assert not sentinel.exists()


@pytest.mark.parametrize("name", ["../../escaped", "/escaped-from-shaperun", "..\\escaped"])
def test_other_members_of_the_archive_are_ignored(name: str, folder: StudyFolder) -> None:
    run, forged = one_of(folder)
    forged.policy.write_bytes(archive(members(forged.policy), more=name))
    before = tree(folder.path.parent.parent)
    assert callable(load_policy(run.config, forged))
    assert tree(folder.path.parent.parent) == before
    assert not Path("/escaped-from-shaperun").exists()


# Links


def outside(folder: StudyFolder, inside: Path) -> Path:
    """Move something out of the results folder, and leave a link in its place."""
    target = folder.path.parent.parent.parent / "outside"
    target.mkdir(exist_ok=True)
    (target / "thesis.tex").write_text("mine")
    if inside.exists():
        shutil.move(inside, target / inside.name)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        (target / inside.name).mkdir()
    inside.symlink_to(target / inside.name)
    return target


READING = (["status"], ["compare"], ["record-gif"], ["report"], ["check"])
TRAINING = (["train"], ["train", "--fresh"], ["train", "--fresh", "--arms", "default"])
EVERYWHERE = (*READING, *TRAINING)
OF_A_RUN = (
    *("run.json", "DONE.json", "policy.zip", "evaluations.csv", "log.txt"),
    *("tensorboard", "checkpoint-1.bin"),
)
LINKS: dict[str, tuple[list[str], ...]] = {
    "": EVERYWHERE,
    "study.yaml": (["report", "--static"], *TRAINING),
    "runs": EVERYWHERE,
    "runs/default": EVERYWHERE,
    "runs/default/0": EVERYWHERE,
    **{f"runs/default/0/{name}": (["status"], ["compare"], ["train"]) for name in OF_A_RUN},
    "runs/default/0/.lease": (["status"], *TRAINING),
    "compare": (["compare"],),
    "gifs": (["record-gif"],),
    "check": (["check"],),
    "report.html": (["report", "--static"],),
    "preview.html": (["preview"],),
}


@pytest.mark.parametrize("name", LINKS)
def test_no_link_is_followed(
    name: str, folder: StudyFolder, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_material, "_record_gif", lambda *_: None)
    link = folder.path / name
    target = outside(folder, link)
    before = tree(target)
    for arguments in LINKS[name]:
        code, said = command(arguments[0], "tiny.yaml", *arguments[1:])
        assert code == 2, said
        assert "is a symbolic link, which is not allowed in a results folder" in said
        assert str(Path("results/tiny") / name) in said
    assert tree(target) == before
    assert link.is_symlink()


def test_the_results_folder_itself_may_be_a_link(folder: StudyFolder, command: Commands) -> None:
    outside(folder, folder.path.parent)
    assert command("status", "tiny")[0] == 0
    assert command("status")[0] == 0


def test_fresh_removes_links_only(folder: StudyFolder, command: Commands) -> None:
    links = [folder.run("default", 0).path / name for name in ("run.json", "policy.zip", "log.txt")]
    targets = [outside(folder, link) for link in links]
    before = tree(targets[0])
    arguments = ("--fresh", "--arms", "default", "--seeds", "0")
    assert command("train", "tiny.yaml", *arguments)[0] == 0
    assert tree(targets[0]) == before
    assert not any(link.is_symlink() for link in links)


def test_fresh_deletes_nothing_through_a_link(folder: StudyFolder) -> None:
    _, forged = one_of(folder)
    target = outside(folder, forged.path / "tensorboard")
    nested = forged.path / "nested"
    nested.mkdir()
    (nested / "link").symlink_to(target)
    (forged.path / "file").symlink_to(target / "thesis.tex")
    before = tree(target)
    forged.start({"identity": "x"})
    assert tree(target) == before
    assert {path.name for path in forged.path.iterdir()} <= {"run.json", ".lease"}


@pytest.mark.parametrize("name", ["run.json", "DONE.json", "policy.zip", "error.txt", "x"])
def test_a_pipe_is_not_waited_for(name: str, folder: StudyFolder, command: Commands) -> None:
    pipe = folder.run("default", 0).path / name
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    code, said = command("status", "tiny")
    assert (code, "is neither a file nor a folder" in said) == (2, True)


@pytest.mark.parametrize("name", ["../1/policy.zip", "/etc/hostname", "..", "", "policy.zip/."])
def test_hashes_of_files_elsewhere_finish_no_run(name: str, folder: StudyFolder) -> None:
    _, forged = one_of(folder)
    done = json.loads((forged.path / "DONE.json").read_text())
    done["files"][name] = done["files"]["policy.zip"]
    write_json(forged.path / "DONE.json", done)
    assert forged.read_state() == "interrupted"


def test_a_run_with_a_missing_file_is_not_finished(folder: StudyFolder) -> None:
    _, forged = one_of(folder)
    done = json.loads((forged.path / "DONE.json").read_text())
    write_json(forged.path / "DONE.json", done | {"files": {}})
    assert forged.read_state() == "interrupted"


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
    "column of a term lacking": lambda text: text.replace("sum_upright", "sum_other", 1),
}
UPDATES = EITHER | {"beyond": in_row("loss", "1e200"), "our own": lambda text: f"arm,{text}"}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_forged_evaluations_are_named(name: str, folder: StudyFolder) -> None:
    forged = forged_table(folder, "evaluations.csv", EVALUATIONS[name])
    with pytest.raises(UserError, match="--fresh --arms guided --seeds 1") as error:
        results.LoadedRuns(folder).episodes(runs_of(folder))
    assert f"{forged.evaluations} is damaged" in str(error.value)


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
