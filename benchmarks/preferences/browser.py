"""A headless Chromium, and the page of `ask` as somebody in front of it handles it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """A browser with a profile of its own, which keeps what its console says."""
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
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
    """The page, opened anew, with its questions in the order of a seed."""

    def __init__(self, browser: Chrome, path: Path, seed: int) -> None:
        self._browser = browser
        browser.get("about:blank")  # another seed alone would not load the page again
        browser.get(f"{path.as_uri()}#{seed}")
        browser.execute_script("localStorage.clear()")
        browser.refresh()

    def run(self, script: str, *arguments: object) -> Any:
        """What a script returns in the page."""
        return self._browser.execute_script(script, *arguments)

    @property
    def pair(self) -> list[int] | None:
        """The places of the two episodes that are shown."""
        pair: list[int] | None = self.run("return state.pair")
        return pair

    def answer(self, choice: str) -> None:
        """Press a button."""
        self.run("document.querySelector(`#choices [data-answer=${arguments[0]}]`).click()", choice)

    def sheet(self) -> str:
        """What would be saved now."""
        return str(self.run("return sheet()"))
