"""Pages of `preview` to open in a browser, and the page as a user operates it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from shaperun.check import preview
from shaperun.check.behaviors import Behavior
from shaperun.check.filmstrip import Filmstrip, record_filmstrips
from shaperun.check.ranking import (
    BehaviorReturn,
    behavior_returns,
    best_by_environment,
    inversions,
)
from shaperun.common.yaml import read_yaml
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardKernel
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import Study, parse_study
from tests.conftest import recorded_once

LANDER = Path(__file__).parents[2] / "experiments" / "article.yaml"
CARTPOLE = """
study: poles
environment: {id: CartPole-v1}
training:
  total_timesteps: 2000
  hyperparameters: {gamma: 0.98}
terms:
  near: "-abs(x) * (x < 1)"
arms:
  default: {}
  helped:
    mode: replace
    scale: 2
    terms: {lean: "-abs(angle) * 10", shake: "-abs(action - last_action)"}
    weights: {lean: 1.5, still: -0.25, near: 0.1, shake: 1}
    schedule: {kind: linear, from: 1.0, to: 0.2, until: 0.8}
  pulled:
    mode: potential
    terms: {lean: "cos(angle)"}
    weights: {lean: 3}
    schedule: {kind: piecewise, points: [[0, 1], [0.5, 0.5], [1, 0]]}
"""
HOSTILE = '</script><script>document.hacked = 1</script><img src=x onerror="document.hacked = 1">'


@dataclass(frozen=True)
class Case:
    """A study as text and as model, its behaviors, and its page."""

    text: str
    study: Study
    behaviors: list[Behavior]
    page: Path

    @classmethod
    def of(cls, text: str, folder: Path) -> Case:
        study = parse_study(read_yaml(text).data)
        behaviors = recorded_once(study.environment)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preview, "FILMED_EPISODES", 2)  # the tests watch no others
            patch.setattr(preview, "record_filmstrips", film_watched)
            (folder / "page.html").write_text(preview.render_page(study), encoding="utf-8")
        return cls(text, study, behaviors, folder / "page.html")

    def with_arm(self, given: str) -> Study:
        """Return the study with the arm that the page shows as YAML."""
        data = read_yaml(self.text).data
        arms = read_yaml(given).data["arms"]
        assert len(arms) == 1
        assert arms.keys() <= data["arms"].keys()
        return parse_study(data | {"arms": data["arms"] | arms})

    def paid(
        self, reward: RewardConfig, gamma: float, progress: float = 0.0
    ) -> list[BehaviorReturn]:
        environment = self.study.environment.describe()
        kernel = RewardKernel(environment, self.study.resolve_reward(reward), gamma)
        return behavior_returns(kernel, self.behaviors, gamma, progress)


def without_strips(config: object, behaviors: Sequence[Behavior]) -> list[list[None]]:
    return [[None for _ in behavior.episodes] for behavior in behaviors]


def film_watched(
    config: EnvironmentConfig, behaviors: Sequence[Behavior]
) -> list[list[Filmstrip | None]]:
    """Film only the behaviors that the tests watch: each takes a second."""
    watched = [b for b in behaviors if b.name in ("land", "hover", "balance")]
    strips = dict(zip([b.name for b in watched], record_filmstrips(config, watched), strict=True))
    return [strips.get(b.name, [None] * len(b.episodes)) for b in behaviors]


class Page:
    """The page as a user operates it."""

    def __init__(self, chrome: Chrome, path: Path) -> None:
        self.chrome = chrome
        chrome.get(path.as_uri())
        rows = (By.CSS_SELECTOR, "[data-behavior]")  # which appear once all data is unpacked
        WebDriverWait(chrome, 20, poll_frequency=0.05).until(lambda c: c.find_elements(*rows))

    def run(self, script: str, *arguments: object) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def find(self, css: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return str(self.find(css).get_property("textContent"))

    def value(self, name: str) -> str:
        return str(self.find(f"#{name}").get_property("value"))

    def choose_arm(self, name: str) -> None:
        self.run("document.querySelector(`input[name=arm][value=${arguments[0]}]`).click()", name)

    def select(self, name: str, value: str) -> None:
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('change', {bubbles: true}))",
            *(name, value),
        )

    def slide(self, name: str, value: float) -> None:
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input', {bubbles: true}))",
            *(name, value),
        )

    def write(self, name: str, value: str) -> None:
        field = self.find(f"#{name}-number")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(value)

    def rows(self) -> dict[str, dict[str, float]]:
        """Return each behavior's numbers, in the order of the page."""
        script = """
            return [...document.querySelectorAll("[data-behavior]")].map((row) =>
              [row.dataset.behavior, [...row.querySelectorAll("[data-value]")].map((cell) =>
                [cell.dataset.column, Number(cell.dataset.value)])])
        """
        return {name: dict(figures) for name, figures in self.run(script)}

    def marked(self, what: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(r => r.dataset.behavior)"
        names: list[str] = self.run(script, f"#rows [data-{what}]")
        return names

    def check(self, case: Case, arm: str, *, gamma: float, progress: float = 0.0) -> RewardConfig:
        """Compare all that the page shows with shaperun's result for the YAML that it shows."""
        reward = case.with_arm(self.text("#yaml")).arms[arm]
        paid = case.paid(reward, gamma, progress)
        rows = self.rows()
        assert list(rows) == [
            p.behavior.name for p in sorted(paid, key=lambda p: -p.discounted_return)
        ]
        for payment in paid:
            assert rows[payment.behavior.name] == pytest.approx(
                {
                    "discounted": payment.discounted_return,
                    "shaped": payment.shaped_return,
                    "environment": payment.environment_return,
                    "length": payment.behavior.length,
                },
                rel=1e-9,
                abs=1e-9,
            )
        assert self.marked("inverted") == [p.behavior.name for p in inversions(paid)]
        assert self.marked("best") == [best_by_environment(paid).behavior.name]
        return reward
