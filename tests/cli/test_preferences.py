"""`ask` and `fit` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shaperun.preferences.answers import Subject
from shaperun.rewards.network_term import NetworkTerm
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.loader import load_study
from tests.conftest import call_shaperun
from tests.helpers.preferences import episode_row, make_sheet

STUDY = """\
study: poles
environment: {id: CartPole-v1}
training: {total_timesteps: 1000}
arms:
  default: {}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study, and answers about it that prefer upright poles."""
    (tmp_path / "study.yaml").write_text(STUDY)
    subject = Subject.from_study(load_study(tmp_path / "study.yaml")).model_dump(mode="json")
    names = list(subject["terms"])
    rows, given = [], []
    for i in range(24):
        sums = [0.0] * len(names)
        sums[names.index("upright")] = float(i % 2) * (1 + i)
        sums[names.index("centred")] = float((i * 7) % 5)
        states = [[float(i % 2), 0.0, 0.1 * step, 0.0] for step in range(3)]
        rows.append(episode_row(i, sums=sums, length=3, states=states))
    for left in range(0, 24, 2):
        given.append((left, left + 1, "right"))
    for file, states in (("answers", rows[0]["states"]), ("blind", []), ("wide", [[0.0] * 5] * 3)):
        changed = [row if file == "answers" else row | {"states": states} for row in rows]
        sheet = make_sheet(changed, given, subject=subject)
        (tmp_path / f"{file}.json").write_text(json.dumps(sheet))
    return tmp_path


def test_answers_become_an_arm(folder: Path) -> None:
    plain = call_shaperun("fit", "answers.json", cwd=folder)
    assert plain.returncode == 0, plain.stderr
    assert "To add it to a study: shaperun fit answers.json --into STUDY" in plain.stdout
    assert (folder / "study.yaml").read_text() == STUDY
    done = call_shaperun("fit", "answers.json", "--into", "study.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Added to study.yaml" in done.stdout
    assert "Returns of scripted behaviors" in done.stdout  # the output of check
    arm = load_study(folder / "study.yaml").arms["fitted"]
    assert arm.weights["upright"] > 0
    assert (folder / "study.yaml").read_text().startswith(STUDY)


def noise(folder: Path) -> None:
    """Answers that no term explains."""
    sheet = json.loads((folder / "answers.json").read_text())
    sides = ["left", "right", "right", "left", "right", "left", "left", "left", "right"]
    for index, answer in enumerate(sheet["answers"]):
        answer["answer"] = sides[index % len(sides)]
    (folder / "noise.json").write_text(json.dumps(sheet))


def test_noise_is_added_only_with_force(folder: Path) -> None:
    noise(folder)
    refused = call_shaperun("fit", "noise.json", "--into", "study.yaml", cwd=folder)
    assert refused.returncode == 2
    assert "held-out answers, not clearly more than guesses would (50%, p = " in refused.stderr
    assert (folder / "study.yaml").read_text() == STUDY
    assert not (folder / "study.yaml.bak").exists()
    forced = call_shaperun("fit", "noise.json", "--into", "study.yaml", "--force", cwd=folder)
    assert forced.returncode == 0, forced.stderr
    assert (folder / "study.yaml.bak").read_text() == STUDY


def test_json_is_one_document(folder: Path) -> None:
    done = call_shaperun("fit", "answers.json", "--json", "--name", "mine", cwd=folder)
    document = json.loads(done.stdout)
    assert document["answers"] == {"preferring": 12, "equal": 0, "unsure": 0}
    assert document["arm"]["mine"]["mode"] == "replace"
    assert document["weights"]["upright"]["interval"][1] > 0


def test_a_network_becomes_a_term_of_the_arm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shaperun.preferences.network._MAX_ITERATIONS", 5)
    done = call_shaperun("fit", "answers.json", "--network", "--into", "study.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "with a network of the state (4–16–1)" in done.stdout
    arm = load_study(folder / "study.yaml").arms["fitted"]
    assert arm.weights["learned"] == 1.0
    assert isinstance(arm.terms["learned"], NetworkTerm)
    trained = call_shaperun(
        *("train", "study.yaml", "--arms", "fitted", "--seeds", "0"),
        *("--set", "training.total_timesteps=64", "--set", "training.hyperparameters.n_steps=32"),
        *("--set", "evaluation.final_episodes=2"),
        cwd=folder,
    )
    assert trained.returncode == 0, trained.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "cannot read nowhere.json"),
        (["answers.json", "--into", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["answers.json", "--name", "a/b"], "invalid arm name a/b"),
        (
            ["answers.json", "--into", "study.yaml", "--name", "default"],
            "already has an arm default",
        ),
        (["answers.json", "--into", "other.yaml"], "about another study"),
        (["blind.json", "--network", "--into", "study.yaml"], "no observations of CartPole-v1"),
        (["wide.json", "--into", "study.yaml"], "observations of size 5"),
    ],
)
def test_an_error_is_one_line_and_changes_nothing(
    arguments: list[str], message: str, folder: Path
) -> None:
    (folder / "other.yaml").write_text(STUDY.replace("1000}", "1000, hyperparameters: {gamma: 1}}"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = call_shaperun("fit", *arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_page_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shaperun.preferences.episodes.MAX_STARTS", 1)
    done = call_shaperun("ask", "study.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(Path("results", "poles", "ask.html"))
    assert "act_randomly: 1 episode each" in done.stderr
    assert (folder / "results" / "poles" / "ask.html").stat().st_size > 10_000
    assert not StudyFolder(folder / "results" / "poles").is_foreign()  # train accepts it
