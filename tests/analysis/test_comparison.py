"""Several studies compared as one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from matplotlib.figure import Figure

from shaperun.analysis import comparison
from shaperun.analysis.pooling import OpenedStudy, pool_studies
from shaperun.common.errors import UserError
from shaperun.report import files
from shaperun.report.plots import arms
from shaperun.runs.plan import plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import parse_study
from tests.conftest import TINY, Shaperun

PROTOCOL = {"every": 500, "episodes": 5, "final_episodes": 8}  # that of the tiny study
GUIDED: dict[str, Any] = {"mode": "potential", "weights": {"upright": 1, "centred": 1}}
STEEP: dict[str, Any] = {"mode": "potential", "weights": {"upright": 9, "centred": 1}}


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    """The results of the tiny study, to which tests add others."""
    shutil.copytree(trained / "results", tmp_path / "results")
    return tmp_path / "results"


def tiny(results: Path) -> OpenedStudy:
    return parse_study(TINY), StudyFolder(results / "tiny")


def another(results: Path, name: str, **changes: Any) -> OpenedStudy:
    """A study with copies of the tiny study's runs under another name and configuration."""
    study = parse_study({**TINY, "study": name, **changes})
    folder = StudyFolder(results / name)
    folder.write_study(study.model_dump(mode="json"))
    for run in plan_runs(study, study.arms):
        arm = "default" if run.config.reward.mode == "log" else "guided"
        source = StudyFolder(results / "tiny").run(arm, run.seed % 2)
        _adopt(source, folder.run(run.arm, run.seed), run.config)
    return study, folder


def _adopt(source: RunFolder, target: RunFolder, config: Any) -> None:
    shutil.copytree(source.path, target.path)
    record = {"identity": config.identity, "config": config.model_dump(mode="json")}
    target.config.write_text(json.dumps(record))
    target.finish()


def test_equal_arms_are_pooled_and_a_seed_counts_once(results: Path) -> None:
    more = another(results, "more", seeds=[1, 2, 3])
    compared = comparison.compare_studies([tiny(results), more])
    assert {arm.arm: arm.runs for arm in compared.summary.arms} == {"default": 4, "guided": 4}
    keys = compared.runs.select("arm", "seed").rows()
    assert keys == [(arm, seed) for arm in ("default", "guided") for seed in range(4)]
    document = compared.document()
    assert (document["study"], document["studies"]) == ("tiny + more", ["tiny", "more"])
    assert document["notes"] == [
        f"{arm} is the same arm in tiny and more: its runs are pooled, and a seed counts once."
        for arm in ("default", "guided")
    ]


def test_finished_run_is_preferred_to_an_unfinished_one(results: Path) -> None:
    more = another(results, "more")
    (results / "tiny" / "runs" / "guided" / "1" / "DONE.json").unlink()
    compared = comparison.compare_studies([tiny(results), more])
    assert not compared.unfinished
    assert {arm.runs for arm in compared.summary.arms} == {2}


def test_different_arms_of_one_name_are_labeled_by_hash(results: Path) -> None:
    steep = another(results, "steep", arms={"default": {}, "guided": STEEP})
    pooled = pool_studies([tiny(results), steep])
    first, second, third = pooled.study.arms
    assert first == "default"
    assert second != third
    for label in (second, third):
        name, _, digits = label.partition("#")
        assert (name, len(digits)) == ("guided", 6)
    assert pooled.notes[-1] == (
        f"guided has different settings in tiny ({second}) and in steep ({third}): "
        f"reward.weights.upright is 1.0 in {second} and 9.0 in {third}."
    )
    assert not any("trained differently" in note for note in pooled.notes)
    compared = comparison.compare_studies([tiny(results), steep])
    assert set(compared.episodes["arm"]) == {"default", second, third}
    assert compared.summary.baseline == "default"


def test_equal_arms_of_one_study_are_not_merged(results: Path) -> None:
    twins = another(results, "twins", arms={"guided": GUIDED, "again": GUIDED, "default": {}})
    pooled = pool_studies([tiny(results), twins])
    assert list(pooled.study.arms) == ["default", "guided", "again"]
    renamed = another(results, "renamed", arms={"default": {}, "again": GUIDED})
    pooled = pool_studies([tiny(results), renamed])
    assert list(pooled.study.arms) == ["default", "guided"]
    assert "the same arm in tiny (as guided) and renamed (as again)" in pooled.notes[-1]


def test_different_training_is_noted(results: Path) -> None:
    training = {**TINY["training"], "n_envs": 8}  # type: ignore[dict-item]
    others = another(results, "others", training=training, arms={"default": {}, "new": STEEP})
    notes = pool_studies([tiny(results), others]).notes
    assert notes[0] == (
        "others was trained differently from tiny: training.n_envs is 4 in tiny and 8 in others. "
        "A difference between their results cannot be attributed to the reward alone."
    )
    assert "only the training differs" in notes[1]


def test_different_backend_is_noted(results: Path) -> None:
    environment = {"id": "CartPole-v1", "backend": "envpool"}
    others = another(results, "others", environment=environment)
    notes = pool_studies([tiny(results), others]).notes
    assert notes[0].startswith(
        "others was trained differently from tiny: environment.backend is gymnasium in tiny and "
        "envpool in others."
    )
    assert "default has different settings" in notes[1]


def test_baseline_is_that_of_the_first_study(results: Path) -> None:
    shaped = another(results, "shaped", arms={"guided": GUIDED})
    compared = comparison.compare_studies([shaped, tiny(results)])
    assert compared.summary.baseline == "guided"
    assert {c.arm for c in compared.summary.comparisons} == {"default"}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"environment": {"id": "CartPole-v1", "options": {"sutton_barto_reward": True}}},
            "environment.options.sutton_barto_reward is absent in tiny and True in other",
        ),
        (
            {"evaluation": {"every": 500, "episodes": 5, "final_episodes": 9}},
            "evaluation.final_episodes is 8 in tiny and 9 in other",
        ),
        (
            {"evaluation": {**PROTOCOL, "options": {"sutton_barto_reward": True}}},
            "environment.options.sutton_barto_reward is absent in tiny and True in other",
        ),
    ],
)
def test_studies_with_different_evaluation_are_refused(
    results: Path, changes: dict[str, Any], difference: str
) -> None:
    other = parse_study({**TINY, "study": "other", **changes}), StudyFolder(results / "other")
    with pytest.raises(UserError, match="cannot be compared") as error:
        comparison.compare_studies([tiny(results), other])
    assert difference in str(error.value)


def test_studies_that_cannot_be_pooled_are_refused(results: Path) -> None:
    with pytest.raises(UserError, match="study tiny is given 2 times"):
        pool_studies([tiny(results), tiny(results)])
    untrained = parse_study({**TINY, "study": "new"}), StudyFolder(results / "new")
    with pytest.raises(UserError, match="no arm of new has been trained"):
        pool_studies([tiny(results), untrained])
    changed, folder = another(results, "changed")
    changed = parse_study({**TINY, "study": "changed", "arms": {"default": {}, "guided": STEEP}})
    with pytest.raises(UserError, match=r"trained from another configuration:\n.*upright"):
        pool_studies([tiny(results), (changed, folder)])


def test_two_studies_on_the_command_line(results: Path, shaperun: Shaperun) -> None:
    another(results, "steep", arms={"default": {}, "guided": STEEP})
    (results.parent / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    done = shaperun("compare", "tiny.yaml", "steep")
    assert done.returncode == 0, done.stderr
    for words in ("guided#", "reward.weights.upright is", "default is the same arm"):
        assert words in done.stdout
    target = results / "tiny" / "compare" / "with-steep"
    document = json.loads((target / "summary.json").read_text())
    assert json.loads(shaperun("compare", "tiny", "steep", "--json").stdout) == document
    runs = pl.read_csv(target / "runs.csv")
    assert runs.group_by("study").len().sort("study").rows() == [("steep", 2), ("tiny", 4)]
    assert len(list(target.iterdir())) == 12
    assert not (results / "tiny" / "compare" / "summary.json").exists()


def test_folder_name_of_many_studies_is_short(tmp_path: Path) -> None:
    folder, names = StudyFolder(tmp_path), ["x" * 60 + str(number) for number in range(9)]
    folder.comparison_folder(names).mkdir(parents=True)
    assert folder.comparison_folder(names) != folder.comparison_folder(names[::-1])
    assert folder.comparison_folder([]) == folder.compare


def test_contributions_use_the_discount_factor_of_their_arm(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = parse_study(TINY).training.model_dump(mode="json")
    training["hyperparameters"]["gamma"] = 0.5
    hasty = another(results, "hasty", training=training, arms={"hasty": GUIDED})
    drawn: list[pl.DataFrame] = []
    draw = arms.plot_contributions

    def capture(table: pl.DataFrame, **options: Any) -> Figure:
        drawn.append(table.filter(arm="hasty"))
        return draw(table, **options)

    monkeypatch.setattr(arms, "plot_contributions", capture)
    for opened in ([hasty], [tiny(results), hasty]):
        compared = comparison.compare_studies(opened)
        files.write_comparison(compared, comparison.comparison_folder(opened))
    assert drawn[0].equals(drawn[1])
    assert len(drawn[0]) == 3


def test_curves_name_their_episodes_where_tables_have_others(results: Path) -> None:
    study, _ = tiny(results)
    evaluation = study.evaluation.model_copy(update={"episodes": 1, "final_episodes": 20})
    other = study.model_copy(update={"evaluation": evaluation})
    assert comparison.curve_episodes_note(other) == (
        "curves: 1 episode per evaluation; tables of final policies: 20 episodes"
    )
    alike = evaluation.model_copy(update={"episodes": 20})
    assert not comparison.curve_episodes_note(study.model_copy(update={"evaluation": alike}))


def test_options_of_the_evaluation_are_named_and_decide_what_is_comparable(results: Path) -> None:
    limited = {"max_episode_steps": 400}
    trained = another(results, "trained", environment={"id": "CartPole-v1", "options": limited})
    evaluated = another(results, "evaluated", evaluation={**PROTOCOL, "options": limited})
    alone = comparison.compare_studies([evaluated])
    note = "Training used the default for max_episode_steps; evaluation used max_episode_steps=400."
    assert alone.notes == alone.document()["notes"] == [note]
    assert comparison.compare_studies([trained]).notes == []
    both = comparison.compare_studies([evaluated, trained]).notes
    assert any(
        "environment.options.max_episode_steps is absent in evaluated and 400 in trained" in n
        for n in both
    )
