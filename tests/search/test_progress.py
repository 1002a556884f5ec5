"""How a sweep stands: what is left of it, and which of its trials commands may show."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shaperun.cli import app
from shaperun.common.errors import UserError
from shaperun.runs.open_study import open_study
from shaperun.search.driver import run_statuses
from shaperun.search.progress import best_arms, remaining, with_trials
from shaperun.search.trial_results import best_trials, evaluate_trials
from shaperun.search.trials import known_trials


def test_the_best_trial_or_those_that_are_named_become_arms(searched: Path) -> None:
    study, folder = open_study("searched", searched / "results")
    found = evaluate_trials(study, folder, known_trials(study, folder))
    [winner] = best_trials(study, found)
    assert list(best_arms(study, folder)) == [winner.trial.arm]
    assert list(with_trials(study, folder, []).arms) == [*study.arms, winner.trial.arm]
    [other] = [r.trial for r in found if r.state == "done" and r is not winner]
    named = with_trials(study, folder, ["default", other.arm]).arms
    assert list(named) == [*study.arms, other.arm]
    assert named[other.arm].weights == other.weights
    stopped = next(r for r in found if r.state == "pruned")
    with pytest.raises(UserError, match=f"was pruned after {stopped.stopped_at} of 400 steps"):
        with_trials(study, folder, [stopped.trial.arm])


def test_without_a_sweep_nothing_changes(searched: Path) -> None:
    study, folder = open_study("searched", searched / "results")
    plain = study.model_copy(update={"sweep": None})
    assert with_trials(plain, folder, ["a"]) is plain
    assert best_arms(plain, folder) == {}
    assert remaining(plain, folder, []) == []


def test_what_is_left_of_a_sweep(searched: Path, tmp_path: Path) -> None:
    def left(results: Path, *overrides: str) -> list[str]:
        study, folder = open_study("searched", results, overrides)
        return remaining(study, folder, run_statuses(study, folder))

    assert left(searched / "results") == []
    assert left(searched / "results", "sweep.samples=9") == ["3 of its trials not drawn"]
    more = left(searched / "results", "sweep.confirm=5")
    assert more == ["the best not confirmed on 5 fresh seeds"]
    assert left(searched / "results", "sweep.confirm=0") == []
    shutil.copytree(searched / "results", tmp_path / "results")
    study, folder = open_study("searched", tmp_path / "results")
    [arm] = best_arms(study, folder)
    shutil.rmtree(folder.run(arm, 1).path)
    # What was pruned at the rungs that it was compared at has to be decided again.
    assert left(tmp_path / "results") == ["5 of its trials unfinished"]


def asked(verb: str, *arguments: str, results: Path) -> str:
    """What a command prints, on one line."""
    done = CliRunner().invoke(app.app, [verb, "searched", "--results", str(results), *arguments])
    if isinstance(done.exception, UserError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def test_commands_know_the_trials(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched / "results", tmp_path / "results")
    study, folder = open_study("searched", tmp_path / "results")
    [best_arm] = best_arms(study, folder)
    states = asked("status", results=folder.path.parent)
    assert "8 pruned, 10 done" in states
    assert states.endswith("Sweep complete.")
    folder.sweep.mkdir()
    compared = asked("compare", results=folder.path.parent)
    assert "The trials of the sweep are no arms of searched: shaperun report ranks" in compared
    assert best_arm not in compared
    asked("record-gif", "--format", "webp", results=folder.path.parent)
    films = {path.stem for path in folder.gifs.iterdir()}
    assert films == {"default", "guided", best_arm, "side-by-side"}
    shutil.rmtree(folder.path / "runs/default")
    shutil.rmtree(folder.path / "runs/guided")
    said = asked("compare", results=folder.path.parent)
    assert "no arm of searched has been trained into" in said
    assert "shaperun report ranks them" in said


def test_a_search_that_was_not_begun_is_said_to_be_so(searched: Path, tmp_path: Path) -> None:
    (tmp_path / "searched").mkdir()
    shutil.copy(searched / "results/searched/study.yaml", tmp_path / "searched")
    states = asked("status", results=tmp_path)
    assert states.endswith("Sweep not started: shaperun sweep searched")
