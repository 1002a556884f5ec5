from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shaperun.common.errors import UserError
from shaperun.preferences import answers
from shaperun.preferences.answers import EpisodeSummary, Subject
from shaperun.study.models import Study, parse_study
from tests.helpers.preferences import TERMS, asked, sheet_of


def saved(path: Path, sheet: dict[str, Any]) -> Path:
    path.write_text(json.dumps(sheet), encoding="utf-8")
    return path


@pytest.fixture
def sheet() -> dict[str, Any]:
    """Three episodes from one start and one from another, and two answers."""
    return sheet_of(
        [asked(0), asked(1), asked(2), asked(3, start=9)], [(0, 1, "left"), (2, 1, "equal")]
    )


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        answers.read_answers(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_page_saved_is_read(sheet: dict[str, Any], tmp_path: Path) -> None:
    found = answers.read_answers(saved(tmp_path / "answers.json", sheet))
    assert found.terms == list(TERMS)
    assert [episode.start for episode in found.episodes] == [4, 4, 4, 9]
    pairs, preferred = found.compared()
    assert pairs.tolist() == [[0, 1], [2, 1]]
    assert preferred.tolist() == [1.0, 0.5]
    assert found.counts() == {"left": 1, "equal": 1}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_off(share: float, sheet: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path / "answers.json", sheet)
    text = path.read_bytes()
    path.write_bytes(text[: int(len(text) * share)])
    assert "cut off" in refusal(path)


@pytest.mark.parametrize("content", ["[]", "{}", '"answers"', '{"format": "other"}', "7"])
def test_a_file_of_something_else(content: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(content)
    assert "holds no answers" in refusal(path)
    assert "cannot be read" in refusal(tmp_path / "nowhere.json")
    assert "cannot be read" in refusal(tmp_path)


def changed(sheet: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**sheet, **changes}


def with_table(sheet: dict[str, Any], rows: Any) -> dict[str, Any]:
    table = json.dumps(rows)
    return changed(sheet, table=table, digest=answers.digest(table))


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        (lambda s: changed(s, table=s["table"].replace("0.5", "9.5")), "were changed"),
        (lambda s: changed(s, digest="0" * 64), "were changed"),
        (lambda s: changed(s, table="{}"), "not as the page saved it"),
        (lambda s: changed(s, table="["), "not as the page saved it"),
        (lambda s: changed(s, table=s["table"].replace("0.5", "NaN")), "not as the page saved it"),
        (lambda s: changed(s, extra=1), "extra"),
        (lambda s: changed(s, answers=[{"left": 0, "right": 1, "answer": "both"}]), "answers.0"),
        (lambda s: changed(s, answers=[{"left": -1, "right": 1, "answer": "left"}]), "answers.0"),
        (lambda s: changed(s, answers=[{"left": 0, "right": 7, "answer": "left"}]), "no pair"),
        (lambda s: changed(s, answers=[{"left": 1, "right": 1, "answer": "left"}]), "no pair"),
        (lambda s: changed(s, answers=[{"left": 0, "right": 3, "answer": "left"}]), "different"),
        (lambda s: with_table(s, [json.loads(s["table"])[0] | {"sums": [1.0]}] * 4), "other terms"),
        (
            lambda s: with_table(s, [json.loads(s["table"])[0] | {"undiscounted": []}] * 4),
            "other terms",
        ),
        (
            lambda s: with_table(s, [json.loads(s["table"])[0] | {"states": [[1.0]]}] * 4),
            "other states",
        ),
        (lambda s: with_table(s, [json.loads(s["table"])[0] | {"length": 10**12}] * 4), "length"),
        (lambda s: with_table(s, [[1]] * 4), "not as the page saved it"),
        (lambda s: changed(s, subject={"gamma": 1}), "subject"),
    ],
)
def test_what_no_page_saves(forged: Any, said: str, sheet: dict[str, Any], tmp_path: Path) -> None:
    assert said in refusal(saved(tmp_path / "answers.json", forged(sheet)))


@pytest.mark.parametrize(
    ("left", "right", "answer", "contradicts"),
    [
        *((0, 1, "right", True), (1, 0, "left", True), (0, 1, "equal", True)),
        *((0, 1, "left", False), (1, 0, "right", False)),
    ],
)
def test_a_pair_has_one_answer(
    left: int, right: int, answer: str, contradicts: bool, sheet: dict[str, Any], tmp_path: Path
) -> None:
    sheet["answers"].append({"left": left, "right": right, "answer": answer})
    path = saved(tmp_path / "answers.json", sheet)
    if contradicts:
        assert "answer 3 contradicts an earlier one" in refusal(path)
    else:
        answers.read_answers(path)


def study(**changes: Any) -> Study:
    return parse_study(
        {
            "study": "other",
            "environment": {"id": "CartPole-v1"},
            "training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.98}},
            "arms": {"default": {}},
            **changes,
        }
    )


def test_answers_are_about_one_study(tmp_path: Path) -> None:
    subject = Subject.from_study(study()).model_dump(mode="json")
    names = list(subject["terms"])
    rows = [asked(place, sums=[0.0] * len(names)) for place in range(2)]
    sheet = answers.read_answers(saved(tmp_path / "a.json", sheet_of(rows, [], subject=subject)))
    answers.ensure_same_study(sheet, study(study="renamed", arms={"default": {}, "more": {}}))
    for changes, what in (
        ({"environment": {"id": "Acrobot-v1"}}, "environment"),
        ({"training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.9}}}, "gamma"),
        ({"terms": {"near": "-abs(x)"}}, "terms"),
    ):
        with pytest.raises(UserError, match=f"another study, test: its {what} is"):
            answers.ensure_same_study(sheet, study(**changes))


def test_a_table_comes_back_as_it_was() -> None:
    episodes = [EpisodeSummary.model_validate(asked(place)) for place in range(3)]
    rows = json.loads(answers.table(episodes))
    assert [EpisodeSummary.model_validate(row) for row in rows] == episodes
