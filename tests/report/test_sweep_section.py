"""What the report says of a search: what was pruned, and what confirms the best, stand apart."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shaperun.common.errors import UserError
from shaperun.report import data, page, sections, sweep_section
from shaperun.report.data import (
    ReportData,
    SweepData,
    load_report_data,
    load_sweep_data,
    summarize_episodes,
)
from shaperun.runs.open_study import open_study
from shaperun.runs.study_folder import StudyFolder
from shaperun.search import trial_results
from shaperun.search.driver import fresh_seeds
from shaperun.search.trial_results import TrialResult
from shaperun.search.trials import known_trials
from shaperun.study.models import Study
from tests.conftest import SEARCHED


def read(folder: Path, *overrides: str) -> ReportData:
    study, there = open_study("searched", folder / "results", overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_film", lambda *_: None)
        return load_report_data(study, there, print)


@pytest.fixture(scope="module")
def material(searched: Path) -> ReportData:
    return read(searched)


@pytest.fixture(scope="module")
def text(material: ReportData) -> str:
    return page.page(material, static=True)


@pytest.fixture(scope="module")
def judged(searched: Path) -> dict[str, list[TrialResult]]:
    """What became of the trials, by state."""
    study, folder = open_study("searched", searched / "results")
    found = trial_results.evaluate_trials(study, folder, known_trials(study, folder))
    return {state: [r for r in found if r.state == state] for state in ("done", "pruned")}


def names(results: list[TrialResult]) -> list[str]:
    return [result.trial.arm for result in results]


def of(material: ReportData) -> SweepData:
    assert material.trials
    return material.trials


def section(text: str) -> str:
    found = re.search(r'<section id="sweep".*?</section>', text, re.DOTALL)
    assert found
    return found.group()


def test_what_was_pruned_stands_apart(
    material: ReportData, text: str, judged: dict[str, list[TrialResult]]
) -> None:
    pruned = names(judged["pruned"])
    assert len(pruned) == 4
    for table in (material.episodes, material.curves, material.updates):
        assert not set(pruned) & set(table["arm"])
    assert not set(pruned) & {*material.study.arms, *(arm.arm for arm in material.summary.arms)}
    for result in judged["pruned"]:
        [value] = result.values or ()
        said = f"pruned after {result.stopped_at} of 400 steps at return {value:,.1f}"
        assert f"<bdi>{result.trial.arm}</bdi>: {said}" in section(text)
        assert text.count(result.trial.arm) == 1
    assert "2 finished, 4 pruned. Pruned by successive halving: at the first" in section(text)
    assert "from 100 and again from 200 of 400 steps on" in section(text)
    assert "are left out of" not in text  # being pruned is no failure


def test_finished_trials_are_ranked(
    material: ReportData, text: str, judged: dict[str, list[TrialResult]]
) -> None:
    ranked = sorted(judged["done"], key=lambda result: -(result.values or (0.0,))[0])
    assert list(material.study.arms) == ["default", "guided", *names(ranked)]
    text = section(text)
    assert re.findall(r'<th scope="row" title="([^"]*)">', text) == names(ranked)
    assert "Method tpe over the weights of guided (upright, centred), for more return: 6" in text
    assert "each trained with seeds 0, 1 and worth the interquartile mean of its runs." in text
    by_arm = {arm.arm: arm.metrics["return"] for arm in material.summary.arms}
    for result in ranked:
        assert result.values == pytest.approx([by_arm[result.trial.arm].iqm])
    assert text.count("image/svg+xml") >= 4  # two weights, both together, all of them


def test_the_best_is_shown_on_fresh_seeds_and_these_runs_nowhere_else(
    material: ReportData, text: str, searched: Path
) -> None:
    study, folder = open_study("searched", searched / "results")
    fresh = fresh_seeds(study)
    [winner] = of(material).found.best
    best = winner.result.trial.arm
    assert winner.values
    assert fresh == winner.seeds == [2, 3]
    assert set(material.episodes["seed"]) == {0, 1}
    assert {arm.runs for arm in material.summary.arms} == {2}
    [value] = winner.values
    assert f"with return {(winner.result.values or ())[0]:,.1f} on the seeds of the search" in text
    assert f"and return {value:,.1f} on 2 fresh seeds." in text
    assert sweep_section.LUCK in section(text)
    assert f"{best}</bdi>/3" in text  # among those that made the page
    assert folder.run(best, 3).read_record()["identity"] in text
    assert f"{2 * 2 + 6 * 2 + 2} runs, " in text  # pruned and confirming runs took their time too


@pytest.mark.parametrize(
    ("confirm", "said"),
    [("0", "Not confirmed: the study asks for no"), ("3", "Not confirmed yet: the runs with the")],
)
def test_what_is_not_confirmed_says_so(
    material: ReportData, searched: Path, confirm: str, said: str
) -> None:
    study, folder = open_study("searched", searched / "results", [f"sweep.confirm={confirm}"])
    trials = load_sweep_data(study, folder)
    assert trials
    found = sweep_section.sweep_section(study, trials, material.summary.arms)
    assert found["confirmation"].startswith(said)
    assert found["best"][0]["search"][0][0]
    assert found["best"][0]["fresh"] == []
    assert sweep_section.lead(trials).endswith("of the search, not confirmed on fresh ones.")


def test_no_trial_takes_the_place_of_an_untrained_baseline(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched / "results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results/searched/runs/default")
    material = read(tmp_path)
    assert material.study.baseline == "default"
    text = page.page(material, static=True)
    assert "No run of default is finished, so there is nothing to compare with." in text
    assert '<article class="card"' not in text
    assert "<td>baseline</td>" not in text


def test_before_any_trial_there_are_the_arms(searched: Path, tmp_path: Path) -> None:
    study, _ = open_study("searched", searched / "results")
    arms = tmp_path / "results/searched"
    for arm in study.arms:
        shutil.copytree(searched / "results/searched/runs" / arm, arms / "runs" / arm)
    shutil.copy(searched / "results/searched/study.yaml", arms)
    material = read(tmp_path)
    assert list(material.study.arms) == ["default", "guided"]
    text = page.page(material, static=True)
    assert "The sweep: no trial is finished yet." in text
    assert "6 not drawn yet." in section(text)


def test_a_sweep_without_a_finished_run_is_said(tmp_path: Path) -> None:
    study = Study.model_validate(SEARCHED)
    with pytest.raises(UserError, match="shaperun train or sweep it"):
        load_report_data(study, StudyFolder(tmp_path), print)


def test_reading_writes_nothing(searched: Path) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in searched.rglob("*")}

    before = files()
    read(searched)
    assert files() == before


def crowd(material: ReportData, count: int) -> ReportData:
    """The same with so many finished trials, all of them copies of the best."""
    trials = of(material)
    [best, *_] = trials.ranked
    row = trials.found.ranking.filter(arm=best)
    arms = [f"upright={k}" for k in range(count)]
    ranking = pl.concat([row.with_columns(pl.lit(arm).alias("arm")) for arm in arms])
    own = material.episodes.filter(~pl.col("arm").is_in(trials.ranked))
    one = material.episodes.filter(arm=best)
    episodes = pl.concat([own, *(one.with_columns(pl.lit(arm).alias("arm")) for arm in arms)])
    rewards = dict.fromkeys(arms, material.study.arms[best])
    [winner] = trials.found.best
    result = replace(winner.result, trial=replace(winner.result.trial, arm=arms[0]))
    found = replace(
        trials.found, ranking=ranking, best=[replace(winner, result=result, values=None)]
    )
    mine = {arm: material.study.arms[arm] for arm in ("default", "guided")}
    study = material.study.model_copy(update={"arms": mine | rewards})
    return replace(
        material,
        study=study,
        episodes=episodes,
        updates=pl.DataFrame(),
        summary=summarize_episodes(study, episodes),
        states=[state for state in material.states if state.arm in mine],
        trials=replace(trials, found=found, arms=rewards, beside=()),
    )


def test_of_many_trials_the_best_are_drawn(material: ReportData) -> None:
    many = crowd(material, 30)
    drawn = ["default", "guided", *(f"upright={k}" for k in range(6))]
    assert many.shown == drawn
    text = page.page(many, static=True)
    said = "The study&#39;s own arms and the best 6 of 30 finished trials are described and drawn"
    assert said in text
    results = text[text.index('id="results"') : text.index('id="learning"')]
    first, rest = results.split("<details>")
    assert sorted(re.findall("<bdi>(.*?)</bdi>", first)) == sorted(drawn)
    assert "<summary>24 more arms</summary>" in rest
    assert "<summary>18 more finished trials</summary>" in section(text)


def test_an_interval_is_that_of_the_statistic(material: ReportData) -> None:
    arm = material.summary.arms[0]
    own = arm.metrics["return"]

    def cell(aggregate: str) -> tuple[str, str]:
        return sweep_section._cell("return", aggregate, 50.0, arm)

    assert own.low is not None
    assert cell("iqm")[0] == "50.0"
    assert cell("iqm")[1].startswith(f"{own.low:,.1f}"[:3])
    assert cell("worst") == cell("mean") == ("50.0", "")


@pytest.mark.parametrize("count", [0, 2])
def test_two_objectives_have_a_front(material: ReportData, count: int) -> None:
    trials = of(material)
    sweep: Any = trials.found.study.sweep
    sought = sweep.model_copy(update={"objective": ["return", "-length"], "pruning": None})
    [winner] = trials.found.best
    both = replace(winner, result=replace(winner.result, values=(9.0, 8.0)), values=None)
    found = replace(
        trials.found,
        study=trials.found.study.model_copy(update={"sweep": sought}),
        best=[both] * count,
        trials=[],
    )
    said = sweep_section.lead(replace(trials, found=found))
    assert said == (
        "The sweep: 2 of 2 finished trials are beaten by no other in both return and length."
        if count
        else "The sweep: no trial is finished yet."
    )


def test_a_trial_that_was_finished_before_pruning_was_asked_for_is_pruned(
    material: ReportData, judged: dict[str, list[TrialResult]]
) -> None:
    [stopped, *_] = names(judged["pruned"])
    trials = of(material)
    beside = [replace(s, state="done") if s.arm == stopped else s for s in trials.beside]
    found = sections.provenance(replace(material, trials=replace(trials, beside=beside)))
    assert stopped not in [run["arm"] for run in found["hashes"]]
    assert len(found["hashes"]) == 2 * 4 + 2
