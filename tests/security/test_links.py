"""Links, pipes and names of files elsewhere: nothing outside a study is touched or waited for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from shaperun.common.files import write_json
from shaperun.report import data as report_material
from shaperun.runs.study_folder import StudyFolder
from tests.helpers.forgery import Commands, one_of, tree


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
    done = command("train", "tiny.yaml", *arguments)
    assert done[0] == 0, done
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
