"""The page of `ask` in a headless Chromium, used as a person uses it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@contextmanager
def open_browser(profile: Path, *logs: str) -> Iterator[Chrome]:
    """Open a browser with an empty profile that keeps the messages of its console, and `logs`."""
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", dict.fromkeys(("browser", *logs), "ALL"))
    for argument in (
        *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "window-size=1280,900"),
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{argument}")
    browser = Chrome(options=options, service=ChromeService(str(DRIVER)))
    try:
        yield browser
    finally:
        browser.quit()


class AskPage:
    """A page that has just been opened, with its questions in the order of a seed."""

    def __init__(self, browser: Chrome, path: Path, seed: int) -> None:
        self._browser = browser
        browser.get("about:blank")  # a change of the seed alone would not load the page again
        browser.get(f"{path.as_uri()}#{seed}")
        browser.execute_script("localStorage.clear()")
        browser.refresh()

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page and return its result."""
        return self._browser.execute_script(script, *arguments)

    @property
    def pair(self) -> list[int] | None:
        """Indices of the two episodes that are shown; None after the last question."""
        pair: list[int] | None = self.run("return state.pair")
        return pair

    def answer(self, choice: str) -> None:
        """Press the button of an answer."""
        self.run("document.querySelector(`#choices [data-answer=${arguments[0]}]`).click()", choice)

    def sheet(self) -> str:
        """Return the file that the page would save now."""
        return str(self.run("return answerSheet()"))
