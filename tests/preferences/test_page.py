"""The page of `ask`: its data, and its behavior in a headless browser."""

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
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.preferences.browser import AskPage
from shaperun.envs.base import Array
from shaperun.preferences import answers
from shaperun.preferences import page as ask
from shaperun.preferences.answers import AnswerSheet
from shaperun.preferences.episodes import FilmedEpisode, collect_episodes
from shaperun.preferences.fit import compute_hessian, fit_answers, fit_weights
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study, parse_study

SILENT = (lambda _: None, lambda *_: None)
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
def filmed(tmp_path_factory: pytest.TempPathFactory) -> list[FilmedEpisode]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shaperun.preferences.episodes.MAX_STARTS", 6)
        patch.setattr("shaperun.check.filmstrip.FRAME_WIDTH", 60)
        return collect_episodes(study(), StudyFolder(tmp_path_factory.mktemp("results")), *SILENT)


@pytest.fixture(scope="module")
def path(filmed: list[FilmedEpisode], tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask, "collect_episodes", lambda *_: filmed)
        text = ask.render_page(study(), StudyFolder(Path("nowhere")), *SILENT)
    page = tmp_path_factory.mktemp("page") / "ask.html"
    page.write_text(text, encoding="utf-8")
    return page


@pytest.fixture
def page(chrome: Chrome, path: Path) -> Iterator[AskPage]:
    """The page; its console must be empty at the end."""
    yield AskPage(chrome, path, seed=3)
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]


def choose_by_return(page: AskPage, episodes: list[FilmedEpisode]) -> str:
    pair = page.pair
    assert pair is not None
    left, right = (episodes[index].episode.env_return for index in pair)
    return "left" if left > right else "right" if right > left else "equal"


def scaled_sums(sheet: AnswerSheet) -> Array:
    """Return sums over their standard deviation (episodes, K); 0 where γ makes them negligible."""
    sums, undiscounted = sheet.sums
    varies = sums.std(0) > 0.01 * undiscounted.std(0)
    assert not varies[sheet.terms.index("balanced")]  # 500 steps at γ 0.98
    return np.where(varies, sums / np.where(varies, sums.std(0), 1), 0)


def save_sheet(page: AskPage, path: Path) -> AnswerSheet:
    saved = path / "answers.json"
    saved.write_text(page.sheet(), encoding="utf-8")
    return answers.read_answers(saved)


def test_hostile_data_cannot_leave_its_element(
    filmed: list[FilmedEpisode], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = [
        FilmedEpisode(item.episode.model_copy(update={"by": HOSTILE}), item.strip)
        for item in filmed
    ]
    monkeypatch.setattr(ask, "collect_episodes", lambda *_: hostile)
    evil = study().model_copy(update={"study": HOSTILE})
    text = ask.render_page(evil, StudyFolder(Path("nowhere")), *SILENT)
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in data
    assert json.loads(data) == json.loads(json.dumps(ask.page_data(evil, hostile)))
    assert text.count("<script") == 2
    code = text.replace(data, "")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in code
    for address in ("http:", "https:", "//cdn", "@import"):
        assert address not in code


def test_page_and_fit_agree(page: AskPage, filmed: list[FilmedEpisode], tmp_path: Path) -> None:
    """The page and `fit` compute the same weights and intervals with the same ridge."""
    for _ in range(25):
        page.answer(choose_by_return(page, filmed))
    page.answer("unsure")
    sheet = save_sheet(page, tmp_path)
    pairs, preferred = sheet.comparisons()
    assert len(pairs) == 25
    scaled = scaled_sums(sheet)
    scaled = scaled[pairs[:, 0]] - scaled[pairs[:, 1]]
    weights = fit_weights(scaled, preferred, 1.0)
    errors = 1.959964 * np.sqrt(np.diag(np.linalg.inv(compute_hessian(scaled, weights, 1.0))))
    shown = page.run(
        "return [...document.querySelectorAll('.term')].map("
        "r => [r.dataset.term, Number(r.dataset.weight), Number(r.dataset.error)])"
    )
    assert [name for name, _, _ in shown] == sheet.terms
    assert [weight for _, weight, _ in shown] == pytest.approx(weights, rel=1e-6, abs=1e-6)
    assert [error for _, _, error in shown] == pytest.approx(errors, rel=1e-6)
    chance = page.run("return Number(document.getElementById('progress').dataset.chance)")
    assert chance == pytest.approx(fit_answers(sheet).p_chance, rel=1e-9)


def test_every_pair_is_asked_once(
    page: AskPage, filmed: list[FilmedEpisode], tmp_path: Path
) -> None:
    by_start: dict[int, list[int]] = {}
    for index, item in enumerate(filmed):
        by_start.setdefault(item.episode.start, []).append(index)
    pairs = {frozenset(p) for indices in by_start.values() for p in combinations(indices, 2)}
    seen = []
    while page.pair is not None:
        seen.append(frozenset(page.pair))
        page.answer(choose_by_return(page, filmed))
    assert len(seen) == len(set(seen))
    assert set(seen) == pairs
    assert "All pairs" in page.run("return document.getElementById('question').textContent")
    assert page.run("return document.querySelector('#choices button').disabled")
    assert len(save_sheet(page, tmp_path).answers) == len(pairs)


def test_the_most_informative_pair_is_asked(
    page: AskPage, filmed: list[FilmedEpisode], tmp_path: Path
) -> None:
    """The gain is log(1 + p (1 − p) dᵀ H⁻¹ d), lower for outcomes compared before."""
    all_pairs = [tuple(pair) for pair in page.run("return PAIRS")]
    for _ in range(12):
        sheet = save_sheet(page, tmp_path)
        values = scaled_sums(sheet)
        pairs, preferred = sheet.comparisons()
        known = values[pairs[:, 0]] - values[pairs[:, 1]]
        weights = fit_weights(known, preferred, 1.0)
        inverse = np.linalg.inv(compute_hessian(known, weights, 1.0))
        before = Counter(outcomes(sheet, a.left, a.right) for a in sheet.answers)
        asked = {frozenset((a.left, a.right)) for a in sheet.answers}
        gains = {}
        for left, right in all_pairs:
            if frozenset((left, right)) not in asked:
                d = values[left] - values[right]
                p = 1 / (1 + np.exp(-d @ weights))
                seen = before[outcomes(sheet, left, right)]
                gains[left, right] = np.log1p(p * (1 - p) * d @ inverse @ d) / (1 + seen)
        chosen = page.pair
        assert chosen is not None
        assert gains[chosen[0], chosen[1]] == pytest.approx(max(gains.values()), rel=1e-6)
        page.answer(choose_by_return(page, filmed))


def outcomes(sheet: AnswerSheet, left: int, right: int) -> tuple[str, ...]:
    return tuple(sorted(sheet.episodes[index].outcome for index in (left, right)))


def test_keys_answer_and_undo(page: AskPage, chrome: Chrome, tmp_path: Path) -> None:
    body = chrome.find_element(By.TAG_NAME, "body")
    first = page.pair
    for key in (Keys.ARROW_LEFT, Keys.ARROW_RIGHT, "=", "?"):
        body.send_keys(key)
    given = [answer.answer for answer in save_sheet(page, tmp_path).answers]
    assert given == ["left", "right", "equal", "unsure"]
    for _ in range(5):  # once more than there are answers
        body.send_keys("u")
    assert save_sheet(page, tmp_path).answers == []
    assert page.pair == first


def test_answers_survive_closing_the_page(page: AskPage, chrome: Chrome, path: Path) -> None:
    for _ in range(3):
        page.answer("left")
    given = page.run("return JSON.stringify(state.answers)")
    chrome.get("about:blank")
    chrome.get(path.as_uri())
    assert page.run("return JSON.stringify(state.answers)") == given
    page.run("localStorage.setItem(localStorage.key(0), '[{\"left\": 1e9}, 7, null]')")
    chrome.refresh()
    assert page.run("return state.answers.length") == 0


def test_the_page_states_missing_answers_and_when_to_stop(
    page: AskPage, filmed: list[FilmedEpisode]
) -> None:
    def advice() -> str:
        return str(page.run("return document.getElementById('progress').textContent"))

    assert page.run("return document.getElementById('save').disabled")
    assert "10 more" in advice()
    stable = []
    while page.pair is not None:
        page.answer(choose_by_return(page, filmed))
        stable.append("you may stop" in advice())
    assert not page.run("return document.getElementById('save').disabled")
    assert not any(stable[:18])
    assert stable[-1]


def test_both_episodes_play_to_their_ends(page: AskPage, chrome: Chrome) -> None:
    page.run("const now = performance.now; performance.now = () => 20 * now.call(performance)")
    page.run("state.sides = null; loadPair()")
    script = "return [...document.querySelectorAll('.caption')].map(c => c.textContent)"
    WebDriverWait(chrome, 20, poll_frequency=0.05).until(
        lambda _: all("after" in caption for caption in page.run(script))
    )
    painted = page.run(
        "return [...document.querySelectorAll('canvas')].map(c => "
        "new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"
    )
    assert min(painted) > 3
