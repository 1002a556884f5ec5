"""The page of `preview`: its data against the kernel, and its behavior in a headless browser."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from shaperun.check import preview
from shaperun.check.behaviors import Behavior, record_behaviors
from shaperun.check.ranking import (
    most_rewarded,
)
from shaperun.common.yaml import read_yaml
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.models import Study, parse_study
from tests.conftest import recorded_once
from tests.helpers.preview import CARTPOLE, HOSTILE, LANDER, Case, Page, without_strips


def unpack(packed: str) -> npt.NDArray[np.float64]:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<f8")


def data_of(page: str) -> str:
    return page.split('<script type="application/json" id="data">')[1].split("</script>")[0]


def test_page_data_matches_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preview, "record_filmstrips", without_strips)
    study = parse_study(read_yaml(CARTPOLE).data)
    environment = study.environment.describe()
    data = preview.page_data(study, 2)
    assert data["gamma"] == 0.98
    behaviors = record_behaviors(study.environment, 2)
    for arm, given in study.arms.items():
        reward = study.resolve_reward(given)
        columns = data["arms"][arm]["columns"]
        assert columns.keys() == environment.built_in.keys() | reward.terms.keys()
        config = RewardConfig(mode="log", weights=dict.fromkeys(columns, 1.0), terms=reward.terms)
        kernel = RewardKernel(environment, config)
        indices = [columns[name] for name in kernel.names]
        assert [data["terms"][index]["name"] for index in indices] == list(kernel.names)
        for behavior, shown in zip(behaviors, data["behaviors"], strict=True):
            assert shown["name"] == behavior.name
            for episode, packed in zip(behavior.episodes, shown["episodes"], strict=True):
                transition = episode.transition
                values = unpack(packed["terms"]).reshape(len(data["terms"]), len(episode)).T
                assert (values[:, indices] == kernel(transition).raw).all()
                assert (unpack(packed["env_reward"]) == transition.env_reward).all()
                first = kernel.state_values(transition.obs[:1])[0]
                assert [packed["first"][index] for index in indices] == first.tolist()
                assert packed["outcome"] == episode.outcome
                assert packed["terminated"] == transition.terminated[-1]
        factors = data["arms"][arm]["factor"]
        kernel = RewardKernel(environment, reward, 0.98)
        assert factors == [kernel.factor(percent / 100) for percent in range(101)]


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose names and texts all try to leave their element."""

    def recorded(config: Any, episodes: int) -> list[Behavior]:
        first, *others = recorded_once(config, episodes)
        return [replace(first, name=HOSTILE, description=HOSTILE), *others]

    monkeypatch.setattr(preview, "record_filmstrips", without_strips)
    monkeypatch.setattr(preview, "record_behaviors", recorded)
    study = parse_study(read_yaml(CARTPOLE).data)
    return study.model_copy(
        update={
            "study": HOSTILE,
            "arms": {HOSTILE: study.arms["helped"], "__proto__": study.arms["pulled"]},
        }
    )


def test_hostile_data_cannot_leave_its_element(hostile: Study) -> None:
    page, data = preview.render_page(hostile, 2), preview.page_data(hostile, 2)
    assert "<" not in data_of(page)
    assert json.loads(data_of(page)) == data
    assert page.count("<script") == 2
    code = page.replace(data_of(page), "").replace("http://www.w3.org/2000/svg", "")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in code
    for address in ("http:", "https:", "//cdn", "@import"):
        assert address not in code


@pytest.fixture(scope="module")
def lander(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(LANDER.read_text(encoding="utf-8"), tmp_path_factory.mktemp("lander"))


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(CARTPOLE, tmp_path_factory.mktemp("cartpole"))


@pytest.fixture
def open_page(chrome: Chrome) -> Iterator[Any]:
    """Opens a page; its console must be empty at the end."""
    yield lambda path: Page(chrome, path)
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_the_articles_page_states_what_to_expect(open_page: Any, lander: Case) -> None:
    page = open_page(lander.page)
    assert page.text("input[name=arm]:checked + span") == "article"  # not default, without weights
    for arm, given in lander.study.arms.items():
        page.choose_arm(arm)
        assert page.check(lander, arm, gamma=0.999) == given
    paid = lander.paid(lander.study.arms["article"], 0.999)
    assert most_rewarded(paid).behavior.name == "crash"
    assert page.text("#headline").startswith("article pays −")
    assert page.text("#headline").endswith(" to land: expect it to learn to crash.")
    assert "inverted: paid more than land" in page.text("[data-behavior=crash] th")
    page.choose_arm("default")
    assert page.text("#headline") == (
        "No behavior is paid more than land, which the environment ranks highest."
    )


def test_moved_weights_mode_and_gamma_match_the_kernel(open_page: Any, lander: Case) -> None:
    page = open_page(lander.page)
    page.choose_arm("article")
    page.find("#weight-distance").send_keys(*[Keys.ARROW_LEFT] * 3)
    assert page.value("weight-distance-number") == "197"
    page.slide("weight-velocity", -40)
    page.write("weight-legs", "12.345")
    page.slide("weight-landed", 0.5)  # inside the closed details
    page.write("weight-angle", "2000")  # beyond the slider's range, which grows
    assert page.value("weight-angle") == "2000"
    weights = {"distance": 197.0, "velocity": -40.0, "angle": 2000.0, "legs": 12.345}
    engines = {"main_engine": 0.3, "side_engine": 0.03}
    reward = page.check(lander, "article", gamma=0.999)
    assert dict(reward.weights) == weights | engines | {"landed": 0.5}
    for mode in ("add", "log"):
        page.select("mode", mode)
        assert page.check(lander, "article", gamma=0.999).mode == mode
    page.select("mode", "replace")
    page.write("gamma", "0.9")
    page.write("scale", "-0.25")
    assert page.check(lander, "article", gamma=0.9).scale == -0.25
    page.write("gamma", "7")  # not a discount factor
    assert page.find("#gamma-number").get_attribute("aria-invalid") == "true"
    page.find("#gamma-number").send_keys(Keys.TAB)
    assert page.value("gamma-number") == "0.9"
    page.select("mode", "potential")
    reward = page.check(lander, "article", gamma=0.9)
    assert dict(reward.weights) == weights  # the engines depend on the action
    assert not page.find("#weight-main_engine").is_enabled()
    assert "more than the state" in page.text("#weight-main_engine-hint")
    page.find("#gamma-reset").send_keys(Keys.ENTER)
    page.check(lander, "article", gamma=0.999)
    page.find("#reset").send_keys(Keys.ENTER)
    assert page.check(lander, "article", gamma=0.999) == lander.study.arms["article"]


def test_custom_terms_and_schedules_match_the_kernel(open_page: Any, cartpole: Case) -> None:
    page = open_page(cartpole.page)
    for arm in ("helped", "pulled"):
        page.choose_arm(arm)
        assert page.check(cartpole, arm, gamma=0.98) == cartpole.study.arms[arm]
        page.slide("progress", 50)
        for mode in ("add", "replace", "potential"):
            page.select("mode", mode)
            page.check(cartpole, arm, gamma=0.98, progress=0.5)
    page.choose_arm("default")
    page.select("from", "pulled")  # its term lean differs from that of helped
    reward = page.check(cartpole, "default", gamma=0.98)
    assert (reward.mode, dict(reward.weights)) == ("potential", {"lean": 3})


def test_a_reward_that_overflows_is_reported(open_page: Any, cartpole: Case) -> None:
    page = open_page(cartpole.page)
    page.choose_arm("helped")
    page.write("weight-lean", "1e308")
    assert page.text("#headline") == "This reward is not finite: the weights are too large."
    assert page.marked("inverted") == []
    page.write("weight-lean", "0")
    page.select("mode", "replace")
    page.check(cartpole, "helped", gamma=0.98)


def test_an_episode_plays_by_keyboard(open_page: Any, lander: Case) -> None:
    page = open_page(lander.page)
    page.choose_arm("article")
    page.find("[data-behavior=hover] button").send_keys(Keys.ENTER)
    assert page.marked("selected") == ["hover"]
    page.select("episode", "1")
    hover = next(p for p in lander.paid(lander.study.arms["article"], 0.999)
                 if p.behavior.name == "hover")  # fmt: skip
    parts = [float(x) for x in page.run(
        "return [...document.querySelectorAll('#legend [data-value]')].map(c => c.dataset.value)"
    )]  # fmt: skip
    assert parts[-1] == pytest.approx(hover.shaped[1], rel=1e-9)
    assert sum(parts[:-1]) == pytest.approx(hover.shaped[1], rel=1e-9)
    length = len(hover.behavior.episodes[1])
    assert page.value("step") == str(length)
    page.find("#step").send_keys(Keys.ARROW_LEFT)
    assert page.value("step") == str(length - 1)
    page.find("#step").send_keys(Keys.END)
    page.find("#play").send_keys(Keys.SPACE)
    waiting = WebDriverWait(page.chrome, 10, poll_frequency=0.05)
    waiting.until(lambda _: 0 < int(page.value("step")) < length)
    before = int(page.value("step"))
    waiting.until(lambda _: int(page.value("step")) > before)
    page.find("#play").send_keys(Keys.SPACE)
    assert page.text("#play") == "Play"
    stopped = page.value("step")
    assert f"step {int(stopped):,} of {length:,}" in page.text("#legend caption")
    pixels = page.run(
        "const c = document.getElementById('frame');"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    assert len(set(pixels)) > 2  # a frame is drawn


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(open_page: Any, lander: Case, cartpole: Case, scheme: str) -> None:
    size = {"width": 360, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    for case, arm in ((lander, "article"), (cartpole, "helped")):
        page = open_page(case.page)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            page.choose_arm(arm)
            page.run("document.getElementById('more').open = true")
            assert page.run("return document.documentElement.scrollWidth") <= 360
            dark = page.run("return matchMedia('(prefers-color-scheme: dark)').matches")
            assert dark == (scheme == "dark")
            page.check(case, arm, gamma=case.study.training.gamma)
        finally:
            page.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_input_has_a_label(open_page: Any, cartpole: Case) -> None:
    page = open_page(cartpole.page)
    page.choose_arm("helped")
    unlabeled = page.run("""
        return [...document.querySelectorAll("input, select, button")].filter((e) =>
          !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)
    """)
    assert unlabeled == []


def test_hostile_names_are_shown_verbatim(open_page: Any, hostile: Study, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(preview.render_page(hostile, 2), encoding="utf-8")
    page = open_page(path)
    assert page.text("#title") == HOSTILE
    assert HOSTILE in page.rows()
    arms = page.run("return [...document.querySelectorAll('input[name=arm]')].map(e => e.value)")
    assert arms == [HOSTILE, "__proto__"]
    given = read_yaml(page.text("#yaml")).data["arms"]
    assert given[HOSTILE]["weights"] == hostile.arms[HOSTILE].weights
    assert page.run("return document.hacked ?? null") is None
    assert page.run("return document.images.length") == 0
    assert page.find("#no-frames").is_displayed()
    assert not page.find("#frame").is_displayed()
