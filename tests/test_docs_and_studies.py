"""Shipped studies, starter, schema, docs and the README's commands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from benchmarks.reference import FOLDER, table
from shaperun.analysis.summary import ALPHA
from shaperun.common.yaml import read_yaml
from shaperun.rewards.wrapper import RewardShapingWrapper
from shaperun.runs.plan import plan_runs
from shaperun.search.arms import make_sweep_arms
from shaperun.stats.permutation import min_runs
from shaperun.study.loader import load_study
from shaperun.study.models import Study, parse_study
from shaperun.study.schema import json_schema
from tests.conftest import call_shaperun

ROOT = Path(__file__).parent.parent
STUDIES = [*sorted((ROOT / "experiments").glob("*.yaml")), ROOT / "shaperun/study/starter.yaml"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_loads_and_plans(path: Path) -> None:
    study = load_study(path, allow_code=True)
    runs = plan_runs(study, study.arms | (make_sweep_arms(study) if study.sweep else {}))
    assert len(runs) >= len(study.seeds) * len(study.arms)
    assert len({run.config.identity for run in runs}) >= len(runs) - len(study.seeds)
    assert study.arms[study.baseline].mode == "log"
    if path.parent.name == "experiments":
        assert path.stem == study.study
        assert path.read_text().startswith("# yaml-language-server: $schema=study.schema.json")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_allows_a_verdict(path: Path) -> None:
    study = load_study(path, allow_code=True)
    if not study.sweep:  # whose trials are ranked
        assert_allows_verdict(study)


def assert_allows_verdict(study: Study) -> None:
    compared = max(1, len(study.arms) - 1)
    assert len(study.seeds) >= min_runs(ALPHA / compared, paired=False)


def shaped_env(study_name: str, arm: str) -> RewardShapingWrapper:
    study = load_study(ROOT / "experiments" / f"{study_name}.yaml", allow_code=True)
    return RewardShapingWrapper(
        gym.make(study.environment.id), study.resolve_reward(study.arms[arm])
    )


def test_a_parcel_taken_in_the_first_step_is_paid() -> None:
    for arm, term in (("hint", "take"), ("hint-once", "first_take")):
        env = shaped_env("warehouse", arm)
        paid = []
        for seed, move in product(range(20), range(5)):
            env.reset(seed=seed)
            *_, info = env.step(np.array([move, 1]))
            if info["taken"]:
                paid.append(info["reward_components"][term])
        assert paid == [1.0] * len(paid)
        assert paid


def test_the_drawdown_of_the_market_counts_from_its_start() -> None:
    env = shaped_env("market", "cautious")
    env.reset(seed=0)
    steps = [env.step(day % 3)[-1]["reward_components"] for day in range(100)]
    totals = np.cumsum([step["env_reward"] for step in steps])
    assert totals[0] < 0
    peaks = np.maximum(0, np.maximum.accumulate(totals))
    assert [step["drawdown_now"] for step in steps] == pytest.approx(peaks - totals)


def test_the_committed_schema_is_current() -> None:
    stored = json.loads((ROOT / "experiments" / "study.schema.json").read_text())
    assert stored == json_schema(), "shaperun schema > experiments/study.schema.json"


def test_the_starter_is_installed() -> None:
    assert files("shaperun.study").joinpath("starter.yaml").read_bytes() == STUDIES[-1].read_bytes()


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = (line.split("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def test_the_readmes_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one folder; trainings are shortened, everything else is run as written.

    A command given for several studies is run for the last of them.
    """
    monkeypatch.setattr(
        "shaperun.check.preview.FILMED_EPISODES", 1
    )  # most of the time would go into pictures
    monkeypatch.setattr("shaperun.preferences.episodes.MAX_STARTS", 1)
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    commands = readme_commands()
    last = {tuple(shlex.split(command)[:2]): command for command in commands}
    makefile = (ROOT / "Makefile").read_text()
    short = ["training.total_timesteps=512", "training.hyperparameters.n_steps=16", "seeds=1"]
    short += ["evaluation={every: 256, episodes: 2, final_episodes: 2}"]
    assert any(command.startswith("shaperun train") for command in commands)
    for command in commands:
        words = shlex.split(command)
        if words[0] == "make":
            assert all(f"\n{target}:" in makefile for target in words[1:])
        dry = "--dry-run" in words
        if Path(words[0]).name != "shaperun" or not (dry or last[tuple(words[:2])] == command):
            continue
        changes = [word for value in short for word in ("--set", value)]
        if words[1] == "sweep":
            changes += ["--set", "sweep.samples=4", "--set", "sweep.confirm=1"]
        trains = words[1] in ("train", "sweep")
        done = call_shaperun(*words[1:], *(changes if trains else []), cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_readmes_studies_load() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) > 1
    for block in blocks:
        assert_allows_verdict(parse_study(read_yaml(block).data))


def test_the_readmes_script_runs() -> None:
    [script] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(script, names)  # noqa: S102 (it is our own README)
    names["env"].reset(seed=0)
    *_, info = names["env"].step(0)
    assert {"distance", "env_reward", "shaping", "shaped"} <= info["reward_components"].keys()


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("*/**/*.md"))]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if ".venv" not in page.parts],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_between_pages_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readmes_table_is_that_of_the_reference() -> None:
    summary = json.loads((FOLDER / "summary.json").read_text(encoding="utf-8"))
    assert table(summary) in (ROOT / "README.md").read_text(encoding="utf-8")
