"""A small real study, trained once through the command line, and the command line itself."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from hypothesis import settings
from selenium.webdriver import Chrome

from benchmarks.preferences.browser import BROWSER, DRIVER, open_browser
from shaperun.check import check, preview
from shaperun.check.behaviors import EPISODES, Behavior, record_behaviors
from shaperun.cli.main import main
from shaperun.envs.builtin import environments
from shaperun.envs.generic import _inspect
from shaperun.runs import driver, prepare
from shaperun.runs.plan import plan_runs
from shaperun.runs.process_pool import run_inline
from shaperun.runs.study_folder import StudyFolder
from shaperun.search import driver as search
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.models import parse_study
from tests.helpers.toy import Register

# A loaded machine may take any time for an example.
settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")


@cache
def _recorded(config: str, episodes: int) -> list[Behavior]:
    return record_behaviors(EnvironmentConfig.model_validate_json(config), episodes)


def recorded_once(config: EnvironmentConfig, episodes: int = EPISODES) -> list[Behavior]:
    """Return `record_behaviors`, the same in every test of this process."""
    if config.id in environments():
        return _recorded(config.model_dump_json(), episodes)
    return record_behaviors(config, episodes)  # of an environment that a test registers


@pytest.fixture(scope="session", autouse=True)
def one_recording() -> Iterator[None]:
    """Let all checks and pages share recordings: they differ in the reward only."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (check, preview):
            patch.setattr(module, "record_behaviors", recorded_once)
        yield


@pytest.fixture
def register() -> Iterator[Register]:
    """Register environments for the duration of one test."""
    before = dict(gym.registry)
    _inspect.cache_clear()
    yield lambda env_id, make: gym.register(env_id, entry_point=make)
    gym.registry.clear()
    gym.registry.update(before)
    _inspect.cache_clear()


Shaperun = Callable[..., subprocess.CompletedProcess[str]]

TINY = {
    "study": "tiny",
    "environment": {"id": "CartPole-v1"},
    "training": {
        "total_timesteps": 2_000,
        "n_envs": 4,
        "normalize": {"observations": True},
        "hyperparameters": {"n_steps": 50, "batch_size": 50, "n_epochs": 4, "gamma": 0.98},
    },
    "seeds": 2,
    "evaluation": {"every": 500, "episodes": 5, "final_episodes": 8},
    "arms": {
        "default": {},
        "guided": {"mode": "potential", "weights": {"upright": 1, "centred": 1}},
    },
}


def call_shaperun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which has already imported everything."""
    command = ["shaperun", *arguments]
    polite = signal.getsignal(signal.SIGTERM)
    status, out, err = 0, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", command.copy())
        patch.setattr(sys, "path", sys.path.copy())
        patch.setenv("COLUMNS", "200")
        patch.setenv("NO_COLOR", "1")
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, polite)
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def run_shaperun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "shaperun", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )


@pytest.fixture
def shaperun(tmp_path: Path) -> Shaperun:
    """The command line in an empty folder."""
    return lambda *arguments: call_shaperun(*arguments, cwd=tmp_path)


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """A study that trains in seconds."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False))
    return path


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder made by the first test process that needs it; others copy it.

    Each process has a copy, so that none sees what another reads or locks. Two that begin at the
    same time do not wait for each other.
    """
    folder, shared = factory.mktemp(name), factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    original = shared / f"original-{name}"
    if original.exists():
        shutil.copytree(original, folder, dirs_exist_ok=True)
        return folder
    make(folder)
    part = factory.mktemp(f"part-{name}") / name
    shutil.copytree(folder, part)
    with suppress(OSError):  # another process was faster
        part.rename(original)
    return folder


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless browser, in which every test opens a page of its own."""
    if not BROWSER or not DRIVER:
        pytest.skip("needs chromium and chromedriver (Debian: apt install chromium-driver)")
    with open_browser(tmp_path_factory.mktemp("chromium"), "performance") as browser:
        yield browser


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny study trained in it; tests must not change it."""
    return made_once(tmp_path_factory, "trained", _train)


def _train(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    done = call_shaperun("train", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr


SEARCHED = TINY | {
    "study": "searched",
    "training": {
        "total_timesteps": 400,
        "n_envs": 2,
        "hyperparameters": {"n_steps": 50, "batch_size": 50, "n_epochs": 2},
    },
    "evaluation": {"every": 100, "episodes": 3, "final_episodes": 4},
    "arms": {"default": {}, "guided": {"mode": "add", "weights": {"upright": 1}}},
    "sweep": {
        "method": "tpe",
        "base": "guided",
        "pruning": "halving",
        "weights": {
            "upright": {"low": 0, "high": 10},
            "centred": {"low": 0.1, "high": 10, "log": True},
        },
        "samples": 6,
        "population": 6,
        "confirm": 2,
    },
}


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep: two trials finished, four were pruned."""
    return made_once(tmp_path_factory, "searched", _search)


def _search(path: Path) -> None:
    study, folder = parse_study(SEARCHED), StudyFolder(path / "results" / "searched")
    runs = plan_runs(study, study.arms)
    prepare.prepare(study, folder, runs, fresh=False)
    sweep = search.run_sweep(study, folder, run_inline)
    for states in (sweep, driver.execute_runs(folder, runs, run_inline)):
        *_, last = states
        assert {state.state for state in last} <= {"done", "pruned"}
