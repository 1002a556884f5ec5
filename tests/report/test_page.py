"""The content of the report, and the page in a headless browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from shaperun.analysis import learning_speed
from shaperun.analysis.results import LoadedRuns
from shaperun.common.errors import UserError
from shaperun.common.text import humanize
from shaperun.report import charts, data, page, sections
from shaperun.report.data import ReportData, load_report_data, load_sweep_data, summarize_episodes
from shaperun.runs.open_study import open_study
from shaperun.runs.status import RunStatus
from shaperun.study.models import parse_study

HOSTILE = {
    "default": "</script><script>document.hacked = 1</script>",
    "guided": "=cmd|' /C calc'!A0 \u202etxt.exe <img src=x onerror='document.hacked = 1'>",
}


def renamed(report: ReportData, names: dict[str, str]) -> ReportData:
    """Return the report with arm names that no study file may have."""
    arms = {names[arm]: reward for arm, reward in report.study.arms.items()}
    study = report.study.model_copy(update={"arms": arms, "study": HOSTILE["guided"]})
    renaming = pl.col("arm").replace_strict(names)
    episodes = report.episodes.with_columns(renaming)
    return replace(
        report,
        study=study,
        episodes=episodes,
        updates=report.updates.with_columns(renaming),
        summary=summarize_episodes(study, episodes),
        statuses=[replace(status, arm=names[status.arm]) for status in report.statuses],
        records={(names[arm], seed): r for (arm, seed), r in report.records.items()},
        resolved=f"# {HOSTILE['default']}\n",
    )


@pytest.fixture(scope="module")
def text(report: ReportData) -> str:
    return page.render_page(report)


@pytest.fixture(scope="module")
def static_text(report: ReportData) -> str:
    return page.render_page(report, static=True)


def opened(chrome: Chrome, text: str, path: Path) -> Chrome:
    path.write_text(text, encoding="utf-8")
    log(chrome, "performance")  # discards earlier entries
    chrome.get(path.as_uri())
    return chrome


def log(chrome: Chrome, kind: str) -> list[dict[str, Any]]:
    """Return the entries since the last call."""
    return list(chrome.get_log(kind))  # type: ignore[no-untyped-call]


def requests(chrome: Chrome) -> list[str]:
    """Return the URLs that the page requested since it was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in log(chrome, "performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def visible_traces(chrome: Chrome) -> list[bool]:
    script = "return document.getElementById('curves').data.map((trace) => trace.visible)"
    return list(chrome.execute_script(script))


def test_page_works_in_a_browser(
    report: ReportData, text: str, chrome: Chrome, tmp_path: Path
) -> None:
    browser = opened(chrome, text, tmp_path / "page.html")
    WebDriverWait(browser, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#curves .scatter"))
    assert log(browser, "browser") == []
    assert {url.split(":")[0] for url in requests(browser)} <= {"file", "data"}
    boxes = browser.find_elements(By.CSS_SELECTOR, "input[data-arm]")
    assert len(boxes) == len(report.study.arms)
    assert visible_traces(browser) == [True] * 6
    for index, box in enumerate(boxes):  # by keyboard, one at a time
        box.send_keys(Keys.SPACE)
        hidden = [index == k // 3 for k in range(6)]
        WebDriverWait(browser, 5).until(lambda d, h=hidden: visible_traces(d) == [not x for x in h])  # type: ignore[misc]
        box.send_keys(Keys.SPACE)
    browser.find_element(By.ID, "single-runs").send_keys(Keys.SPACE)
    assert visible_traces(browser) == [True, False, True] * 2
    assert not browser.find_element(By.CSS_SELECTOR, ".curves-picture").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.find_element(By.CSS_SELECTOR, ".curves-picture").is_displayed()
    assert not browser.find_element(By.ID, "curves").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_small_returns_are_no_flat_line(report: ReportData, chrome: Chrome, tmp_path: Path) -> None:
    episodes = report.episodes.with_columns(pl.col("return", "shaped_return") * 1e-6)
    text = page.render_page(replace(report, episodes=episodes))
    browser = opened(chrome, text, tmp_path / "page.html")
    WebDriverWait(browser, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#curves .scatter"))
    chart = "document.getElementById('curves')"
    values = browser.execute_script(f"return {chart}.data[2].y")
    expected = summarize_curves(report) * 1e-6
    assert values == pytest.approx(expected.to_list(), rel=1e-5)
    assert browser.execute_script(f"return {chart}.data[2].customdata[0]").startswith("0.0000")
    low, high = browser.execute_script(f"return {chart}.layout.yaxis.range")
    returns = episodes["return"]
    assert high - low < 2 * (max(returns) - min(returns))
    ticks = browser.find_element(By.CSS_SELECTOR, "#curves .yaxislayer-above").text
    assert "0.0000" in ticks
    assert "μ" not in ticks


def summarize_curves(report: ReportData) -> pl.Series:
    """Return the centers of the first arm's learning curve."""
    environment = report.study.evaluated_environment.describe()
    center = learning_speed.center_curves(report.curves, environment)
    return center.filter(arm=next(iter(report.study.arms))).sort("timesteps")["return_center"]


@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_a_phone(text: str, chrome: Chrome, tmp_path: Path, dark: bool) -> None:
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser = opened(chrome, text, tmp_path / "page.html")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    for figure in browser.find_elements(By.CSS_SELECTOR, ".figure svg, .picture"):
        assert figure.rect["x"] + figure.rect["width"] <= 360  # not cut, but scaled
    style = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(style) == ("rgb(18, 20, 23)" if dark else "rgb(245, 246, 247)")
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("static", [False, True])
def test_hostile_names_are_shown_as_text(
    report: ReportData, chrome: Chrome, tmp_path: Path, static: bool
) -> None:
    text = page.render_page(renamed(report, HOSTILE), static=static)
    browser = opened(chrome, text, tmp_path / "page.html")
    assert browser.execute_script("return document.hacked === undefined")
    assert log(browser, "browser") == []
    shown = browser.find_element(By.TAG_NAME, "body").text
    assert HOSTILE["default"] in shown
    assert HOSTILE["guided"].replace("\u202e", "\\u202e") in shown
    assert "\u202e" not in text


def test_static_page_has_no_javascript(static_text: str) -> None:
    assert "<script" not in static_text
    assert "script-src &#39;none&#39;;" in static_text
    assert len(static_text) < 1_500_000


def test_page_makes_no_network_requests(static_text: str) -> None:
    addresses = re.findall(r"""(?:src|href|action)=["']?([^"'\s>]*)""", static_text)
    assert {address[:5] for address in addresses if not address.startswith("#")} <= {"data:"}


def test_page_is_deterministic(report: ReportData, text: str) -> None:
    assert page.render_page(report) == text


def test_page_has_verdicts_and_provenance(report: ReportData, static_text: str) -> None:
    verdict = next(c for c in report.summary.comparisons if c.metric == "return").result.verdict
    words = ("Did the reward help?", verdict, "Final policies")
    places = [static_text.index(word) for word in words]
    assert places == sorted(places)
    for record in report.records.values():
        assert record["identity"] in static_text
        assert record["files"]["policy.zip"] in static_text
        assert record["versions"]["torch"] in static_text
    assert "shaperun train tiny\n" in static_text  # the name of its results
    assert "shaperun train my.yaml\n" in page.render_page(
        replace(report, file="my.yaml"), static=True
    )
    assert "have the seeds 0, 1." in static_text
    assert "upright: 1" in static_text  # in the study with all defaults
    code = {"git_revision": "9940964", "code": {"myenvs": "f73a0f"}}
    records = {key: {**record, **code} for key, record in report.records.items()}
    text = page.render_page(replace(report, records=records), static=True)
    assert "<dt>git revision of the working folder</dt><dd>9940964</dd>" in text
    assert "<dt>SHA-256 of myenvs</dt><dd>f73a0f</dd>" in text


def test_outcomes_that_occurred_have_a_legend(static_text: str, report: ReportData) -> None:
    [legend] = re.findall(r'<ul class="legend">(.*?)</ul>', static_text)
    names = re.findall(r"</span>(.*?)</li>", legend)
    assert set(names) == {humanize(name) for name in report.final["outcome"]}


def test_gaps_of_the_cross_rewards_are_explained(report: ReportData) -> None:
    """A term that runs lack, and one that they define with another parameter."""
    near: dict[str, Any] = {"formula": "-k * abs(obs[0])", "k": 1}
    arms = {
        "default": {},
        "guided": {"mode": "add", "terms": {"near": near}, "weights": {"near": 1}},
        "capped": {"mode": "add", "terms": {"near": {**near, "k": 3}}, "weights": {"near": 1}},
    }
    study = parse_study(report.study.model_dump(mode="json") | {"arms": arms})
    rows = [("default", "guided", "near"), ("guided", "capped", "near"), ("guided", "guided", "")]
    table = pl.DataFrame(rows, ["arm", "reward", "missing"], orient="row")
    absent, differing = sections._describe_gaps(table, study)
    assert absent.startswith("some runs did not record near; define")
    assert differing.startswith("some runs recorded near with another formula or other parameters")
    assert list(sections._describe_gaps(table.slice(1), study)) == [differing]


def test_page_has_verdicts_by_metric(report: ReportData, static_text: str) -> None:
    (table,) = re.findall(
        r'aria-label="Table of verdicts by metric">(.*?)</div>', static_text, re.DOTALL
    )
    heads = re.findall(r'<th scope="col">(.*?)</th>', table)
    assert heads == ["arm", *(name.replace("_", " ") for name in report.summary.arms[0].metrics)]
    verdicts = [
        c.result.verdict
        for c in report.summary.comparisons
        if c.metric not in ("auc", "steps_to_solved")
    ]
    assert re.findall(r'<span class="pill .*?">(.*?)</span>', table) == verdicts
    assert len(verdicts) == len(heads) - 1


def test_rewards_and_learners_are_tabulated(report: ReportData, static_text: str) -> None:
    assert "Rewards and learners" not in static_text
    raw = report.study.model_dump(mode="json")
    raw["arms"]["by_a2c"] = {"training": {"algorithm": "A2C"}}
    text = page.render_page(replace(report, study=parse_study(raw)), static=True)
    (table,) = re.findall(
        r'aria-label="Table of rewards and learners">(.*?)</div>', text, re.DOTALL
    )
    assert re.findall(r'<th scope="col">(.*?)</th>', table) == ["reward", "PPO", "A2C"]
    assert re.findall(r"<bdi>(.*?)</bdi>", table) == ["default", "guided"]
    assert table.count("<td>–</td>") == 2  # not trained
    assert "by_a2c was trained differently from default: training.algorithm is PPO" in text
    assert "PPO and A2C on CartPole-v1" in text


def test_captions_name_what_the_chart_leaves_out(report: ReportData) -> None:
    text = page.render_page(report, static=True)  # 475 is far above these returns, of one episode
    assert "It is above the axis of the chart." in text
    evaluation = report.study.evaluation
    assert f"curves: {evaluation.episodes} episode" in text
    episodes = report.episodes.with_columns(pl.col("return") + 400)
    assert "the axis of the chart" not in page.render_page(
        replace(report, episodes=episodes), static=True
    )


def test_missing_runs_are_counted(report: ReportData, static_text: str) -> None:
    lost = RunStatus("guided", 7, "failed", failure="FloatingPointError: diverged: NaN")
    stopped = RunStatus("guided", 8, "interrupted")
    text = page.render_page(
        replace(report, statuses=[*report.statuses, lost, stopped]), static=True
    )
    assert "Left out of all tables are 2 of 6 runs (1 diverged, 1 interrupted)" in text
    assert "guided/7" in text
    assert "Left out" not in static_text


def test_tables_have_all_of_many_arms_and_figures_some(report: ReportData) -> None:
    arms = {f"arm-{k}": reward for k in range(30) for reward in [report.study.arms["guided"]]}
    study = report.study.model_copy(
        update={"arms": {"default": report.study.arms["default"], **arms}}
    )
    guided = report.episodes.filter(arm="guided")
    copies = [guided.with_columns(pl.lit(arm).alias("arm")) for arm in arms]
    episodes = pl.concat([report.episodes.filter(arm="default"), *copies])
    statuses = [status for status in report.statuses if status.arm in study.arms]
    many = replace(report, study=study, episodes=episodes, statuses=statuses)
    many = replace(many, summary=summarize_episodes(study, episodes), updates=pl.DataFrame())
    text = page.render_page(many, static=True)
    assert "Cards and figures show the best 7 of 30 arms" in text
    assert all(f"<bdi>{arm}</bdi>" in text for arm in arms)


def test_report_without_finished_run_is_refused(trained: Path, tmp_path: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    with pytest.raises(UserError, match="no run of tiny is finished"):
        load_report_data(study, replace(folder, path=tmp_path / "tiny"), print)


def test_colors_contrast_with_a_dark_page() -> None:
    light, dark = zip(*charts.theme_colors([str(k) for k in range(30)]), strict=True)
    assert len(set(dark)) == len(set(light)) == 30
    for color in dark:
        rgb = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        assert charts._contrast(rgb, (0x1B / 255, 0x1E / 255, 0x23 / 255)) >= 4.4


def test_arms_of_an_untrained_sweep_are_left_out(trained: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    sweep = {"base": "guided", "method": "grid", "weights": {"upright": [1.0, 2.0]}}
    swept = study.model_validate(study.model_dump(mode="json") | {"sweep": sweep})
    selected, _ = data._select_trained(swept, folder, load_sweep_data(swept, LoadedRuns(folder)))
    assert list(selected.arms) == ["default", "guided"]
