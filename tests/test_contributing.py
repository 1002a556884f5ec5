"""The snippets of CONTRIBUTING.md, executed as a contributor would put them into the code."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from stable_baselines3 import PPO

from shaperun.envs.base import Array
from shaperun.envs.builtin.lunar_lander import lunar_lander
from shaperun.runs.run_folder import RunFolder
from shaperun.study import learners
from shaperun.study.learners import LEARNERS, Learner
from shaperun.training.algorithms.episode_batch import EpisodeBatch
from shaperun.training.algorithms.reinforce import leave_one_out_mean
from shaperun.training.checkpoint import StateDict
from shaperun.training.sb3_model import load_policy
from tests.training.test_checkpoint import train_to_end
from tests.training.test_learners import SMALL, assert_groups_begin_alike, make_config

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
# All of them: a new snippet needs a test.
TERM, LEARNER, HYPERPARAMETERS, OWN_LEARNER = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_term_is_one_of_its_environment() -> None:
    environment = replace(lunar_lander, terms=dict(lunar_lander.terms))
    names: dict[str, Any] = {"lunar_lander": environment, "Array": Array, "np": np}
    exec(TERM, names)  # noqa: S102 (it is our own page)
    assert environment.terms["spin"].state_only
    np.testing.assert_array_equal(names["spin"](np.arange(16.0).reshape(2, 8)), [-5.0, -13.0])


def add_entry(snippet: str, names: dict[str, Any], patch: pytest.MonkeyPatch) -> Learner:
    """Add an entry to the registry, as in the code of `study/learners.py`; return it."""
    [(name, entry)] = eval(f"{{{snippet}}}", names).items()  # noqa: S307 (it is our own page)
    patch.setitem(LEARNERS, name, entry)
    assert isinstance(entry, Learner)
    return entry


def test_a_class_of_sb3_contrib_is_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = add_entry(LEARNER, dict(vars(learners)), monkeypatch)
    assert replace(LEARNERS["DQN"], implementation=entry.implementation) == entry
    monkeypatch.setitem(SMALL, "QRDQN", SMALL["DQN"])
    config = make_config("QRDQN")
    assert config.training.updates is None  # their number is not that of rollouts
    folder = train_to_end(tmp_path / "run", config)
    assert len(pl.read_csv(folder.updates)) > 0
    assert load_policy(config, folder)(np.zeros((16, 4), np.float32)).shape == (16,)
    with pytest.raises(ValueError, match="QRDQN cannot learn the actions of Pendulum-v1, a Box"):
        make_config("QRDQN", env_id="Pendulum-v1")


class Rloo:
    """REINFORCE with whole returns and a leave-one-out baseline (Ahmadian et al. 2024)."""

    def __init__(
        self, model: PPO, hyperparameters: dict[str, Any], shuffle: np.random.RandomState
    ) -> None:
        self._policy, self._hyperparameters = model.policy, hyperparameters

    def update(self, batch: EpisodeBatch, progress_remaining: float) -> dict[str, float]:
        returns = batch.returns_to_go(self._hyperparameters["gamma"])[:, :1]
        baseline = leave_one_out_mean(returns, self._hyperparameters["group_size"])
        advantages = np.broadcast_to(returns - baseline, batch.rewards.shape)
        _, log_prob, _ = self._policy.evaluate_actions(batch.obs, batch.actions)
        loss = -(batch.gather_steps(advantages) * log_prob).mean()
        self._policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._policy.optimizer.step()
        return {"train/policy_gradient_loss": loss.item()}

    def get_state(self) -> StateDict:
        return {}

    def set_state(self, state: StateDict) -> None:
        pass


def test_a_learner_of_ones_own_is_a_module_and_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = dict(vars(learners))
    exec(HYPERPARAMETERS, names)  # noqa: S102 (it is our own page)
    entry = add_entry(OWN_LEARNER, names, monkeypatch)
    module = ModuleType(entry.implementation.partition(":")[0])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(module, "Rloo", Rloo, raising=False)
    config = make_config("RLOO")
    assert config.training.engine == "episodic"
    assert config.training.hyperparameters["group_size"] == 2
    assert_groups_begin_alike(config, tmp_path / "run", monkeypatch)
    folder = RunFolder(tmp_path / "run")
    losses = pl.read_csv(folder.updates)["policy_loss"]
    assert losses.null_count() == 0
    assert losses.n_unique() > 1
    assert load_policy(config, folder)(np.zeros((16, 4), np.float32)).shape == (16,)
