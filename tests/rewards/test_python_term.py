"""Terms that are Python functions: lookup, late import, and read-only arguments."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shaperun.envs import transition as transition_module
from shaperun.envs.base import Transition
from shaperun.envs.builtin import environments
from shaperun.envs.memory import EpisodeMemory, Recall
from shaperun.rewards import python_term
from shaperun.rewards.config import RewardConfig
from shaperun.rewards.kernel import RewardError, RewardKernel
from shaperun.study.models import parse_study

CODE = """\
from pathlib import Path

import numpy as np

Path(__file__).with_name("imported").touch()

def height(obs):
    return obs[:, 1] + 0.5

def effort(transition):
    return -1.0 * (transition.action != transition.last_action)

def zeroed(argument):
    obs = getattr(argument, "next_obs", argument)
    obs[:] = 0.0
    return obs[:, 0]

def zeroed_reward(transition):
    transition.env_reward += 1.0
    return transition.env_reward

def listed(obs):
    return [7] * len(obs)

def wide(obs):
    return obs

def missing_key(obs):
    return {}["gone"]

class Scaled:
    factor = 3.0

    def __call__(self, obs):
        return self.factor * obs[:, 0]

scaled = Scaled()
number = 5
"""
ENTRY_POINTS = """\
[shaperun.terms]
tall = nowhere_terms:height
busy = nowhere_terms:effort
nested = nowhere_terms:Scaled.factor
lost = nowhere_terms:nothing
missing = nowhere_missing:height

[console_scripts]
nowhere = nowhere_terms:height
"""
BROKEN = """\
raise RuntimeError("out of order")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on sys.path with an installed package of terms."""
    (tmp_path / "nowhere_terms.py").write_text(CODE)
    (tmp_path / "nowhere_broken.py").write_text(BROKEN)
    info = tmp_path / "nowhere_terms-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nowhere-terms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    clear_imports()
    yield tmp_path
    clear_imports()


def clear_imports() -> None:
    python_term.installed_terms.cache_clear()
    python_term._load.cache_clear()
    for name in [name for name in sys.modules if name.startswith("nowhere_")]:
        del sys.modules[name]


def imported(folder: Path) -> bool:
    return (folder / "imported").exists()


def transition(n: int = 3) -> Transition:
    ramp = np.arange(n, dtype=np.float64)
    return Transition(
        obs=np.stack([ramp, ramp], axis=1),
        action=np.arange(n),
        next_obs=np.stack([ramp + 10, ramp - 10], axis=1),
        env_reward=ramp / 2,
        terminated=ramp == 1,
        truncated=ramp == 2,
        last_action=np.zeros(n, dtype=np.int64),
    )


def test_installed_terms_are_listed_without_importing_them(folder: Path) -> None:
    assert {"tall", "busy", "nested", "lost", "missing"} <= set(python_term.installed_terms())
    assert "nowhere" not in python_term.installed_terms()
    assert not imported(folder)


def test_terms_of_a_missing_package_are_not_listed() -> None:
    clear_imports()
    assert "tall" not in python_term.installed_terms()


@pytest.mark.parametrize("reference", ["tall", "nowhere_terms:height"])
def test_state_term(folder: Path, reference: str) -> None:
    term = python_term.python_term("height", reference, state_only=True)
    assert (term.name, term.state_only) == ("height", True)
    assert reference in term.formula
    assert not imported(folder)
    assert term(transition()).tolist() == [-9.5, -8.5, -7.5]
    assert imported(folder)
    assert term.function(transition().obs).tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize("reference", ["busy", "nowhere_terms:effort"])
@pytest.mark.usefixtures("folder")
def test_transition_term(reference: str) -> None:
    term = python_term.python_term("effort", reference, state_only=False)
    assert not term.state_only
    assert term(transition()).tolist() == [0, -1, -1]


@pytest.mark.usefixtures("folder")
def test_any_callable_can_be_a_term() -> None:
    term = python_term.python_term("scaled", "nowhere_terms:scaled", state_only=True)
    assert term(transition()).tolist() == [30, 33, 36]


def test_function_is_imported_once(folder: Path) -> None:
    for _ in range(3):
        python_term.python_term("height", "nowhere_terms:height", state_only=True)(transition())
        (folder / "imported").unlink(missing_ok=True)
        sys.modules.pop("nowhere_terms", None)
    assert not imported(folder)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere_missing:height", "No module named 'nowhere_missing'"),
        ("missing", "No module named 'nowhere_missing'"),
        ("nowhere_terms:nothing", "has no attribute 'nothing'"),
        ("lost", "has no attribute 'nothing'"),
        ("nowhere_broken:height", "out of order"),
        ("nowhere_terms:", "has no attribute ''"),
        ("nowhere_terms", "has no attribute ''"),
        (":height", "Empty module name"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_failed_import_is_reported(reference: str, message: str) -> None:
    term = python_term.python_term("term", reference, state_only=True)
    for _ in range(2):
        with pytest.raises(ImportError) as caught:
            term(transition())
        assert f"{reference} cannot be imported: " in str(caught.value)
        assert message in str(caught.value)


@pytest.mark.parametrize("reference", ["nowhere_terms:number", "nested"])
@pytest.mark.usefixtures("folder")
def test_object_that_is_not_callable_is_refused(reference: str) -> None:
    with pytest.raises(ImportError, match=f"{reference} is not callable"):
        python_term.python_term("term", reference, state_only=True)(transition())


@pytest.mark.parametrize("state_only", [True, False])
@pytest.mark.usefixtures("folder")
def test_term_cannot_change_its_argument(state_only: bool) -> None:
    batch = transition()
    term = python_term.python_term("zeroed", "nowhere_terms:zeroed", state_only=state_only)
    with pytest.raises(ValueError, match="read-only"):
        term(batch)
    assert batch.next_obs.tolist() == transition().next_obs.tolist()


@pytest.mark.usefixtures("folder")
def test_all_arguments_are_read_only() -> None:
    batch = transition()
    read_only = python_term._read_only(batch)
    for name in batch.recorded:
        original, view = getattr(batch, name), getattr(read_only, name)
        assert view.tolist() == original.tolist()
        assert np.shares_memory(original, view)
        assert original.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            view[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        python_term.python_term("term", "nowhere_terms:zeroed_reward", state_only=False)(batch)
    assert batch.env_reward.tolist() == [0, 0.5, 1]


# Pictures, which environments return as bytes.


def pictures(n_steps: int = 9, n_envs: int = 2) -> Transition:
    rng = np.random.default_rng(3)
    n = n_steps * n_envs
    obs, next_obs = rng.integers(0, 40, (2, n, 5), dtype=np.uint8)
    no, ended = np.zeros(n, dtype=bool), rng.random(n) < 0.2
    return Transition(obs, np.arange(n), next_obs, np.ones(n), ended, no, np.arange(n))


def brighter(transition: Transition) -> Any:
    return transition.next_obs[:, 0] - transition.obs[:, 1] - 20


def brighter_beside_memory(transition: Transition, memory: Recall) -> Any:
    memory.total("unused", transition.env_reward)
    return brighter(transition)


def brighter_so_far(transition: Transition, memory: Recall) -> Any:
    return memory.total("sum", brighter(transition)) - memory.previous("last", brighter(transition))


@pytest.mark.parametrize("at_once", [1, 15, 10_000])
def test_functions_see_pictures_as_floats(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transition_module, "_FLOATS_AT_ONCE", at_once)
    functions = (brighter, brighter_beside_memory, brighter_so_far)
    terms = [python_term.python_term(f.__name__, f, state_only=False) for f in functions]
    bytes_, floats = pictures(), pictures()
    floats = replace(floats, obs=floats.obs.astype(float), next_obs=floats.next_obs.astype(float))
    for term in terms:
        whole, stepwise, expected = EpisodeMemory(2), EpisodeMemory(2), EpisodeMemory(2)
        for half in (slice(0, 10), slice(10, 18)):  # what is remembered goes on
            recalls = [m.recall(bytes_.ended[half]) for m in (whole, expected)]
            values, right = (
                term(batch.take(half), recall)
                for batch, recall in zip((bytes_, floats), recalls, strict=True)
            )
            whole.commit(recalls[0])
            expected.commit(recalls[1])
            assert values.tolist() == right.tolist()
        for step in range(9):
            rows = slice(2 * step, 2 * step + 2)
            recall = stepwise.recall(bytes_.ended[rows])
            term(bytes_.take(rows), recall)
            stepwise.commit(recall)
        states = [str(m.get_state()) for m in (whole, stepwise, expected)]
        assert states[0] == states[1] == states[2]
    assert terms[0](bytes_).tolist() == terms[1](bytes_).tolist()
    assert terms[0](bytes_).min() < 0


def test_functions_see_few_pictures_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transition_module, "_FLOATS_AT_ONCE", 20)
    sizes: list[int] = []

    def sized(transition: Transition, memory: Recall) -> Any:
        sizes.append(len(transition))
        return memory.steps("n", transition.env_reward)

    batch = pictures()
    term = python_term.python_term("sized", sized, state_only=False)
    term(batch, EpisodeMemory(2).recall(batch.ended))
    assert sizes == [4, 4, 4, 4, 2]


def test_state_terms_have_no_memory() -> None:
    message = "brighter_so_far takes the memory of the episode as its second parameter"
    definition = {"python": brighter_so_far, "state_only": True}
    with pytest.raises(ValueError, match=message):
        RewardConfig(mode="add", terms={"own": definition}, weights={"own": 1})
    with pytest.raises(RewardError, match=f"^the term own: {message}"):
        kernel(f"{__name__}:brighter_so_far")(STEP)


# Python functions in rewards.

LANDER = environments()["LunarLander-v3"]
STEP = Transition(
    obs=np.full((2, 8), 0.5),
    action=np.array([2, 0]),
    next_obs=np.full((2, 8), 0.25),
    env_reward=np.array([3.0, 4.0]),
    terminated=np.array([False, False]),
    truncated=np.array([False, False]),
    last_action=np.array([0, 0]),
)


def kernel(reference: str, *, state_only: bool = True, mode: str = "add") -> RewardKernel:
    data = {
        "mode": mode,
        "weights": {"own": 2.0},
        "terms": {"own": {"python": reference, "state_only": state_only}},
    }
    return RewardKernel(LANDER, RewardConfig.model_validate(data), 0.5)


def test_function_in_a_reward(folder: Path) -> None:
    height = kernel("nowhere_terms:height")
    assert not imported(folder)
    assert height(STEP).shaped.tolist() == [3 + 2 * 0.75, 4 + 2 * 0.75]
    effort = kernel("busy", state_only=False)
    assert effort(STEP).shaped.tolist() == [3 - 2, 4]
    assert not effort.state_values(STEP.obs)[:, effort.names.index("own")].any()
    potential = kernel("tall", mode="potential")
    assert potential(STEP).shaping.tolist() == [0.5 * 1.5 - 2.0] * 2
    assert kernel("nowhere_terms:listed")(STEP).shaped.tolist() == [17, 18]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere_terms:missing_key", "the term own failed: KeyError: 'gone'"),
        ("nowhere_terms:nothing", "the term own failed: nowhere_terms:nothing cannot"),
        ("nowhere_terms:zeroed", "the term own failed: ValueError: .*read-only"),
        ("nowhere_terms:wide", r"expected an array of shape \(2,\), not \(2, 8\)"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_failing_function_is_named(reference: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        kernel(reference)(STEP)


def study(term: dict[str, Any]) -> dict[str, Any]:
    return {
        "study": "lander",
        "environment": {"id": "LunarLander-v3"},
        "training": {"total_timesteps": 1000},
        "arms": {"default": {"mode": "add", "weights": {"own": 1}, "terms": {"own": term}}},
    }


def test_loading_a_study_does_not_import_installed_terms(folder: Path) -> None:
    result = parse_study(study({"python": "tall", "state_only": True}))
    assert result.code_references == []
    RewardKernel(LANDER, result.arms["default"])
    assert not imported(folder)


def test_unknown_installed_term_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(ValueError, match="unknown installed term tal") as caught:
        parse_study(study({"python": "tal"}))
    [error] = caught.value.errors()  # type: ignore[attr-defined]
    assert "tall" in error["ctx"]["known"]
    assert not imported(folder)


def test_other_code_needs_allow_code_and_is_not_imported(folder: Path) -> None:
    for reference in ("nowhere_terms:height", "nowhere_broken:height"):
        with pytest.raises(ValueError, match="give --allow-code if you trust it"):
            parse_study(study({"python": reference}))
        result = parse_study(study({"python": reference}), allow_code=True)
        assert result.code_references == [reference]
    assert not imported(folder)
