"""The report: what it says, and the page itself in a headless browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from shaperun.common.errors import UserError
from shaperun.report import charts, data
from shaperun.report import page as report
from shaperun.report.data import ReportData, load_report_data, load_sweep_data, summarize_episodes
from shaperun.runs.open_study import open_study
from shaperun.runs.status import RunStatus
from shaperun.study.models import parse_study

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = {
    "default": "</script><script>document.hacked = 1</script>",
    "guided": "=cmd|' /C calc'!A0 \u202etxt.exe <img src=x onerror='document.hacked = 1'>",
}


@pytest.fixture(scope="module")
def material(trained: Path) -> ReportData:
    study, folder = open_study("tiny", trained / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_film", lambda *_: None)
        return load_report_data(study, folder, print)


def renamed(material: ReportData, names: dict[str, str]) -> ReportData:
    """The same material with other arms' names, such as no study file may have."""
    arms = {names[arm]: reward for arm, reward in material.study.arms.items()}
    study = material.study.model_copy(update={"arms": arms, "study": HOSTILE["guided"]})
    renaming = pl.col("arm").replace_strict(names)
    episodes = material.episodes.with_columns(renaming)
    return replace(
        material,
        study=study,
        episodes=episodes,
        updates=material.updates.with_columns(renaming),
        summary=summarize_episodes(study, episodes),
        states=[replace(state, arm=names[state.arm]) for state in material.states],
        records={(names[arm], seed): r for (arm, seed), r in material.records.items()},
        resolved=f"# {HOSTILE['default']}\n",
    )


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    if not (BROWSER and DRIVER):
        pytest.skip("no chromium here")
    options = ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options, ChromeService(DRIVER))
    yield browser
    browser.quit()


def opened(driver: Chrome, text: str, path: Path) -> Chrome:
    path.write_text(text, encoding="utf-8")
    log(driver, "performance")  # what came before is forgotten
    driver.get(path.as_uri())
    return driver


def log(driver: Chrome, kind: str) -> list[dict[str, Any]]:
    """What the browser logged since it was last asked."""
    return list(driver.get_log(kind))  # type: ignore[no-untyped-call]


def requests(driver: Chrome) -> list[str]:
    """The addresses that the page asked for since it was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in log(driver, "performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def drawn(driver: Chrome) -> list[bool]:
    script = "return document.getElementById('curves').data.map((trace) => trace.visible)"
    return list(driver.execute_script(script))


def test_the_page_works_in_a_browser(material: ReportData, driver: Chrome, tmp_path: Path) -> None:
    page = opened(driver, report.page(material), tmp_path / "page.html")
    WebDriverWait(page, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#curves .scatter"))
    assert log(page, "browser") == []
    assert {url.split(":")[0] for url in requests(page)} <= {"file", "data"}
    boxes = page.find_elements(By.CSS_SELECTOR, "input[data-arm]")
    assert len(boxes) == len(material.study.arms)
    assert drawn(page) == [True] * 6
    for place, box in enumerate(boxes):  # by keyboard, each by itself
        box.send_keys(Keys.SPACE)
        hidden = [place == k // 3 for k in range(6)]
        WebDriverWait(page, 5).until(lambda d, h=hidden: drawn(d) == [not x for x in h])  # type: ignore[misc]
        box.send_keys(Keys.SPACE)
    page.find_element(By.ID, "single-runs").send_keys(Keys.SPACE)
    assert drawn(page) == [True, False, True] * 2
    assert not page.find_element(By.CSS_SELECTOR, ".curves-picture").is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.find_element(By.CSS_SELECTOR, ".curves-picture").is_displayed()
    assert not page.find_element(By.ID, "curves").is_displayed()
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_on_a_phone(
    material: ReportData, driver: Chrome, tmp_path: Path, dark: bool
) -> None:
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page = opened(driver, report.page(material), tmp_path / "page.html")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    style = "return getComputedStyle(document.body).backgroundColor"
    assert page.execute_script(style) == ("rgb(18, 20, 23)" if dark else "rgb(245, 246, 247)")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("static", [False, True])
def test_hostile_names_are_text(
    material: ReportData, driver: Chrome, tmp_path: Path, static: bool
) -> None:
    text = report.page(renamed(material, HOSTILE), static=static)
    page = opened(driver, text, tmp_path / "page.html")
    assert page.execute_script("return document.hacked === undefined")
    assert log(page, "browser") == []
    shown = page.find_element(By.TAG_NAME, "body").text
    assert HOSTILE["default"] in shown
    assert HOSTILE["guided"].replace("\u202e", "\\u202e") in shown
    assert "\u202e" not in text


def test_without_javascript_there_is_none(material: ReportData) -> None:
    text = report.page(material, static=True)
    assert "<script" not in text
    assert "script-src &#39;none&#39;;" in text
    assert len(text) < 1_500_000


def test_nothing_is_asked_of_the_network(material: ReportData) -> None:
    text = report.page(material, static=True)
    addresses = re.findall(r"""(?:src|href|action)=["']?([^"'\s>]*)""", text)
    assert {address[:5] for address in addresses if not address.startswith("#")} <= {"data:"}


def test_the_same_runs_make_the_same_page(material: ReportData) -> None:
    assert report.page(material) == report.page(material)


def test_it_says_what_matters(material: ReportData) -> None:
    text = report.page(material, static=True)
    verdict = next(c for c in material.summary.comparisons if c.metric == "return").result.verdict
    assert text.index("Did the reward help?") < text.index(verdict) < text.index("final policies")
    for record in material.records.values():
        assert record["identity"] in text
        assert record["files"]["policy.zip"] in text
        assert record["versions"]["torch"] in text
    assert "shaperun train tiny.yaml" in text
    assert "upright: 1" in text  # of the study as resolved


def test_rewards_and_learners_have_a_table(material: ReportData) -> None:
    assert "Rewards and learners" not in report.page(material, static=True)
    raw = material.study.model_dump(mode="json")
    raw["arms"]["by_a2c"] = {"training": {"algorithm": "A2C"}}
    text = report.page(replace(material, study=parse_study(raw)), static=True)
    (table,) = re.findall(
        r'aria-label="Table of rewards and learners">(.*?)</div>', text, re.DOTALL
    )
    assert re.findall(r'<th scope="col">(.*?)</th>', table) == ["reward", "PPO", "A2C"]
    assert re.findall(r"<bdi>(.*?)</bdi>", table) == ["default", "guided"]
    assert table.count("<td>–</td>") == 2  # what was not trained
    assert "by_a2c was not trained like default: training.algorithm is PPO" in text
    assert "PPO and A2C on CartPole-v1" in text


def test_runs_that_are_left_out_are_counted(material: ReportData) -> None:
    lost = RunStatus("guided", 7, "failed", failure="FloatingPointError: diverged: NaN")
    stopped = RunStatus("guided", 8, "interrupted")
    text = report.page(replace(material, states=[*material.states, lost, stopped]), static=True)
    assert "2 of 6 runs are left out" in text
    assert "1 diverged, 1 interrupted" in text
    assert "guided/7" in text
    assert "are left out" not in report.page(material, static=True)


def test_many_arms_have_tables_for_all_and_figures_for_some(material: ReportData) -> None:
    arms = {f"arm-{k}": reward for k in range(30) for reward in [material.study.arms["guided"]]}
    study = material.study.model_copy(update={"arms": {"default": {}, **arms}})
    study = study.model_copy(update={"arms": {"default": material.study.arms["default"], **arms}})
    guided = material.episodes.filter(arm="guided")
    copies = [guided.with_columns(pl.lit(arm).alias("arm")) for arm in arms]
    episodes = pl.concat([material.episodes.filter(arm="default"), *copies])
    states = [state for state in material.states if state.arm in study.arms]
    many = replace(material, study=study, episodes=episodes, states=states)
    many = replace(many, summary=summarize_episodes(study, episodes), updates=pl.DataFrame())
    text = report.page(many, static=True)
    assert "The best 7 of 30 arms are described" in text
    assert all(f"<bdi>{arm}</bdi>" in text for arm in arms)


def test_nothing_finished_is_said(trained: Path, tmp_path: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    with pytest.raises(UserError, match="no run of tiny is finished"):
        load_report_data(study, replace(folder, path=tmp_path / "tiny"), print)


def test_colours_stand_out_from_a_dark_page() -> None:
    light, dark = zip(*charts.theme([str(k) for k in range(30)]), strict=True)
    assert len(set(dark)) == len(set(light)) == 30
    for colour in dark:
        rgb = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        assert charts._contrast(rgb, (0x1B / 255, 0x1E / 255, 0x23 / 255)) >= 4.4


def test_a_sweep_is_reported_with_the_study(trained: Path) -> None:
    study, folder = open_study("tiny", trained / "results")
    sweep = {"base": "guided", "method": "grid", "weights": {"upright": [1.0, 2.0]}}
    swept = study.model_validate(study.model_dump(mode="json") | {"sweep": sweep})
    found, _ = data._trained(swept, folder, load_sweep_data(swept, folder))
    assert list(found.arms) == ["default", "guided"]  # nothing of the sweep was trained
