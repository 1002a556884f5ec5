"""Let simulated annotators answer the page of `ask`: python -m benchmarks.preferences.

With --study FILE the first annotator answers the page of another study, once, and the answers are
saved; with --results FOLDER that page also has the policies that are trained there.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
from selenium.webdriver import Chrome

from benchmarks.doc_tables import ROOT, format_table, log, publish
from benchmarks.preferences.browser import AskPage, open_browser
from benchmarks.preferences.simulated_annotators import ANNOTATORS, Annotator
from shaperun.common.errors import UserError
from shaperun.preferences import fit
from shaperun.preferences.answers import AnswerSheet, read_answers
from shaperun.preferences.page import render_page
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study

STUDY = ROOT / "experiments" / "preferences.yaml"
PAGE = ROOT / "docs" / "preferences.md"
ANSWERS = ROOT / "experiments" / "answers"
CONTROLLERS = ("land", "hover", "crash")
REPETITIONS = 10
MAX_ANSWERS, FIT_EVERY, TARGET = 100, 5, 60


@dataclass(frozen=True)
class Session:
    """The answers of one annotator, and their fits."""

    # Number of answers from which on, until the end, the fitted reward ranks the controllers as
    # the annotator does; None if it does not at the end.
    right_from: int | None
    accuracy: float  # share of held-out answers that are predicted, at the end
    sheet: AnswerSheet


def main() -> None:
    """Let the annotators answer, and print the table; a complete one is published."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preferences", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="per annotator")
    parser.add_argument("--study", type=Path, help="another study")
    parser.add_argument("--results", type=Path, help="results folder of its policies")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, open_browser(Path(name, "profile")) as browser:
        results = options.results or Path(name, "results")
        page = write_page(Path(name), options.study or STUDY, results)
        if options.study:
            annotator, again = ANNOTATORS[0], " again" if options.results else ""
            sheet = answer_page(browser, page, annotator, 1).sheet
            save_answers(f"{options.study.stem} {annotator.name}{again}", sheet)
        else:
            measure(browser, page, options.repetitions)


def write_page(folder: Path, file: Path, results: Path) -> Path:
    """Write the page of a study, with its trained policies in a results folder."""
    page, study = folder / "ask.html", load_study(file)
    text = render_page(study, StudyFolder(results / study.study), log, lambda *_: None)
    page.write_text(text, encoding="utf-8")
    log(f"page of {len(text.encode()) / 1e6:.1f} MB")
    return page


def measure(browser: Chrome, page: Path, repetitions: int) -> None:
    """Let every annotator answer repeatedly; publish the table and the first answers of each."""
    complete = repetitions >= REPETITIONS
    table = [
        ["annotator", f"right within {TARGET} answers", "answers, median [range]", "predicted"]
    ]
    for annotator in ANNOTATORS:
        seeds = range(1, repetitions + 1)
        sessions = [answer_page(browser, page, annotator, seed) for seed in seeds]
        table.append(summarize(annotator, sessions))
        log(", ".join(table[-1]))
        if complete:
            save_answers(annotator.name, sessions[0].sheet)
    publish(PAGE, {"answers": format_table(table)}, complete=complete)


def answer_page(browser: Chrome, path: Path, annotator: Annotator, seed: int) -> Session:
    """Answer all questions; the seed determines their order and the annotator's mistakes."""
    page = AskPage(browser, path, seed)
    rng, right, sheet = np.random.default_rng(seed), {}, read_sheet(page)
    values = [
        annotator.value(episode, dict(zip(sheet.terms, episode.sums, strict=True)))
        for episode in sheet.episodes
    ]
    ranking = rank_controllers(sheet, values)
    for number in range(1, MAX_ANSWERS + 1):
        pair = page.pair
        if pair is None:
            break
        page.answer(annotator.answer(values[pair[0]], values[pair[1]], rng))
        if number % FIT_EVERY == 0:
            sheet = read_sheet(page)
            right[number] = rank_by_fit(sheet) == ranking
    last_wrong = max((number for number, is_right in right.items() if not is_right), default=0)
    right_from = min((number for number in right if number > last_wrong), default=None)
    return Session(right_from, fit.fit_answers(sheet).accuracy, sheet)


def read_sheet(page: AskPage) -> AnswerSheet:
    """Read the answers so far from a file, as the page would save it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(page.sheet())
        file.flush()
        return read_answers(Path(file.name))


def rank_by_fit(sheet: AnswerSheet) -> list[str] | None:
    """Return the controllers as the fitted reward ranks them; None if answers are too few."""
    try:
        weights = fit.fit_answers(sheet).weights
    except UserError:
        return None
    by_term = [weights.get(term, 0.0) for term in sheet.terms]
    return rank_controllers(sheet, [float(value) for value in sheet.sums[0] @ by_term])


def rank_controllers(sheet: AnswerSheet, values: list[float]) -> list[str]:
    """Return the controllers from best to worst, by the mean value of their episodes."""
    by_controller = defaultdict(list)
    for episode, value in zip(sheet.episodes, values, strict=True):
        by_controller[episode.by].append(value)
    names = [name for name in CONTROLLERS if name in by_controller]
    return sorted(names, key=lambda name: -fmean(by_controller[name]))


def summarize(annotator: Annotator, sessions: list[Session]) -> list[str]:
    """Return the row of an annotator."""
    numbers = [session.right_from for session in sessions if session.right_from is not None]
    within = sum(number <= TARGET for number in numbers)
    spread = f"{median(numbers):g} [{min(numbers)}, {max(numbers)}]" if numbers else "never"
    if numbers and len(numbers) < len(sessions):
        spread += f", {len(sessions) - len(numbers)} × not within {MAX_ANSWERS}"
    accuracy = fmean(session.accuracy for session in sessions)
    return [annotator.name, f"{within} of {len(sessions)}", spread, f"{accuracy:.0%}"]


def save_answers(name: str, sheet: AnswerSheet) -> None:
    """Save answers where `fit` is shown how to use them."""
    ANSWERS.mkdir(exist_ok=True)
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    text = sheet.model_dump_json(indent=1) + "\n"
    (ANSWERS / f"{stem}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
