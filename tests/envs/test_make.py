"""Environments of other modules, warnings, and rendering without a display."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from shaperun.envs.episodes import play_episode
from shaperun.envs.make import explain_rendering_error, render_without_display
from tests.helpers.toy import Register, Toy, refusals, study

MODULE = f"""\
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces

Path(__file__).with_name("imported").touch()

{inspect.getsource(Toy)}
gym.register("Elsewhere-v0", entry_point=Toy)
"""


@pytest.fixture
def elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register: Register
) -> Iterator[Path]:
    """Return a file that exists once the module with an environment was imported."""
    (tmp_path / "elsewhere_module.py").write_text(MODULE)
    (tmp_path / "elsewhere_broken.py").write_text('raise RuntimeError("out of order")\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"
    for name in ("elsewhere_module", "elsewhere_broken"):
        sys.modules.pop(name, None)


def test_id_that_names_code_needs_permission(elsewhere: Path) -> None:
    for env_id in ("elsewhere_module:Elsewhere-v0", "elsewhere_broken:X-v0", "missing:X-v0", ":"):
        message = f"{env_id} cannot be used: its id names Python code; pass --allow-code"
        assert message in refusals({"id": env_id})["environment.id"]
    assert not elsewhere.exists()
    assert "elsewhere_module" not in sys.modules


def test_id_that_names_code_is_imported_with_permission(elsewhere: Path) -> None:
    env_id = "elsewhere_module:Elsewhere-v0"
    loaded = study({"id": env_id, "options": {"size": 6, "max_episode_steps": 9}}, allow_code=True)
    assert elsewhere.exists()
    assert loaded.code_references == [env_id]
    environment = loaded.environment.describe()
    assert (environment.id, environment.observation_size) == (env_id, 6)
    env = loaded.environment.make()
    assert env.observation_space.shape == (6,)
    episode = play_episode(env, environment, lambda obs: 0, seed=0)
    assert (len(episode), episode.outcome) == (1, "terminated")


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        (
            "missing_module:X-v0",
            "creation failed with ModuleNotFoundError: No module named 'missing_module'",
        ),
        ("elsewhere_broken:X-v0", "creation failed with RuntimeError: out of order"),
        ("elsewhere_module:X-v0", "unknown environment elsewhere_module:X-v0"),
        (":X-v0", "unknown environment :X-v0"),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_code_without_the_environment_is_refused(env_id: str, message: str) -> None:
    assert message in refusals({"id": env_id}, allow_code=True)["environment.id"]


def test_plain_id_is_not_code() -> None:
    assert study({"id": "FrozenLake-v1"}).code_references == []


def test_warnings_of_gymnasium_are_not_printed(
    register: Register, recwarn: pytest.WarningsRecorder
) -> None:
    def make(**_options: Any) -> Toy:
        gym.logger.warn("an old environment")
        return Toy()

    register("Toy-v0", make)
    study({"id": "Toy-v0", "options": {"max_episode_steps": 9}}).environment.make().close()
    assert not recwarn.list


def test_rendering_needs_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    render_without_display()
    assert (os.environ["SDL_VIDEODRIVER"], os.environ["MUJOCO_GL"]) == ("dummy", "egl")
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)  # other tests import it
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    render_without_display()
    error = RuntimeError("no context")
    assert explain_rendering_error(error) == "RuntimeError: no context"
    monkeypatch.setitem(sys.modules, "mujoco", sys)  # as if its simulator were in use
    assert explain_rendering_error(error).endswith(
        "(MUJOCO_GL is glfw; try MUJOCO_GL=egl, or osmesa)"
    )


def test_rendering_error_without_a_text_is_named() -> None:
    assert explain_rendering_error(NotImplementedError()).startswith("NotImplementedError")
