"""Killed runs resume and end in the same bytes; damaged checkpoints are not trusted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from stable_baselines3.common.save_util import load_from_zip_file

from shaperun.envs.builtin import environments
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import RunConfig, parse_study
from shaperun.training import checkpoint, recorder, train
from shaperun.training import run as training_run
from tests.helpers.toy import Register

# One robot stands for all MuJoCo environments, whose declarations are made from one table.
TRAINED = [name for name in sorted(environments()) if not name.endswith("-v5")] + ["Hopper-v5"]
LOGS = ("episodes", "evaluations", "updates")


class KilledError(KeyboardInterrupt):
    """Simulated kill, which no handler of exceptions catches."""


def make_config(env_id: str, algorithm: str = "PPO", **changes: Any) -> RunConfig:
    hyperparameters = {"n_steps": 50, "gamma": 0.9}
    training: dict[str, Any] = {
        "algorithm": algorithm,
        "total_timesteps": 1_200,
        "n_envs": 3,
        "hyperparameters": hyperparameters | changes.pop("hyperparameters", {}),
        **changes.pop("training", {}),
    }
    study = parse_study(
        {
            "study": "test",
            "environment": {"id": env_id, "options": {"max_episode_steps": 150}},
            "training": training,
            "evaluation": {"every": 400, "episodes": 2, "final_episodes": 3},
            "arms": {"arm": changes.pop("reward", {})},
        }
    )
    return study.run_config(study.arms["arm"], 1)


def read_outcome(folder: RunFolder) -> dict[str, bytes]:
    """Return the tables, and every tensor of the policy and its optimizer."""
    result = {name: getattr(folder, name).read_bytes() for name in LOGS}
    _, tensors, _ = load_from_zip_file(folder.policy)
    for part in ("policy", "policy.optimizer"):
        for name, value in sorted(_flat(tensors[part]).items()):
            result[f"{part} {name}"] = value.numpy().tobytes()
    return result


def _flat(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else ()
    return {k: v for key, inner in items for k, v in _flat(inner, f"{name}.{key}").items()}


def train_to_end(path: Path, run: RunConfig) -> RunFolder:
    folder = RunFolder(path)
    train.train_run(folder, run)
    assert folder.read_state() == "done"
    return folder


@contextmanager
def killed_at(timesteps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write checkpoints before every rollout, and kill training at a timestep."""

    class KillingRecorder(recorder.RunRecorder):
        def on_step(self, now: int) -> None:
            if now >= timesteps:
                raise KilledError
            super().on_step(now)

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "RunRecorder", KillingRecorder)
        patch.setattr(recorder, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KilledError):
            yield


def train_until_killed(
    path: Path, run: RunConfig, monkeypatch: pytest.MonkeyPatch, at: int
) -> RunFolder:
    """Train a run with frequent checkpoints, and kill it at a timestep."""
    folder = RunFolder(path)
    with killed_at(at, monkeypatch):
        train.train_run(folder, run)
    return folder


@pytest.mark.parametrize(
    ("env_id", "algorithm"),
    [
        *((env_id, "PPO") for env_id in TRAINED),
        # By the loop of stable-baselines3, with discrete and with continuous actions.
        *((env_id, "A2C") for env_id in ("CartPole-v1", "LunarLander-v3", "Pendulum-v1")),
    ],
)
def test_a_killed_run_ends_in_the_same_bytes(
    env_id: str, algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config(env_id, algorithm)
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    # Killed twice in the middle of a rollout.
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=520)
    assert checkpoint.load_latest(folder.checkpoints) is not None
    train_until_killed(tmp_path / "killed", run, monkeypatch, at=910)
    assert read_outcome(train_to_end(tmp_path / "killed", run)) == expected
    assert not any(path.exists() for path in folder.checkpoints)
    assert folder.read_record()["resume"] == "exact"


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"normalize": {"observations": True, "rewards": True}}},
        {"hyperparameters": {"learning_rate": "lin_0.001", "target_kl": 0.01}},
        {
            "reward": {
                "mode": "potential",
                "weights": {"upright": 1, "centred": 0.5},
                "schedule": {"kind": "linear", "to": 0.0},
            }
        },
        {
            "reward": {
                "mode": "add",
                "terms": {"smooth": "-abs(action - last_action)"},
                "weights": {"smooth": 0.1, "fell": -1},
            }
        },
        {"training": {"algorithm": "TRPO"}},
    ],
    ids=["normalized", "schedules", "potential", "last-action", "TRPO"],
)
def test_all_state_survives_a_kill(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config("CartPole-v1", **changes)
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    assert read_outcome(train_to_end(tmp_path / "killed", run)) == expected


def test_state_dependent_exploration_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config("Pendulum-v1", hyperparameters={"use_sde": True, "sde_sample_freq": 7})
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    assert read_outcome(train_to_end(tmp_path / "killed", run)) == expected


def test_rows_after_the_checkpoint_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config("CartPole-v1")
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    with folder.episodes.open("ab") as file:
        file.write(b"999,0,torn")  # a partial last line
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    assert read_outcome(train_to_end(folder.path, run)) == expected


def test_a_damaged_generation_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_config("CartPole-v1")
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=900)
    steps = {p: (checkpoint._read(p) or {})["timesteps"] for p in folder.checkpoints}
    newer, older = sorted(steps, key=lambda path: -steps[path])
    data = bytearray(newer.read_bytes())
    data[len(data) // 2] ^= 1
    newer.write_bytes(data)
    state = checkpoint.load_latest(folder.checkpoints)
    assert state is not None
    assert state["timesteps"] == steps[older] < steps[newer]
    assert read_outcome(train_to_end(folder.path, run)) == expected
    folder = train_until_killed(tmp_path / "both", run, monkeypatch, at=900)
    for path in folder.checkpoints:
        path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.load_latest(folder.checkpoints) is None
    assert read_outcome(train_to_end(folder.path, run)) == expected  # from scratch


def test_checkpoints_of_other_configurations_or_versions_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config("CartPole-v1")
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    record = train._record(run)
    assert train._usable_checkpoints(folder, record)
    assert train._usable_checkpoints(folder, record | {"identity": "other"}) == []
    assert train._usable_checkpoints(folder, record | {"versions": {"torch": "0"}}) == []
    assert train._usable_checkpoints(folder, record | {"code": {"mine": "changed"}}) == []


class Breezy(CartPoleEnv):
    """CartPole in a wind from a generator of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.wind = np.random.default_rng(0)

    def step(self, action: Any) -> Any:
        self.force_mag = 10 + self.wind.normal()
        return super().step(action)  # type: ignore[no-untyped-call]


def test_a_run_restarts_if_its_environment_has_a_generator_of_its_own(
    tmp_path: Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("Breezy-v0", Breezy)
    run = make_config("Breezy-v0")
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    assert read_outcome(train_to_end(folder.path, run)) == expected
    resume = "from the start (its environment cannot be restored: a replayed episode"
    assert folder.read_record()["resume"].startswith(resume)


def test_a_replay_mismatch_restarts_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_config("CartPole-v1")
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = train_until_killed(tmp_path / "killed", run, monkeypatch, at=700)
    state = checkpoint.load_latest(folder.checkpoints)
    assert state is not None
    state["environments"]["obs"] += 1e-3
    for path in folder.checkpoints:
        path.write_bytes(checkpoint.dump(state))
    assert read_outcome(train_to_end(folder.path, run)) == expected
    assert "cannot be restored" in folder.read_record()["resume"]


def test_a_state_survives_a_round_trip() -> None:
    state = {
        "timesteps": 3,
        "big": 2**127,
        "list": [1.5, None, {"array": np.arange(3, dtype=np.uint8)}],
        "empty": np.zeros((0, 2)),
        "number": np.array(2.5),
    }
    loaded = checkpoint.load(checkpoint.dump(state))
    assert loaded is not None
    assert loaded["big"] == 2**127
    assert loaded["list"][2]["array"].dtype == np.uint8
    assert loaded["empty"].shape == (0, 2)
    assert loaded["number"].ndim == 0


def test_pickles_are_never_read(tmp_path: Path) -> None:
    import hashlib
    import io
    import pickle

    sentinel = tmp_path / "sentinel"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (sentinel,))

    file = io.BytesIO()
    np.savez(file, tree=np.array([Evil()], dtype=object), allow_pickle=True)
    for data in (file.getvalue(), pickle.dumps(Evil())):
        assert checkpoint.load(hashlib.sha256(data).digest() + data) is None
    assert not sentinel.exists()


SCRIPT = """
import sys
from pathlib import Path
from shaperun.training import recorder, train
recorder.CHECKPOINT_SECONDS = 0.0
train.train_cohort([(sys.argv[1], Path(sys.argv[2]).read_text())])
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_run_survives_sigkill(tmp_path: Path) -> None:
    run = make_config("LunarLander-v3", training={"total_timesteps": 2_400})
    expected = read_outcome(train_to_end(tmp_path / "whole", run))
    folder = RunFolder(tmp_path / "killed")
    (tmp_path / "config.json").write_text(run.model_dump_json())
    command = [sys.executable, "-c", SCRIPT, str(folder.path), str(tmp_path / "config.json")]
    with subprocess.Popen(command) as process:
        while process.poll() is None and not all(p.exists() for p in folder.checkpoints):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert folder.read_state() == "interrupted"
    assert read_outcome(train_to_end(folder.path, run)) == expected
