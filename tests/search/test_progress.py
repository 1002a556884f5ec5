"""Progress of a sweep: remaining work, and trials that commands show."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shaperun.analysis.results import LoadedRuns
from shaperun.cli import app
from shaperun.common.errors import UserError
from shaperun.runs.open_study import open_study
from shaperun.search.driver import read_run_statuses
from shaperun.search.progress import add_trial_arms, describe_remaining_work, load_best_arms
from shaperun.search.trial_results import evaluate_trials, select_best_trials
from shaperun.search.trials import load_trials


def test_the_best_or_the_named_trials_become_arms(searched: Path) -> None:
    study, folder = open_study("searched", searched / "results")
    evaluated = evaluate_trials(study, LoadedRuns(folder), load_trials(study, folder))
    [winner] = select_best_trials(study, evaluated)
    assert list(load_best_arms(study, LoadedRuns(folder))) == [winner.trial.arm]
    assert list(add_trial_arms(study, LoadedRuns(folder), []).arms) == [
        *study.arms,
        winner.trial.arm,
    ]
    [other] = [r.trial for r in evaluated if r.state == "done" and r is not winner]
    named = add_trial_arms(study, LoadedRuns(folder), ["default", other.arm]).arms
    assert list(named) == [*study.arms, other.arm]
    assert named[other.arm].weights == other.weights
    pruned = next(r for r in evaluated if r.state == "pruned")
    with pytest.raises(UserError, match=f"was pruned after {pruned.stopped_at} of 400 steps"):
        add_trial_arms(study, LoadedRuns(folder), [pruned.trial.arm])


def test_without_a_sweep_nothing_changes(searched: Path) -> None:
    study, folder = open_study("searched", searched / "results")
    plain = study.model_copy(update={"sweep": None})
    assert add_trial_arms(plain, LoadedRuns(folder), ["a"]) is plain
    assert load_best_arms(plain, LoadedRuns(folder)) == {}
    assert describe_remaining_work(plain, folder, []) == []


def test_remaining_work_is_described(searched: Path, tmp_path: Path) -> None:
    def left(results: Path, *overrides: str) -> list[str]:
        study, folder = open_study("searched", results, overrides)
        return describe_remaining_work(study, folder, read_run_statuses(study, folder))

    assert left(searched / "results") == []
    assert left(searched / "results", "sweep.samples=9") == ["3 trials not drawn"]
    more = left(searched / "results", "sweep.confirm=5")
    assert more == ["confirmation of the best on 5 fresh seeds"]
    assert left(searched / "results", "sweep.confirm=0") == []
    shutil.copytree(searched / "results", tmp_path / "results")
    study, folder = open_study("searched", tmp_path / "results")
    [arm] = load_best_arms(study, LoadedRuns(folder))
    shutil.rmtree(folder.run(arm, 1).path)
    # Trials that were compared with it at a rung have to be evaluated again.
    assert left(tmp_path / "results") == ["5 trials unfinished"]


def run_command(verb: str, *arguments: str, results: Path) -> str:
    """Return the output of a command, or its error, on one line."""
    done = CliRunner().invoke(app.app, [verb, "searched", "--results", str(results), *arguments])
    if isinstance(done.exception, UserError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def test_commands_show_trials(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched / "results", tmp_path / "results")
    study, folder = open_study("searched", tmp_path / "results")
    [best_arm] = load_best_arms(study, LoadedRuns(folder))
    states = run_command("status", results=folder.path.parent)
    assert "8 pruned, 10 done" in states
    assert states.endswith("Sweep complete.")
    folder.sweep.mkdir()
    compared = run_command("compare", results=folder.path.parent)
    assert "Trials of a sweep are not arms. To rank them: shaperun report searched" in compared
    assert best_arm not in compared
    run_command("record-gif", "--format", "webp", results=folder.path.parent)
    films = {path.stem for path in folder.gifs.iterdir()}
    assert films == {"default", "guided", best_arm, "side-by-side"}
    shutil.rmtree(folder.path / "runs/default")
    shutil.rmtree(folder.path / "runs/guided")
    output = run_command("compare", results=folder.path.parent)
    assert "no arm of searched has been trained into" in output
    assert "the trials of its sweep are ranked by the command report" in output


def test_a_sweep_that_was_not_started_is_reported(searched: Path, tmp_path: Path) -> None:
    (tmp_path / "searched").mkdir()
    shutil.copy(searched / "results/searched/study.yaml", tmp_path / "searched")
    states = run_command("status", results=tmp_path)
    command = f"shaperun sweep searched --results {tmp_path}"
    assert states.endswith(f"Sweep not started; to start it: {command}")
