"""The page of `ask`: its data, and the page itself in a headless browser."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from benchmarks.preferences.browser import BROWSER, DRIVER, AskPage, chromium
from shaperun.envs.base import Array
from shaperun.preferences import answers
from shaperun.preferences import page as ask
from shaperun.preferences.answers import AnswerSheet
from shaperun.preferences.episodes import FilmedEpisode, collect_episodes
from shaperun.preferences.fit import curvature, fit_weights
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study, parse_study

QUIETLY = (lambda _: None, lambda *_: None)
HOSTILE = '</script><script>document.hacked = 1</script><img src=x onerror="document.hacked = 1">'


def study() -> Study:
    return parse_study(
        {
            "study": "poles",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.98}},
            "terms": {"near": "-abs(x)"},
            "arms": {"default": {}},
        }
    )


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[FilmedEpisode]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shaperun.preferences.episodes.MAX_STARTS", 6)
        return collect_episodes(study(), StudyFolder(tmp_path_factory.mktemp("results")), *QUIETLY)


@pytest.fixture(scope="module")
def path(asked: list[FilmedEpisode], tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask, "collect_episodes", lambda *_: asked)
        text = ask.page(study(), StudyFolder(Path("nowhere")), *QUIETLY)
    page = tmp_path_factory.mktemp("page") / "ask.html"
    page.write_text(text, encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not BROWSER or not DRIVER:
        pytest.skip("needs chromium and chromedriver (Debian: apt install chromium-driver)")
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(chrome: Chrome, path: Path) -> Iterator[AskPage]:
    """The page; nothing may have been printed to its console in the end."""
    yield AskPage(chrome, path, seed=3)
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]


def by_return(page: AskPage, episodes: list[FilmedEpisode]) -> str:
    pair = page.pair
    assert pair is not None
    left, right = (episodes[place].episode.env_return for place in pair)
    return "left" if left > right else "right" if right > left else "equal"


def scaled_sums(sheet: AnswerSheet) -> Array:
    """Sums in units of their standard deviation (episodes, K); 0 where γ leaves nothing of them."""
    sums, undiscounted = sheet.sums
    told = sums.std(0) > 0.01 * undiscounted.std(0)
    assert not told[sheet.terms.index("balanced")]  # 500 steps at γ 0.98
    return np.where(told, sums / np.where(told, sums.std(0), 1), 0)


def sheet_of(page: AskPage, path: Path) -> AnswerSheet:
    saved = path / "answers.json"
    saved.write_text(page.sheet(), encoding="utf-8")
    return answers.read_answers(saved)


def test_nothing_in_the_data_can_end_their_place(
    asked: list[FilmedEpisode], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = [
        FilmedEpisode(question.episode.model_copy(update={"by": HOSTILE}), question.strip)
        for question in asked
    ]
    monkeypatch.setattr(ask, "collect_episodes", lambda *_: hostile)
    evil = study().model_copy(update={"study": HOSTILE})
    text = ask.page(evil, StudyFolder(Path("nowhere")), *QUIETLY)
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in data
    assert json.loads(data) == json.loads(json.dumps(ask.data(evil, hostile)))
    template = Path(ask.__file__).parent.joinpath(ask.TEMPLATE).read_text("utf-8")
    assert text.count("<script") == template.count("<script") == 2
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in template
    for address in ("http:", "https:", "//cdn", "@import"):
        assert address not in template


def test_answers_are_fitted_as_they_come(
    page: AskPage, asked: list[FilmedEpisode], tmp_path: Path
) -> None:
    """The page and `fit` reckon alike, with the same ridge."""
    for _ in range(25):
        page.answer(by_return(page, asked))
    page.answer("unsure")
    sheet = sheet_of(page, tmp_path)
    pairs, preferred = sheet.compared()
    assert len(pairs) == 25
    scaled = scaled_sums(sheet)
    scaled = scaled[pairs[:, 0]] - scaled[pairs[:, 1]]
    weights = fit_weights(scaled, preferred, 1.0)
    error = 1.959964 * np.sqrt(np.diag(np.linalg.inv(curvature(scaled, weights, 1.0))))
    shown = page.run(
        "return [...document.querySelectorAll('.term')].map("
        "r => [r.dataset.term, Number(r.dataset.weight), Number(r.dataset.error)])"
    )
    assert [name for name, _, _ in shown] == sheet.terms
    assert [weight for _, weight, _ in shown] == pytest.approx(weights, rel=1e-6, abs=1e-6)
    assert [own for _, _, own in shown] == pytest.approx(error, rel=1e-6)


def test_no_pair_is_asked_about_twice_and_all_are(
    page: AskPage, asked: list[FilmedEpisode], tmp_path: Path
) -> None:
    by_start: dict[int, list[int]] = {}
    for place, question in enumerate(asked):
        by_start.setdefault(question.episode.start, []).append(place)
    pairs = {frozenset(p) for places in by_start.values() for p in combinations(places, 2)}
    seen = []
    while page.pair is not None:
        seen.append(frozenset(page.pair))
        page.answer(by_return(page, asked))
    assert len(seen) == len(set(seen))
    assert set(seen) == pairs
    assert "All pairs" in page.run("return document.getElementById('question').textContent")
    assert page.run("return document.querySelector('#choices button').disabled")
    assert len(sheet_of(page, tmp_path).answers) == len(pairs)


def test_what_is_asked_would_teach_most(
    page: AskPage, asked: list[FilmedEpisode], tmp_path: Path
) -> None:
    """log(1 + p (1 − p) dᵀ H⁻¹ d), less for outcomes that were compared before."""
    all_pairs = [tuple(pair) for pair in page.run("return PAIRS")]
    for _ in range(12):
        sheet = sheet_of(page, tmp_path)
        worth = scaled_sums(sheet)
        pairs, preferred = sheet.compared()
        known = worth[pairs[:, 0]] - worth[pairs[:, 1]]
        weights = fit_weights(known, preferred, 1.0)
        inverse = np.linalg.inv(curvature(known, weights, 1.0))
        before = Counter(outcomes(sheet, a.left, a.right) for a in sheet.answers)
        there = {frozenset((a.left, a.right)) for a in sheet.answers}
        teaches = {}
        for left, right in all_pairs:
            if frozenset((left, right)) not in there:
                d = worth[left] - worth[right]
                p = 1 / (1 + np.exp(-d @ weights))
                seen = before[outcomes(sheet, left, right)]
                teaches[left, right] = np.log1p(p * (1 - p) * d @ inverse @ d) / (1 + seen)
        chosen = page.pair
        assert chosen is not None
        assert teaches[chosen[0], chosen[1]] == pytest.approx(max(teaches.values()), rel=1e-6)
        page.answer(by_return(page, asked))


def outcomes(sheet: AnswerSheet, left: int, right: int) -> tuple[str, ...]:
    return tuple(sorted(sheet.episodes[place].outcome for place in (left, right)))


def test_keys_answer_and_take_back(page: AskPage, chrome: Chrome, tmp_path: Path) -> None:
    body = chrome.find_element(By.TAG_NAME, "body")
    first = page.pair
    for key in (Keys.ARROW_LEFT, Keys.ARROW_RIGHT, "=", "?"):
        body.send_keys(key)
    given = [answer.answer for answer in sheet_of(page, tmp_path).answers]
    assert given == ["left", "right", "equal", "unsure"]
    for _ in range(5):  # once more than there are
        body.send_keys("u")
    assert sheet_of(page, tmp_path).answers == []
    assert page.pair == first


def test_a_page_that_is_closed_loses_nothing(page: AskPage, chrome: Chrome, path: Path) -> None:
    for _ in range(3):
        page.answer("left")
    given = page.run("return JSON.stringify(state.answers)")
    chrome.get("about:blank")
    chrome.get(path.as_uri())
    assert page.run("return JSON.stringify(state.answers)") == given
    page.run("localStorage.setItem(localStorage.key(0), '[{\"left\": 1e9}, 7, null]')")
    chrome.refresh()
    assert page.run("return state.answers.length") == 0


def test_a_fit_waits_for_enough_answers_and_says_when_to_stop(
    page: AskPage, asked: list[FilmedEpisode]
) -> None:
    def told() -> str:
        return str(page.run("return document.getElementById('settled').textContent"))

    assert page.run("return document.getElementById('save').disabled")
    assert "10 more" in told()
    settled = []
    while page.pair is not None:
        page.answer(by_return(page, asked))
        settled.append("you may stop" in told())
    assert not page.run("return document.getElementById('save').disabled")
    assert not any(settled[:18])
    assert settled[-1]


def test_both_episodes_are_shown_to_their_ends(page: AskPage) -> None:
    page.run("state.sides = null; load()")
    script = "return [...document.querySelectorAll('.caption')].map(c => c.textContent)"
    page.run("return new Promise(resolve => setTimeout(resolve, 12600))")
    captions = page.run(script)
    assert all("after" in caption for caption in captions), captions
    painted = page.run(
        "return [...document.querySelectorAll('canvas')].map(c => "
        "new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"
    )
    assert min(painted) > 3
