"""The sweep's section of the report: ranking, confirmation and pruned trials."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shaperun.analysis import evaluations
from shaperun.analysis.evaluations import Evaluations
from shaperun.analysis.results import LoadedRuns
from shaperun.common.errors import UserError
from shaperun.report import data, page, provenance, record_gif, sweep_section
from shaperun.report.data import (
    ReportData,
    SweepData,
    load_report_data,
    load_sweep_data,
    summarize_episodes,
)
from shaperun.report.gif import Clip
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import RunFolder, State
from shaperun.runs.study_folder import StudyFolder
from shaperun.search import trial_results
from shaperun.search.driver import confirmation_seeds
from shaperun.search.ranking import format_objectives
from shaperun.search.trial_results import TrialResult
from shaperun.search.trials import load_trials
from shaperun.study.models import Study
from shaperun.study.sweep import RandomSweep
from tests.conftest import SEARCHED


def read(folder: Path, *overrides: str) -> ReportData:
    study, there = open_study("searched", folder / "results", overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_record_gif", lambda *_: None)
        return load_report_data(study, there, print)


@pytest.fixture(scope="module")
def report(searched: Path) -> ReportData:
    return read(searched)


@pytest.fixture(scope="module")
def text(report: ReportData) -> str:
    return page.render_page(report, static=True)


@pytest.fixture(scope="module")
def trials_by_state(searched: Path) -> dict[str, list[TrialResult]]:
    """The trials by state."""
    study, folder = open_study("searched", searched / "results")
    trials = trial_results.evaluate_trials(study, LoadedRuns(folder), load_trials(study, folder))
    return {state: [r for r in trials if r.state == state] for state in ("done", "pruned")}


def names(results: list[TrialResult]) -> list[str]:
    return [result.trial.arm for result in results]


def sweep_of(report: ReportData) -> SweepData:
    assert report.sweep
    return report.sweep


def section(text: str) -> str:
    match = re.search(r'<section id="sweep".*?</section>', text, re.DOTALL)
    assert match
    return match.group()


def test_pruned_trials_are_listed_separately(
    report: ReportData, text: str, trials_by_state: dict[str, list[TrialResult]]
) -> None:
    pruned = names(trials_by_state["pruned"])
    assert len(pruned) == 4
    for table in (report.episodes, report.curves, report.updates):
        assert not set(pruned) & set(table["arm"])
    assert not set(pruned) & {*report.study.arms, *(arm.arm for arm in report.summary.arms)}
    for result in trials_by_state["pruned"]:
        [value] = result.values or ()
        line = f"pruned after {result.stopped_at} of 400 steps at return {value:,.1f}"
        assert f"<bdi>{result.trial.arm}</bdi>: {line}" in section(text)
        assert text.count(result.trial.arm) == 1
    assert "2 finished, 4 pruned. Successive halving: at the first evaluation" in section(text)
    assert "after 100 and 200 of 400 steps" in section(text)
    assert "are left out of" not in text  # pruned is not failed


def test_finished_trials_are_ranked(
    report: ReportData, text: str, trials_by_state: dict[str, list[TrialResult]]
) -> None:
    ranked = sorted(trials_by_state["done"], key=lambda result: -(result.values or (0.0,))[0])
    assert list(report.study.arms) == ["default", "guided", *names(ranked)]
    text = section(text)
    assert re.findall(r'<th scope="row" title="([^"]*)">', text) == names(ranked)
    assert "Method tpe over weights of guided (upright, centred), for higher return: 6" in text
    assert (
        "each trained with seeds 0, 1 and valued by the interquartile mean over its runs." in text
    )
    by_arm = {arm.arm: arm.metrics["return"] for arm in report.summary.arms}
    for result in ranked:
        assert result.values == pytest.approx([by_arm[result.trial.arm].iqm])
    assert text.count("image/svg+xml") >= 4  # two weights, their pair, all weights


def test_fresh_runs_are_shown_for_the_best_trial_only(
    report: ReportData, text: str, searched: Path
) -> None:
    study, folder = open_study("searched", searched / "results")
    fresh = confirmation_seeds(study)
    [winner] = sweep_of(report).results.best
    best = winner.result.trial.arm
    assert winner.values
    assert fresh == winner.seeds == [2, 3]
    assert set(report.episodes["seed"]) == {0, 1}
    assert {arm.runs for arm in report.summary.arms} == {2}
    [value] = winner.values
    known = sweep_of(report).results.study.sweep
    assert known
    found, again = format_objectives(known, winner.result.values or (), [value])
    assert f"with {found} on the seeds of the search" in text
    assert f"and {again} on 2 fresh seeds." in text
    assert sweep_section.SELECTION_BIAS in section(text)
    assert f"{best}</bdi>/3" in text  # in the provenance
    assert folder.run(best, 3).read_record()["identity"] in text
    assert f"{2 * 2 + 6 * 2 + 2} runs, " in text  # including pruned and confirming runs


@pytest.mark.parametrize(
    ("confirm", "expected"),
    [("0", "Not confirmed: the study asks for no"), ("3", "Not confirmed yet: the runs with the")],
)
def test_missing_confirmation_is_reported(
    report: ReportData, searched: Path, confirm: str, expected: str
) -> None:
    study, folder = open_study("searched", searched / "results", [f"sweep.confirm={confirm}"])
    trials = load_sweep_data(study, LoadedRuns(folder))
    context = sweep_section.make_sweep_section(study, trials, report.summary.arms)
    assert context
    assert context["confirmation"].startswith(expected)
    assert context["best"][0]["search"][0][0]
    assert context["best"][0]["fresh"] == []
    assert sweep_section.write_headline(trials).endswith("not confirmed on fresh seeds.")


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("return", [(230.1,), (228.7,)], ["return 230.1", "return 228.7"]),
        ("profit", [(0.20513,), (0.17291,)], ["profit 0.205", "profit 0.173"]),
        ("profit", [(0.20513,), (0.20512,)], ["profit 0.205130", "profit 0.205120"]),
        ("profit", [(12398.2,)], ["profit 12,398.2"]),
        ("success_rate", [(0.97,), (0.965,)], ["success rate 97.0%", "success rate 96.5%"]),
        ("success_rate", [(0.97,), (0.5,)], ["success rate 97%", "success rate 50%"]),
    ],
)
def test_objectives_have_the_decimals_of_their_difference(
    metric: str, values: list[tuple[float]], expected: list[str]
) -> None:
    weights: Any = {"upright": {"low": 0, "high": 1}}
    sweep = RandomSweep(method="random", base="a", weights=weights, samples=1, objective=[metric])
    assert format_objectives(sweep, *values) == expected


def test_no_trial_replaces_an_untrained_baseline(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched / "results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results/searched/runs/default")
    report = read(tmp_path)
    assert report.study.baseline == "default"
    text = page.render_page(report, static=True)
    assert "so there is nothing to compare with; shaperun train FILE, with the file" in text
    assert "are left out of all tables" not in text
    assert '<article class="card"' not in text
    assert "<td>baseline</td>" not in text


def test_sweep_without_trials_is_reported(searched: Path, tmp_path: Path) -> None:
    study, _ = open_study("searched", searched / "results")
    arms = tmp_path / "results/searched"
    for arm in study.arms:
        shutil.copytree(searched / "results/searched/runs" / arm, arms / "runs" / arm)
    shutil.copy(searched / "results/searched/study.yaml", arms)
    report = read(tmp_path)
    assert list(report.study.arms) == ["default", "guided"]
    text = page.render_page(report, static=True)
    assert "Sweep: no trial is finished yet." in text
    assert "6 not drawn yet." in section(text)


def test_sweep_without_finished_run_is_refused(tmp_path: Path) -> None:
    study = Study.model_validate(SEARCHED)
    with pytest.raises(UserError, match=r"finished in .*; train or sweep it first"):
        load_report_data(study, StudyFolder(tmp_path), print)


def test_every_run_is_read_once(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_evaluations(run: Run, folder: RunFolder, *, done: bool) -> Evaluations:
        reads["evaluations", run.arm, run.seed] += 1
        return evaluations_of(run, folder, done=done)

    def read_state(folder: RunFolder, *, by_size: bool = False) -> State:
        reads["state", folder.path.parent.name, int(folder.path.name)] += 1
        return state_of(folder, by_size=by_size)

    def write(path: Path, clips: Sequence[Clip]) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"GIF")
        return path

    reads, evaluations_of, state_of = (
        Counter[tuple[str, str, int]](),
        evaluations.read_evaluations,
        RunFolder.read_state,
    )
    monkeypatch.setattr(evaluations, "read_evaluations", read_evaluations)
    monkeypatch.setattr(RunFolder, "read_state", read_state)
    monkeypatch.setattr(record_gif, "_write", write)
    shutil.copytree(searched / "results", tmp_path / "results")
    study, folder = open_study("searched", tmp_path / "results")
    assert load_report_data(study, folder, print).gif == b"GIF"
    runs = [(path.parent.name, int(path.name)) for path in folder.path.glob("runs/*/*")]
    assert len(runs) == 2 * 2 + 6 * 2 + 2
    assert reads == Counter((kind, *run) for kind in ("evaluations", "state") for run in runs)


def test_loading_writes_nothing(searched: Path) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in searched.rglob("*")}

    before = files()
    read(searched)
    assert files() == before


def crowd(report: ReportData, count: int) -> ReportData:
    """Return the report with `count` finished trials, all copies of the best."""
    trials = sweep_of(report)
    [best, *_] = trials.ranked_arms
    row = trials.results.ranking.filter(arm=best)
    arms = [f"upright={k}" for k in range(count)]
    ranking = pl.concat([row.with_columns(pl.lit(arm).alias("arm")) for arm in arms])
    own = report.episodes.filter(~pl.col("arm").is_in(trials.ranked_arms))
    one = report.episodes.filter(arm=best)
    episodes = pl.concat([own, *(one.with_columns(pl.lit(arm).alias("arm")) for arm in arms)])
    rewards = dict.fromkeys(arms, report.study.arms[best])
    [winner] = trials.results.best
    result = replace(winner.result, trial=replace(winner.result.trial, arm=arms[0]))
    results = replace(
        trials.results, ranking=ranking, best=[replace(winner, result=result, values=None)]
    )
    mine = {arm: report.study.arms[arm] for arm in ("default", "guided")}
    study = report.study.model_copy(update={"arms": mine | rewards})
    return replace(
        report,
        study=study,
        episodes=episodes,
        updates=pl.DataFrame(),
        summary=summarize_episodes(study, episodes),
        statuses=[status for status in report.statuses if status.arm in mine],
        sweep=replace(trials, results=results, arms=rewards, other_statuses=()),
    )


def test_best_of_many_trials_are_drawn(report: ReportData) -> None:
    many = crowd(report, 30)
    drawn = ["default", "guided", *(f"upright={k}" for k in range(6))]
    assert many.drawn_arms == drawn
    text = page.render_page(many, static=True)
    assert "show the study&#39;s arms and the best 6 of 30 finished trials" in text
    results = text[text.index('id="results"') : text.index("Verdicts by metric")]
    first, rest = results.split("<details>")
    assert sorted(re.findall("<bdi>(.*?)</bdi>", first)) == sorted(drawn)
    assert "<summary>24 more arms</summary>" in rest
    assert "<summary>18 more finished trials</summary>" in section(text)


def test_interval_is_of_the_same_statistic(report: ReportData) -> None:
    arm = report.summary.arms[0]
    own = arm.metrics["return"]

    def cell(aggregate: str) -> tuple[str, str]:
        return sweep_section._make_cell("return", aggregate, 50.0, arm)

    assert own.low is not None
    assert cell("iqm")[0] == "50.0"
    assert cell("iqm")[1].startswith(f"[{own.low:,.1f}"[:4])
    assert cell("worst") == cell("mean") == ("50.0", "")


@pytest.mark.parametrize("count", [0, 2])
def test_two_objectives_have_a_pareto_front(report: ReportData, count: int) -> None:
    trials = sweep_of(report)
    sweep: Any = trials.results.study.sweep
    sought = sweep.model_copy(update={"objective": ["return", "-length"], "pruning": None})
    [winner] = trials.results.best
    both = replace(winner, result=replace(winner.result, values=(9.0, 8.0)), values=None)
    results = replace(
        trials.results,
        study=trials.results.study.model_copy(update={"sweep": sought}),
        best=[both] * count,
        trials=[],
    )
    assert sweep_section.write_headline(replace(trials, results=results)) == (
        "Sweep: 2 of 2 finished trials are on the Pareto front of return and length."
        if count
        else "Sweep: no trial is finished yet."
    )


def test_trial_finished_before_pruning_was_enabled_is_pruned(
    report: ReportData, trials_by_state: dict[str, list[TrialResult]]
) -> None:
    [stopped, *_] = names(trials_by_state["pruned"])
    trials = sweep_of(report)
    statuses = [replace(s, state="done") if s.arm == stopped else s for s in trials.other_statuses]
    changed = replace(report, sweep=replace(trials, other_statuses=statuses))
    hashes = provenance.make_provenance(changed)["hashes"]
    assert stopped not in [run["arm"] for run in hashes]
    assert len(hashes) == 2 * 4 + 2
