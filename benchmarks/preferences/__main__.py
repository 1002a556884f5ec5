"""python -m benchmarks.preferences: how many answers until a fitted reward ranks right?

With --study FILE the first annotator answers the page of another study, once, and that is kept;
with --results FOLDER the page shows the policies too that were trained there.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
from selenium.webdriver import Chrome

from benchmarks.preferences.browser import AskPage, chromium
from benchmarks.preferences.simulated_annotators import ANNOTATORS, Annotator
from shaperun.common.errors import UserError
from shaperun.preferences import answers, fit
from shaperun.preferences import page as ask
from shaperun.preferences.answers import AnswerSheet
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "experiments" / "preferences.yaml"
PAGE = ROOT / "docs" / "preferences.md"
KEPT = ROOT / "experiments" / "answers"
RANKED = ("land", "hover", "crash")
MOST, EVERY, TARGET = 100, 5, 60


@dataclass(frozen=True)
class Course:
    """What the fits came to as answers came in.

    Attributes:
        right_from: answers from which on the controllers are ranked as the annotator would rank
            them, whatever is answered afterwards; None if they never are.
        predicted: share of the answers foreseen, at the end.
        sheet: all answers.
    """

    right_from: int | None
    predicted: float
    sheet: AnswerSheet


def main() -> None:
    """Let everybody answer, and keep the table and the answers of the first repetition."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preferences", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chromium(Path(name, "profile")) as browser:
        page = write_page(Path(name), given.study or STUDY, given.results or Path(name, "results"))
        if given.study:
            annotator, again = ANNOTATORS[0], " again" if given.results else ""
            sheet = answered(browser, page, annotator, 1).sheet
            keep(f"{given.study.stem} {annotator.name}{again}", sheet)
        else:
            measure(browser, page, given.repetitions)


def write_page(folder: Path, file: Path, results: Path) -> Path:
    """The page of a study, and of what of it is trained in a results folder."""
    page, study = folder / "ask.html", load_study(file)
    text = ask.page(study, StudyFolder(results / study.study), print, lambda *_: None)
    page.write_text(text, encoding="utf-8")
    print(f"a page of {len(text.encode()) / 1e6:.1f} MB")
    return page


def measure(browser: Chrome, page: Path, repetitions: int) -> None:
    """Let everybody answer some times, and keep what it took."""
    lines = [
        f"| annotator | right within {TARGET} answers | answers, median (range) | foreseen |",
        "| --- | ---: | ---: | ---: |",
    ]
    for annotator in ANNOTATORS:
        seeds = range(1, repetitions + 1)
        courses = [answered(browser, page, annotator, seed) for seed in seeds]
        lines.append(row(annotator, courses))
        print(lines[-1], flush=True)
        keep(annotator.name, courses[0].sheet)
    text = PAGE.read_text(encoding="utf-8")
    table = "\n".join(["<!-- answers: begin -->", *lines, "<!-- answers: end -->"])
    text = re.sub(r"<!-- answers: begin -->.*<!-- answers: end -->", table, text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")


def answered(browser: Chrome, path: Path, annotator: Annotator, seed: int) -> Course:
    """Somebody answers a page; the seed is that of the questions and of luck."""
    page = AskPage(browser, path, seed)
    luck, right, sheet = np.random.default_rng(seed), {}, read(page)
    values = [
        annotator.value(episode, dict(zip(sheet.terms, episode.sums, strict=True)))
        for episode in sheet.episodes
    ]
    wanted = ranking(sheet, values)
    for number in range(1, MOST + 1):
        pair = page.pair
        if pair is None:
            break
        page.answer(annotator.answer(values[pair[0]], values[pair[1]], luck))
        if number % EVERY == 0:
            sheet = read(page)
            right[number] = ranked(sheet) == wanted
    wrong = [number for number, as_wanted in right.items() if not as_wanted]
    later = [number for number in right if number > max(wrong, default=0)]
    return Course(min(later, default=None), fit.fit(sheet).predicted, sheet)


def read(page: AskPage) -> AnswerSheet:
    """What would be saved now, by way of a file."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(page.sheet())
        file.flush()
        return answers.read_answers(Path(file.name))


def ranked(sheet: AnswerSheet) -> list[str] | None:
    """How the fitted reward ranks the controllers; None while there are too few answers."""
    try:
        weights = fit.fit(sheet).weights
    except UserError:
        return None
    by_term = [weights.get(term, 0.0) for term in sheet.terms]
    return ranking(sheet, [float(worth) for worth in sheet.sums[0] @ by_term])


def ranking(sheet: AnswerSheet, values: list[float]) -> list[str]:
    """The controllers from the best to the worst, by the mean over all starts."""
    of = defaultdict(list)
    for episode, value in zip(sheet.episodes, values, strict=True):
        of[episode.by].append(value)
    return sorted((name for name in RANKED if name in of), key=lambda name: -fmean(of[name]))


def row(annotator: Annotator, courses: list[Course]) -> str:
    """A line of the table."""
    found = list(numbers(courses))
    within = sum(number <= TARGET for number in found)
    spread = f"{median(found):g} ({min(found)}–{max(found)})" if found else "never"
    never = len(courses) - len(found)
    spread += f", {never} × not within {MOST}" if never and found else ""
    foreseen = fmean(one.predicted for one in courses)
    return f"| {annotator.name} | {within} of {len(courses)} | {spread} | {foreseen:.0%} |"


def numbers(courses: list[Course]) -> Iterator[int]:
    """The answers that it took, where it came to that."""
    return (one.right_from for one in courses if one.right_from is not None)


def keep(name: str, sheet: AnswerSheet) -> None:
    """Keep answers as somebody would have saved them."""
    KEPT.mkdir(exist_ok=True)
    file = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    (KEPT / f"{file}.json").write_text(sheet.model_dump_json(indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
