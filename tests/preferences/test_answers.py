from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shaperun.common.errors import UserError
from shaperun.preferences import answers
from shaperun.preferences.answers import EpisodeSummary, Subject
from shaperun.study.models import Study, parse_study
from tests.helpers.preferences import TERMS, episode_row, make_sheet


def save(path: Path, sheet: dict[str, Any]) -> Path:
    path.write_text(json.dumps(sheet), encoding="utf-8")
    return path


@pytest.fixture
def sheet() -> dict[str, Any]:
    """Three episodes from one start and one from another, and two answers."""
    return make_sheet(
        [episode_row(0), episode_row(1), episode_row(2), episode_row(3, start=9)],
        [(0, 1, "left"), (2, 1, "equal")],
    )


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        answers.read_answers(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_file_is_read(sheet: dict[str, Any], tmp_path: Path) -> None:
    loaded = answers.read_answers(save(tmp_path / "answers.json", sheet))
    assert loaded.terms == list(TERMS)
    assert [episode.start for episode in loaded.episodes] == [4, 4, 4, 9]
    pairs, preferred = loaded.comparisons()
    assert pairs.tolist() == [[0, 1], [2, 1]]
    assert preferred.tolist() == [1.0, 0.5]
    assert loaded.count_answers() == {"left": 1, "equal": 1}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(share: float, sheet: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path / "answers.json", sheet)
    text = path.read_bytes()
    path.write_bytes(text[: int(len(text) * share)])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("content", ["[]", "{}", '"answers"', '{"format": "other"}', "7"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(content)
    assert "contains no answers" in refusal(path)
    assert "cannot read" in refusal(tmp_path / "nowhere.json")
    (tmp_path / "link").symlink_to(path)
    assert refusal(tmp_path / "link").endswith("link: it is a symbolic link; name its target")
    assert "cannot read" in refusal(tmp_path)


def changed(sheet: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**sheet, **changes}


def with_table(sheet: dict[str, Any], rows: Any) -> dict[str, Any]:
    table = json.dumps(rows)
    return changed(sheet, table=table, digest=answers.compute_digest(table))


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda s: changed(s, table=s["table"].replace("0.5", "9.5")), "changed after saving"),
        (lambda s: changed(s, digest="0" * 64), "changed after saving"),
        (lambda s: changed(s, table="{}"), "not saved by the page"),
        (lambda s: changed(s, table="["), "not saved by the page"),
        (lambda s: changed(s, table=s["table"].replace("0.5", "NaN")), "not saved by the page"),
        (lambda s: changed(s, extra=1), "extra"),
        (lambda s: changed(s, answers=[{"left": 0, "right": 1, "answer": "both"}]), "answers.0"),
        (lambda s: changed(s, answers=[{"left": -1, "right": 1, "answer": "left"}]), "answers.0"),
        (
            lambda s: changed(s, answers=[{"left": 0, "right": 7, "answer": "left"}]),
            "not about two",
        ),
        (
            lambda s: changed(s, answers=[{"left": 1, "right": 1, "answer": "left"}]),
            "not about two",
        ),
        (lambda s: changed(s, answers=[{"left": 0, "right": 3, "answer": "left"}]), "different"),
        (
            lambda s: with_table(s, [json.loads(s["table"])[0] | {"sums": [1.0]}] * 4),
            "do not match its terms",
        ),
        (
            lambda s: with_table(s, [json.loads(s["table"])[0] | {"undiscounted": []}] * 4),
            "do not match its terms",
        ),
        (
            lambda s: with_table(s, [json.loads(s["table"])[0] | {"states": [[1.0]]}] * 4),
            "do not match their lengths",
        ),
        (lambda s: with_table(s, [json.loads(s["table"])[0] | {"length": 10**12}] * 4), "length"),
        (lambda s: with_table(s, [[1]] * 4), "not saved by the page"),
        (lambda s: changed(s, subject={"gamma": 1}), "subject"),
    ],
)
def test_forged_files_are_refused(
    forge: Any, message: str, sheet: dict[str, Any], tmp_path: Path
) -> None:
    assert message in refusal(save(tmp_path / "answers.json", forge(sheet)))


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
    path = save(tmp_path / "answers.json", sheet)
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
    rows = [episode_row(i, sums=[0.0] * len(names)) for i in range(2)]
    sheet = answers.read_answers(save(tmp_path / "a.json", make_sheet(rows, [], subject=subject)))
    answers.ensure_same_study(sheet, study(study="renamed", arms={"default": {}, "more": {}}))
    for changes, what in (
        ({"environment": {"id": "Acrobot-v1"}}, "environment"),
        ({"training": {"total_timesteps": 1000, "hyperparameters": {"gamma": 0.9}}}, "gamma"),
        ({"terms": {"near": "-abs(x)"}}, "terms"),
    ):
        with pytest.raises(UserError, match=f"another study, test: its {what} is"):
            answers.ensure_same_study(sheet, study(**changes))


def test_a_table_round_trips() -> None:
    episodes = [EpisodeSummary.model_validate(episode_row(place)) for place in range(3)]
    rows = json.loads(answers.serialize_episodes(episodes))
    assert [EpisodeSummary.model_validate(row) for row in rows] == episodes
