"""Environments that modules and installed packages declare."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from shaperun.envs import declared
from shaperun.envs.generic import get_environment
from shaperun.envs.spaces import UnsupportedEnvironmentError
from shaperun.rewards.wrapper import RewardShapingWrapper
from shaperun.study.models import parse_study

MODULE = '''
import gymnasium as gym
import numpy as np

from shaperun.envs.base import Environment


class Line(gym.Env):
    """A walk to 5 from 0; −5 is a cliff."""

    observation_space = gym.spaces.Box(-5.0, 5.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.x += 1.0 if action else -1.0
        ended = abs(self.x) == 5
        return np.array([self.x], np.float32), float(self.x == 5), ended, False, {}


gym.register("Line-v0", Line, max_episode_steps=30)

line = Environment(
    id="Line-v0",
    observations=("x",),
    outcome=lambda end: np.select(
        [end.env_reward > 0, end.terminated], ["arrived", "fell"], "timeout"
    ),
    outcomes={"arrived": True, "fell": False, "timeout": False},
)


@line.state_term
def progress(obs):
    """x / 5."""
    return obs[:, 0] / 5


@line.controller
def walk(obs):
    """Walks to the goal."""
    return 1
'''
MODULES = ("line_module", "other_module", "line_package", "line_factory")
OTHERS = '''

class Image(Line):
    observation_space = gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)


gym.register("Image-v0", Image, max_episode_steps=30)

image = Environment(
    id="Image-v0",
    observations=(),
    outcome=line.outcome,
    outcomes=line.outcomes,
)


class Trade(Line):
    observation_space = gym.spaces.Dict(
        {"cash": gym.spaces.Box(-9, 9, (2,)), "step": gym.spaces.Discrete(4)}
    )
    action_space = gym.spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"cash": np.array([1, 2], np.float32), "step": 0}, {}

    def step(self, action):
        return {"cash": np.array([1, 2], np.float32), "step": 1}, 0.0, False, False, {}


gym.register("Trade-v0", Trade, max_episode_steps=30)

trade = Environment(
    id="Trade-v0", observations=(), outcome=line.outcome, outcomes=line.outcomes
)


@trade.state_term
def rich(obs):
    """Cash."""
    return obs[:, 0]
'''
ENTRY_POINTS = """[shaperun.environments]
Line-v0 = line_module:line
Wrong-v0 = line_module:walk
Lost-v0 = line_module:nothing
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "line_module.py").write_text(MODULE + OTHERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    forget()


@pytest.fixture
def package(tmp_path: Path, module: None) -> None:
    info = tmp_path / "line-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: line\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    importlib.invalidate_caches()
    forget()


def forget() -> None:
    declared.installed_environments.cache_clear()
    declared.find_declaration.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        del sys.modules[name]
    gym.registry.pop("Line-v0", None)
    gym.registry.pop("Image-v0", None)
    gym.registry.pop("Trade-v0", None)


@pytest.mark.usefixtures("module")
def test_module_declares_its_environment() -> None:
    known = get_environment("line_module:Line-v0", {"max_episode_steps": 9})
    assert (known.id, known.time_limit) == ("line_module:Line-v0", 9)
    assert get_environment("line_module:Line-v0").time_limit == 30  # as registered
    assert {"progress", "arrived", "fell"} <= known.built_in.keys()
    assert list(known.controllers) == ["walk"]


@pytest.mark.usefixtures("module")
def test_learners_see_a_declared_environment_as_any_other() -> None:
    declared_view = get_environment("line_module:Image-v0").learner_view
    assert declared_view == get_environment("Image-v0").learner_view
    assert declared_view.is_picture


@pytest.mark.usefixtures("module")
def test_declaration_leaves_sizes_to_the_spaces() -> None:
    known = get_environment("line_module:Trade-v0")
    assert (known.action_size, known.observation_size) == (2, 3)
    env = RewardShapingWrapper(
        gym.make("Trade-v0"),
        {"mode": "add", "terms": {"spent": 'obs["cash"][1]'}, "weights": {"spent": 1, "rich": 1}},
    )
    env.reset(seed=0)
    *_, info = env.step(np.zeros(2, np.float32))
    assert info["reward_components"]["spent"] == 2.0
    assert info["reward_components"]["rich"] == 1.0


@pytest.mark.usefixtures("module")
def test_study_uses_the_terms_and_outcomes_of_a_module() -> None:
    study = parse_study(
        {
            "study": "s",
            "environment": {"id": "line_module:Line-v0"},
            "training": {"total_timesteps": 100},
            "arms": {"a": {"mode": "potential", "weights": {"progress": 1}}},
        },
        allow_code=True,
    )
    env = RewardShapingWrapper(study.environment.make(), study.arms["a"], gamma=1.0)
    env.reset(seed=0)
    shaped = [float(env.step(1)[1]) for _ in range(4)]
    np.testing.assert_allclose(shaped, 0.2)
    assert env.step(1)[1] == pytest.approx(1 - 0.8)  # the potential is 0 at the end


@pytest.mark.usefixtures("module")
def test_wrapper_finds_the_declaration_beside_the_class() -> None:
    config = {"mode": "add", "weights": {"progress": 1}}
    env = RewardShapingWrapper(gym.make("line_module:Line-v0"), config)
    env.reset(seed=0)
    assert env.step(0)[1] == pytest.approx(-0.2)


@pytest.mark.usefixtures("module")
def test_declaration_beside_the_class_is_preferred_to_one_of_the_same_name(tmp_path: Path) -> None:
    other = MODULE.replace("obs[:, 0] / 5", "obs[:, 0] / 2").replace('"fell"', '"slipped"')
    (tmp_path / "other_module.py").write_text(other)
    config = {"mode": "add", "weights": {"progress": 1, "slipped": -7}}
    assert "fell" in get_environment("line_module:Line-v0").outcomes
    with pytest.warns(UserWarning, match="Overriding environment Line-v0"):
        env = RewardShapingWrapper(gym.make("other_module:Line-v0"), config)
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(5)] == pytest.approx([-0.5, -1, -1.5, -2, -9.5])


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("path", "entry_point"),
    [
        ("line_package/__init__.py", "'line_package.walks:Line'"),
        ("line_factory.py", "lambda: __import__('line_package.walks').walks.Line()"),
    ],
)
def test_wrapper_finds_the_declaration_of_a_package_and_of_an_entry_point(
    path: str, entry_point: str, tmp_path: Path
) -> None:
    code, declaration = MODULE.split("gym.register")
    imports, _ = code.split("class Line")
    (tmp_path / "line_package").mkdir()
    (tmp_path / "line_package/walks.py").write_text(code)
    registered = declaration.replace("Line, max", f"{entry_point}, max", 1)
    (tmp_path / path).write_text(f"{imports}gym.register{registered}")
    config = {"mode": "add", "weights": {"progress": 1}}
    module = path.partition("/")[0].removesuffix(".py")
    env = RewardShapingWrapper(gym.make(f"{module}:Line-v0"), config)
    env.reset(seed=0)
    assert env.step(0)[1] == pytest.approx(-0.2)


@pytest.mark.usefixtures("package")
def test_package_declares_its_environment_by_an_entry_point() -> None:
    assert "line_module" not in sys.modules
    get_environment("CartPole-v1")
    assert "line_module" not in sys.modules
    known = get_environment("Line-v0")
    assert (known.id, known.time_limit, known.observations) == ("Line-v0", 30, ("x",))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Wrong-v0", "TypeError: the entry point of Wrong-v0 is not an Environment"),
        ("Lost-v0", "AttributeError: module 'line_module' has no attribute 'nothing'"),
    ],
)
def test_broken_entry_points_are_named(env_id: str, message: str) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=message):
        get_environment(env_id)
