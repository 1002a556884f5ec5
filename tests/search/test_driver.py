"""Sweeps that search: the same trials whatever happens on the way, and the best confirmed."""

from __future__ import annotations

import itertools
import json
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

from shaperun.common.errors import UserError
from shaperun.common.files import Lock
from shaperun.runs import process_pool
from shaperun.runs.study_folder import StudyFolder
from shaperun.search import driver as search
from shaperun.search import halving, trial_results
from shaperun.search.sampler import PastTrial, suggest_weights
from shaperun.search.trials import Trial, append_generation, known_trials
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
        "engine": "sb3",  # a job a run; in lockstep there would be one a rung
    },
    "seeds": 2,
    "evaluation": {"every": 100, "episodes": 3, "final_episodes": 4},
    "arms": {"default": {}, "guided": {"mode": "add", "weights": {"upright": 1}}},
    "sweep": SWEEP,
}


def study(**changes: Any) -> Study:
    return parse_study(SMALL | {"sweep": SWEEP | changes})


def searched(path: Path, asked: Study) -> StudyFolder:
    folder = StudyFolder(path)
    for _ in search.drive(asked, folder, process_pool.run_inline):
        pass
    return folder


def outcome(asked: Study, folder: StudyFolder) -> list[tuple[Any, ...]]:
    found = trial_results.evaluate_trials(asked, folder, known_trials(asked, folder))
    return [(r.trial.arm, r.state, r.values, r.stopped_at) for r in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A search that nothing disturbed; nobody may change it."""
    return searched(tmp_path_factory.mktemp("whole") / "small", study())


def test_a_search_prunes_finishes_and_confirms(whole: StudyFolder) -> None:
    asked = study()
    found = trial_results.evaluate_trials(asked, whole, known_trials(asked, whole))
    assert [r.trial.generation for r in found] == [0, 0, 0, 0, 1, 1]
    states = [r.state for r in found]
    assert states[:4].count("done") == 1
    assert states[:4].count("pruned") == 3
    assert {r.stopped_at for r in found if r.state == "pruned"} <= {100, 200}
    for r in found:
        for seed in asked.seeds:
            progress = whole.run(r.trial.arm, seed).read_progress()["timesteps"]
            assert progress == (r.stopped_at or 400)  # it learned no further than it was judged
    (winner,) = trial_results.best_trials(asked, found)
    assert winner.values == max(r.values for r in found if r.state == "done" and r.values)
    assert search.fresh_seeds(asked) == [2]
    assert whole.run(winner.trial.arm, 2).is_done()
    assert {s.state for s in search.run_statuses(asked, whole)} == {"done", "pruned"}


class KilledError(BaseException):
    """As unforeseen as a SIGKILL."""


@pytest.mark.parametrize("jobs", [5, 14])
def test_a_search_that_was_killed_comes_to_the_same(
    jobs: int, whole: StudyFolder, tmp_path: Path
) -> None:
    asked, folder = study(), killed_after(jobs, tmp_path, study())
    with folder.trials.open("a") as file:
        file.write("7,")  # torn, as a line is that was being written
    searched(folder.path, asked)
    assert outcome(asked, folder) == outcome(asked, whole)
    assert folder.trials.read_bytes().startswith(whole.trials.read_bytes())
    for result in trial_results.evaluate_trials(asked, folder, known_trials(asked, folder)):
        for seed in asked.seeds:
            mine, theirs = (f.run(result.trial.arm, seed).evaluations for f in (folder, whole))
            assert mine.read_bytes() == theirs.read_bytes()


def killed_after(jobs: int, path: Path, asked: Study) -> StudyFolder:
    """A search that came so far."""
    left = itertools.count(jobs, -1)

    def dying(some: Iterable[process_pool.Job]) -> Iterator[process_pool.Finished | None]:
        for job in some:
            if not next(left):
                raise KilledError
            yield from process_pool.run_inline([job])

    folder = StudyFolder(path / "small")
    with pytest.raises(KilledError):
        list(search.drive(asked, folder, dying))
    return folder


def test_a_search_in_lockstep_prunes_and_survives_a_kill_too(tmp_path: Path) -> None:
    """A job is a rung of a generation: the trials that are left, from where they were kept."""
    asked = parse_study(SMALL | {"training": SMALL["training"] | {"engine": "lockstep"}})
    calm = searched(tmp_path / "calm", asked)
    states = [state for _, state, _, _ in outcome(asked, calm)]
    assert {"done", "pruned"} == set(states)
    folder = killed_after(2, tmp_path, asked)
    assert outcome(asked, folder) != outcome(asked, calm)
    searched(folder.path, asked)
    assert outcome(asked, folder) == outcome(asked, calm)


def test_the_order_in_which_runs_end_changes_nothing(whole: StudyFolder, tmp_path: Path) -> None:
    def backwards(jobs: Iterable[process_pool.Job]) -> Iterator[process_pool.Finished | None]:
        yield from process_pool.run_inline(list(jobs)[::-1])

    asked, folder = study(), StudyFolder(tmp_path / "small")
    list(search.drive(asked, folder, backwards))
    assert outcome(asked, folder) == outcome(asked, whole)


def test_more_trials_are_added_to_a_finished_search(whole: StudyFolder, tmp_path: Path) -> None:
    few, more = study(samples=4), study(samples=6)
    folder = searched(tmp_path / "small", few)
    assert len(known_trials(few, folder)) == 4
    searched(folder.path, more)
    assert outcome(more, folder) == outcome(more, whole)


def test_another_search_is_refused(whole: StudyFolder) -> None:
    with pytest.raises(UserError, match=r"sweep\.seed: 0 there, 1 here"):
        known_trials(study(seed=1), whole)


def test_damaged_trials_are_refused(tmp_path: Path) -> None:
    asked, folder = study(), StudyFolder(tmp_path / "small")
    append_generation(asked, folder, [], [{"upright": 1.0, "centred": 2.0}])
    good = folder.trials.read_text()
    for bad in ("nan", "1e999", "11", "=1+1", "..", ""):
        folder.trials.write_text(good.replace("1.0", bad))
        with pytest.raises(UserError, match="damaged"):
            known_trials(asked, folder)


def test_one_command_searches_at_a_time(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "small")
    folder.search_lock.parent.mkdir(parents=True)
    lease = Lock(folder.search_lock)
    assert lease.acquire()
    with pytest.raises(UserError, match="another command is at this sweep"):
        next(search.drive(study(), folder, process_pool.run_inline))
    with pytest.raises(UserError, match="another command is at this sweep"):
        search.ensure_not_running(folder)
    lease.release()
    search.ensure_not_running(folder)


def test_beginning_anew_replaces_what_another_search_left(tmp_path: Path) -> None:
    small = SMALL | {"sweep": SWEEP | {"samples": 2, "population": 2, "pruning": None}, "seeds": 1}
    longer = parse_study(small | {"training": SMALL["training"] | {"total_timesteps": 500}})
    folder = searched(tmp_path / "small", parse_study(small))
    with pytest.raises(UserError, match="total_timesteps: 400 there, 500 here"):
        searched(folder.path, longer)
    list(search.drive(longer, folder, process_pool.run_inline, fresh=True))
    alone = searched(tmp_path / "alone", longer)
    assert outcome(longer, folder) == outcome(longer, alone)
    (winner,) = trial_results.best_trials(
        longer, trial_results.evaluate_trials(longer, alone, known_trials(longer, alone))
    )
    for seed in (0, 1):
        mine, its = (f.run(winner.trial.arm, seed).evaluations for f in (folder, alone))
        assert mine.read_bytes() == its.read_bytes()


def test_a_grid_is_pruned_too(tmp_path: Path) -> None:
    grid = {
        "method": "grid",
        "base": "guided",
        "weights": {"upright": [0, 1, 2, 3]},
        "pruning": "halving",
        "objective": "-length",  # the opposite of the return, which decides all the same
        "confirm": 0,
    }
    asked = parse_study(SMALL | {"sweep": grid, "seeds": 1})
    folder = searched(tmp_path / "small", asked)
    states = [state for _, state, _, _ in outcome(asked, folder)]
    assert sorted(states) == ["done", "pruned", "pruned", "pruned"]
    early = trial_results.measure(asked, folder, known_trials(asked, folder), [0], at=100)
    longest = sorted(early, key=lambda trial: -early[trial]["return"])
    assert states.index("done") in longest[:2]
    assert {states[trial] for trial in longest[2:]} == {"pruned"}


def test_a_failed_run_fails_its_trial_and_no_other(tmp_path: Path) -> None:
    def failing(jobs: Iterable[process_pool.Job]) -> Iterator[process_pool.Finished | None]:
        for job in jobs:
            if "upright=1/0" in job.arguments[0][0][0]:
                yield process_pool.Finished(job, "ValueError: no")
            else:
                yield from process_pool.run_inline([job])

    grid = {"method": "grid", "base": "guided", "weights": {"upright": [0, 1, 2]}, "confirm": 0}
    asked = parse_study(SMALL | {"sweep": grid})
    folder = StudyFolder(tmp_path / "small")
    *_, last = search.drive(asked, folder, failing)
    assert [state.state for state in last].count("failed") == 1
    assert [state for _, state, _, _ in outcome(asked, folder)] == ["done", "failed", "done"]
    searched(folder.path, asked)  # the same command tries it again
    assert {state for _, state, _, _ in outcome(asked, folder)} == {"done"}


def test_the_better_half_goes_on() -> None:
    returns = {0: 1.0, 1: 1.5, 2: 0.0, 3: 2.0}
    assert halving.better_half([0, 1, 2, 3], returns) == {1, 3}
    assert halving.better_half([2, 3], returns) == {3}  # compared with all that came so far
    assert halving.better_half([0, 1], {0: 1.0, 1: 1.0}) == {0}
    assert halving.better_half([0, 4], {0: 1.0}) == {0}
    assert halving.rungs(study()) == [100, 200]
    assert halving.rungs(study(pruning=None)) == []


@pytest.mark.parametrize("method", ["tpe", "nsga2", "cmaes"])
def test_suggestions_depend_on_the_history_alone_and_learn_from_it(method: str) -> None:
    changes = {"method": method, "samples": 60, "population": 6, "pruning": None}
    if method == "nsga2":
        changes["objective"] = ["return", "-length"]
    sweep = study(**changes).sweep
    assert isinstance(sweep, SearchSweep)

    def value(weights: dict[str, float]) -> tuple[float, ...]:
        miss = (weights["upright"] - 7) ** 2 + (np.log(weights["centred"]) - 1) ** 2
        return (-miss, weights["upright"] * 0)[: len(sweep.objective)]

    history: list[list[PastTrial]] = []
    for _ in range(10):
        drawn = suggest_weights(sweep, history, 6)
        assert drawn == suggest_weights(sweep, history, 6)
        assert all(0 <= w["upright"] <= 10 and 0.1 <= w["centred"] <= 10 for w in drawn)
        history.append([PastTrial(weights, value(weights)) for weights in drawn])
    if method == "nsga2":  # which crosses what it has, and mutates much of it where that is little
        late = [value for tried in history[-1] for value in tried.weights.values()]
        before = {value for g in history[:-1] for t in g for value in t.weights.values()}
        assert len(before & set(late)) >= len(late) // 3
        return
    means = [np.mean([t.values[0] for t in g if t.values]) for g in history]
    assert np.mean(means[-3:]) > np.mean(means[:3]) / 2  # misses are halved at least


def test_stopped_and_failed_trials_are_told_as_such() -> None:
    sweep = study().sweep
    assert isinstance(sweep, SearchSweep)
    drawn = suggest_weights(sweep, [], 4)
    told = [((1.0,), None), ((2.0,), None), ((3.0,), None), ((4.0,), None)]
    other = [(None, None), ((2.0,), 100), ((3.0,), None), ((4.0,), None)]
    one, two = (
        suggest_weights(
            sweep, [[PastTrial(w, *end) for w, end in zip(drawn, ends, strict=True)]], 3
        )
        for ends in (told, other)
    )
    assert len(one) == len(two) == 3
    assert one != two


def test_what_was_not_drawn_so_is_refused() -> None:
    sweep = study().sweep
    assert isinstance(sweep, SearchSweep)
    with pytest.raises(UserError, match="were not drawn by Optuna"):
        suggest_weights(sweep, [[PastTrial({"upright": 1.0, "centred": 1.0}, (1.0,))]], 1)


def test_of_two_objectives_the_front_is_best() -> None:
    asked = study(method="nsga2", objective=["return", "-length"], pruning=None)
    trials = [Trial(n, 0, str(n), {"upright": 1.0, "centred": 1.0}) for n in range(4)]
    values = [(1.0, 5.0), (2.0, 6.0), (0.5, 5.0), (9.0, 1.0)]
    states = ["done", "done", "done", "pruned"]
    found = [
        trial_results.TrialResult(t, s, v)  # type: ignore[arg-type]
        for t, s, v in zip(trials, states, values, strict=True)
    ]
    assert [r.trial.number for r in trial_results.best_trials(asked, found)] == [0, 1]


def test_the_command_line_searches_ranks_and_writes_the_best(
    tmp_path: Path, shaperun: Shaperun, whole: StudyFolder
) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False))
    folder = StudyFolder(tmp_path / "results" / "small")
    command = [sys.executable, "-m", "shaperun", "sweep", "small.yaml", "--workers", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1) as driver:
        while len(list(folder.path.glob("runs/*/*/checkpoint-*.bin"))) < 3:
            assert driver.poll() is None
            time.sleep(0.01)
        driver.kill()
    done = shaperun("sweep", "small.yaml", "--set", "sweep.samples=4", "--workers", "3")
    assert done.returncode == 0, done.stderr
    assert outcome(study(samples=4), folder) == outcome(study(), whole)[:4]
    assert "with 1 fresh seed" in done.stdout
    assert "stopped early and are in no ranking" in done.stdout
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
