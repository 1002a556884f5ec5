"""Sweeps: the same trials despite interruptions, and confirmation of the best."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from benchmarks.crashes import fault_injection
from shaperun.analysis.results import LoadedRuns
from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import process_pool
from shaperun.runs.study_folder import StudyFolder
from shaperun.search import driver, halving
from shaperun.search.sampler import PastTrial, suggest_weights
from shaperun.search.trial_results import (
    TrialResult,
    evaluate_trials,
    measure_trials,
    select_best_trials,
)
from shaperun.search.trials import Trial, append_generation, load_trials
from shaperun.study.models import Study, parse_study
from shaperun.study.sweep import SearchSweep
from tests.conftest import Shaperun

SWEEP = {
    "method": "tpe",
    "base": "guided",
    "pruning": "halving",
    "weights": {
        "upright": {"low": 0, "high": 10},
        "centred": {"low": 0.1, "high": 10, "log": True},
    },
    "samples": 6,
    "population": 4,
    "confirm": 1,
}
SMALL: dict[str, Any] = {
    "study": "small",
    "environment": {"id": "CartPole-v1"},
    "training": {
        "total_timesteps": 400,
        "n_envs": 2,
        "hyperparameters": {"n_steps": 50, "batch_size": 50, "n_epochs": 2},
        "engine": "sb3",  # one job per run; lockstep has one per rung
    },
    "seeds": 2,
    "evaluation": {"every": 100, "episodes": 3, "final_episodes": 4},
    "arms": {"default": {}, "guided": {"mode": "add", "weights": {"upright": 1}}},
    "sweep": SWEEP,
}


def study(**changes: Any) -> Study:
    return parse_study(SMALL | {"sweep": SWEEP | changes})


def run_sweep(path: Path, config: Study) -> StudyFolder:
    folder = StudyFolder(path)
    for _ in driver.run_sweep(config, folder, process_pool.run_inline):
        pass
    return folder


def evaluate(config: Study, folder: StudyFolder) -> list[TrialResult]:
    return evaluate_trials(config, LoadedRuns(folder), load_trials(config, folder))


def outcome(config: Study, folder: StudyFolder) -> list[tuple[Any, ...]]:
    evaluated = evaluate(config, folder)
    return [(r.trial.arm, r.state, r.values, r.stopped_at) for r in evaluated]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Run a sweep without interruptions; tests must not change it."""
    return run_sweep(tmp_path_factory.mktemp("whole") / "small", study())


def test_a_sweep_prunes_finishes_and_confirms(whole: StudyFolder) -> None:
    config = study()
    evaluated = evaluate(config, whole)
    assert [r.trial.generation for r in evaluated] == [0, 0, 0, 0, 1, 1]
    states = [r.state for r in evaluated]
    assert states[:4].count("done") == 1
    assert states[:4].count("pruned") == 3
    assert {r.stopped_at for r in evaluated if r.state == "pruned"} <= {100, 200}
    for r in evaluated:
        for seed in config.seeds:
            progress = whole.run(r.trial.arm, seed).read_progress()["timesteps"]
            assert progress == (r.stopped_at or 400)  # it trained no further than it was evaluated
    (winner,) = select_best_trials(config, evaluated)
    assert winner.values == max(r.values for r in evaluated if r.state == "done" and r.values)
    assert driver.confirmation_seeds(config) == [2]
    assert whole.run(winner.trial.arm, 2).is_done()
    assert {s.state for s in driver.read_run_statuses(config, whole)} == {"done", "pruned"}


class KilledError(KeyboardInterrupt):
    """Exception that nothing catches, like SIGKILL."""


@pytest.mark.parametrize("jobs", [5, 14])
def test_a_killed_sweep_resumes_with_the_same_results(
    jobs: int, whole: StudyFolder, tmp_path: Path
) -> None:
    config, folder = study(), killed_after(jobs, tmp_path, study())
    with folder.trials.open("a") as file:
        file.write("7,")  # a torn line, as a kill while writing leaves it
    run_sweep(folder.path, config)
    assert outcome(config, folder) == outcome(config, whole)
    assert folder.trials.read_bytes().startswith(whole.trials.read_bytes())
    for result in evaluate(config, folder):
        for seed in config.seeds:
            resumed, expected = (f.run(result.trial.arm, seed) for f in (folder, whole))
            assert resumed.evaluations.read_bytes() == expected.evaluations.read_bytes()


def killed_after(jobs: int, path: Path, config: Study) -> StudyFolder:
    """Run a sweep that is killed after so many jobs."""
    left = itertools.count(jobs, -1)

    def dying(given: Iterable[process_pool.Job]) -> Iterator[process_pool.JobResult | None]:
        for job in given:
            if not next(left):
                raise KilledError
            yield from process_pool.run_inline([job])

    folder = StudyFolder(path / "small")
    with pytest.raises(KilledError):
        list(driver.run_sweep(config, folder, dying))
    return folder


def test_a_sweep_in_lockstep_prunes_and_survives_a_kill(tmp_path: Path) -> None:
    """A job is a rung of a generation: it resumes the remaining trials from checkpoints."""
    config = parse_study(SMALL | {"training": SMALL["training"] | {"engine": "lockstep"}})
    calm = run_sweep(tmp_path / "calm", config)
    states = [state for _, state, _, _ in outcome(config, calm)]
    assert {"done", "pruned"} == set(states)
    folder = killed_after(2, tmp_path, config)
    assert outcome(config, folder) != outcome(config, calm)
    run_sweep(folder.path, config)
    assert outcome(config, folder) == outcome(config, calm)


def test_results_do_not_depend_on_the_order_of_runs(whole: StudyFolder, tmp_path: Path) -> None:
    def reversing(jobs: Iterable[process_pool.Job]) -> Iterator[process_pool.JobResult | None]:
        yield from process_pool.run_inline(list(jobs)[::-1])

    config, folder = study(), StudyFolder(tmp_path / "small")
    list(driver.run_sweep(config, folder, reversing))
    assert outcome(config, folder) == outcome(config, whole)


def test_trials_are_added_to_a_finished_sweep(whole: StudyFolder, tmp_path: Path) -> None:
    few, more = study(samples=4), study(samples=6)
    folder = run_sweep(tmp_path / "small", few)
    assert len(load_trials(few, folder)) == 4
    run_sweep(folder.path, more)
    assert outcome(more, folder) == outcome(more, whole)


def test_another_sweep_is_refused(whole: StudyFolder) -> None:
    with pytest.raises(UserError, match=r"sweep\.seed: 0 there, 1 here"):
        load_trials(study(seed=1), whole)


def test_damaged_trials_are_refused(tmp_path: Path) -> None:
    config, folder = study(), StudyFolder(tmp_path / "small")
    append_generation(config, folder, [], [{"upright": 1.0, "centred": 2.0}])
    good = folder.trials.read_text()
    for bad in ("nan", "1e999", "11", "=1+1", "..", ""):
        folder.trials.write_text(good.replace("1.0", bad))
        with pytest.raises(UserError, match="damaged"):
            load_trials(config, folder)


def test_trials_that_cannot_be_read_are_damaged(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    append_generation(study(), folder, [], [{"upright": 1.0, "centred": 1.0}])
    os.truncate(folder.trials, 2_000_000_000)
    with pytest.raises(UserError, match=r"trials\.csv is damaged"):
        load_trials(study(), folder)


def test_a_header_cut_off_by_a_full_disk_is_written_again(tmp_path: Path) -> None:
    folder, drawn = StudyFolder(tmp_path), [{"upright": 1.0, "centred": 1.0}]
    append_generation(study(), folder, [], drawn)
    expected = folder.trials.read_bytes()
    os.truncate(folder.trials, 5)
    assert load_trials(study(), folder) == []
    append_generation(study(), folder, [], drawn)
    assert folder.trials.read_bytes() == expected


@pytest.mark.parametrize("pattern", ["append */trials.csv", "create */search.json", "lock *"])
def test_a_refused_write_of_a_sweep_is_one_message(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = fault_injection.Fault(f"ENOSPC 1 before {pattern}")
    fault_injection.install(fault, monkeypatch.setattr)
    with pytest.raises(UserError, match="No space left on device; free some space and run the"):
        run_sweep(tmp_path, study())


def test_a_sweep_is_run_by_one_command_at_a_time(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "small")
    folder.sweep_lock.parent.mkdir(parents=True)
    lock = Lock(folder.sweep_lock)
    assert lock.acquire()
    with pytest.raises(UserError, match="another command is running this sweep"):
        next(driver.run_sweep(study(), folder, process_pool.run_inline))
    with pytest.raises(UserError, match="another command is running this sweep"):
        driver.ensure_not_running(folder)
    lock.release()
    driver.ensure_not_running(folder)


def test_a_fresh_sweep_replaces_another(tmp_path: Path) -> None:
    small = SMALL | {"sweep": SWEEP | {"samples": 2, "population": 2, "pruning": None}, "seeds": 1}
    longer = parse_study(small | {"training": SMALL["training"] | {"total_timesteps": 500}})
    folder = run_sweep(tmp_path / "small", parse_study(small))
    with pytest.raises(UserError, match="total_timesteps: 400 there, 500 here"):
        run_sweep(folder.path, longer)
    list(driver.run_sweep(longer, folder, process_pool.run_inline, fresh=True))
    alone = run_sweep(tmp_path / "alone", longer)
    assert outcome(longer, folder) == outcome(longer, alone)
    (winner,) = select_best_trials(longer, evaluate(longer, alone))
    for seed in (0, 1):
        fresh, expected = (f.run(winner.trial.arm, seed) for f in (folder, alone))
        assert fresh.evaluations.read_bytes() == expected.evaluations.read_bytes()


def test_a_grid_is_pruned(tmp_path: Path) -> None:
    grid = {
        "method": "grid",
        "base": "guided",
        "weights": {"upright": [0, 1, 2, 3]},
        "pruning": "halving",
        "objective": "-length",  # opposes the return, which decides about pruning
        "confirm": 0,
    }
    config = parse_study(SMALL | {"sweep": grid, "seeds": 1})
    folder = run_sweep(tmp_path / "small", config)
    states = [state for _, state, _, _ in outcome(config, folder)]
    assert sorted(states) == ["done", "pruned", "pruned", "pruned"]
    early = measure_trials(config, LoadedRuns(folder), load_trials(config, folder), [0], at=100)
    longest = sorted(early, key=lambda trial: -early[trial]["return"])
    assert states.index("done") in longest[:2]
    assert {states[trial] for trial in longest[2:]} == {"pruned"}


def test_a_failed_run_fails_only_its_trial(tmp_path: Path) -> None:
    def failing(jobs: Iterable[process_pool.Job]) -> Iterator[process_pool.JobResult | None]:
        for job in jobs:
            if "upright=1/0" in job.arguments[0][0][0]:
                yield process_pool.JobResult(job, "ValueError: no")
            else:
                yield from process_pool.run_inline([job])

    grid = {"method": "grid", "base": "guided", "weights": {"upright": [0, 1, 2]}, "confirm": 0}
    config = parse_study(SMALL | {"sweep": grid})
    folder = StudyFolder(tmp_path / "small")
    *_, last = driver.run_sweep(config, folder, failing)
    assert [state.state for state in last].count("failed") == 1
    assert [state for _, state, _, _ in outcome(config, folder)] == ["done", "failed", "done"]
    run_sweep(folder.path, config)  # failures are retried
    assert {state for _, state, _, _ in outcome(config, folder)} == {"done"}


def test_the_better_half_continues() -> None:
    returns = {0: 1.0, 1: 1.5, 2: 0.0, 3: 2.0}
    assert halving.select_better_half([0, 1, 2, 3], returns) == {1, 3}
    assert halving.select_better_half([2, 3], returns) == {3}  # compared with all four
    assert halving.select_better_half([0, 1], {0: 1.0, 1: 1.0}) == {0}
    assert halving.select_better_half([0, 4], {0: 1.0}) == {0}
    assert halving.rung_timesteps(study()) == [100, 200]
    assert halving.rung_timesteps(study(pruning=None)) == []


@pytest.mark.parametrize("method", ["tpe", "nsga2", "cmaes"])
def test_suggestions_are_determined_by_the_history_and_improve(method: str) -> None:
    changes = {"method": method, "samples": 60, "population": 6, "pruning": None}
    if method == "nsga2":
        changes["objective"] = ["return", "-length"]
    sweep = study(**changes).sweep
    assert isinstance(sweep, SearchSweep)

    def value(weights: dict[str, float]) -> tuple[float, ...]:
        error = (weights["upright"] - 7) ** 2 + (np.log(weights["centred"]) - 1) ** 2
        return (-error, weights["upright"] * 0)[: len(sweep.objective)]

    history: list[list[PastTrial]] = []
    for _ in range(10):
        drawn = suggest_weights(sweep, history, 6)
        assert drawn == suggest_weights(sweep, history, 6)
        assert all(0 <= w["upright"] <= 10 and 0.1 <= w["centred"] <= 10 for w in drawn)
        history.append([PastTrial(weights, value(weights)) for weights in drawn])
    if method == "nsga2":  # it crosses weights of earlier trials, and mutates some
        late = [value for trial in history[-1] for value in trial.weights.values()]
        earlier = {value for g in history[:-1] for t in g for value in t.weights.values()}
        assert len(earlier & set(late)) >= len(late) // 3
        return
    means = [np.mean([t.values[0] for t in g if t.values]) for g in history]
    assert np.mean(means[-3:]) > np.mean(means[:3]) / 2  # errors are at least halved


def test_pruned_and_failed_trials_affect_suggestions() -> None:
    sweep = study().sweep
    assert isinstance(sweep, SearchSweep)
    drawn = suggest_weights(sweep, [], 4)
    finished = [((1.0,), None), ((2.0,), None), ((3.0,), None), ((4.0,), None)]
    other = [(None, None), ((2.0,), 100), ((3.0,), None), ((4.0,), None)]
    one, two = (
        suggest_weights(
            sweep, [[PastTrial(w, *end) for w, end in zip(drawn, ends, strict=True)]], 3
        )
        for ends in (finished, other)
    )
    assert len(one) == len(two) == 3
    assert one != two


def test_a_history_of_other_weights_is_refused() -> None:
    sweep = study().sweep
    assert isinstance(sweep, SearchSweep)
    with pytest.raises(UserError, match="were not drawn by Optuna"):
        suggest_weights(sweep, [[PastTrial({"upright": 1.0, "centred": 1.0}, (1.0,))]], 1)


def test_best_trials_of_two_objectives_are_the_pareto_front() -> None:
    config = study(method="nsga2", objective=["return", "-length"], pruning=None)
    trials = [Trial(n, 0, str(n), {"upright": 1.0, "centred": 1.0}) for n in range(4)]
    values = [(1.0, 5.0), (2.0, 6.0), (0.5, 5.0), (9.0, 1.0)]
    states = ["done", "done", "done", "pruned"]
    evaluated = [
        TrialResult(t, s, v)  # type: ignore[arg-type]
        for t, s, v in zip(trials, states, values, strict=True)
    ]
    assert [r.trial.number for r in select_best_trials(config, evaluated)] == [0, 1]


def test_the_command_runs_ranks_and_writes_the_best(
    tmp_path: Path, shaperun: Shaperun, whole: StudyFolder
) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False))
    folder = StudyFolder(tmp_path / "results" / "small")
    command = [sys.executable, "-m", "shaperun", "sweep", "small.yaml", "--workers", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1) as process:
        while len(list(folder.path.glob("runs/*/*/checkpoint-*.bin"))) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    done = shaperun("sweep", "small.yaml", "--set", "sweep.samples=4", "--workers", "3")
    assert done.returncode == 0, done.stderr
    assert outcome(study(samples=4), folder) == outcome(study(), whole)[:4]
    assert "with 1 fresh seed" in done.stdout
    assert "stopped early and not ranked" in done.stdout
    document = json.loads((folder.sweep / "ranking.json").read_text())
    pruned = {t["arm"] for t in document["trials"] if t["state"] == "pruned"}
    assert pruned
    ranking = pl.read_csv(folder.sweep / "ranking.csv")
    assert not pruned & set(ranking["arm"])
    (winner,) = document["best"]
    assert winner["fresh"]["seeds"] == [2]
    assert winner["fresh"]["values"] != winner["search"]["values"]
    states = json.loads(shaperun("status", "small.yaml", "--json").stdout)["runs"]
    assert {run["state"] for run in states} == {"waiting", "done", "pruned"}
    best = folder.sweep / "best.yaml"
    planned = shaperun("train", str(best), "--dry-run")
    assert planned.returncode == 0, planned.stderr
