"""A run that was killed goes on and ends in the same bytes; damaged checkpoints are not trusted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from shaperun.envs.builtin import environments
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import RunConfig, parse_study
from shaperun.training import checkpoint, recorder, train
from shaperun.training import run as trainee

LOGS = ("episodes", "evaluations", "updates")


class KilledError(BaseException):
    """As unforeseen as a SIGKILL, but of this process."""


def config(env_id: str, algorithm: str = "PPO", **changes: Any) -> RunConfig:
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


def outcome(folder: RunFolder) -> dict[str, bytes]:
    """All that must be the same: the logs, and every tensor of the policy and its optimiser."""
    found = {name: getattr(folder, name).read_bytes() for name in LOGS}
    _, tensors, _ = load_from_zip_file(folder.policy)
    for part in ("policy", "policy.optimizer"):
        for name, value in sorted(_flat(tensors[part]).items()):
            found[f"{part} {name}"] = value.numpy().tobytes()
    return found


def _flat(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else ()
    return {k: v for key, inner in items for k, v in _flat(inner, f"{name}.{key}").items()}


def trained(path: Path, run: RunConfig) -> RunFolder:
    folder = RunFolder(path)
    train.train_run(folder, run)
    assert folder.state() == "done"
    return folder


def interrupted(
    path: Path, run: RunConfig, monkeypatch: pytest.MonkeyPatch, at: int, rows: int = 0
) -> RunFolder:
    """Train until so many steps were taken, checkpoints after every rollout, and die there."""

    class Dying(recorder.RunRecorder):
        def on_step(self, timesteps: int) -> None:
            if timesteps >= at:
                raise KilledError
            super().on_step(timesteps)

    folder = RunFolder(path)
    with monkeypatch.context() as patch:
        patch.setattr(trainee, "RunRecorder", Dying)
        patch.setattr(recorder, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KilledError):
            train.train_run(folder, run)
    return folder


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
@pytest.mark.parametrize("env_id", sorted(environments()))
def test_a_killed_run_ends_in_the_same_bytes(
    env_id: str, algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(env_id, algorithm)
    expected = outcome(trained(tmp_path / "whole", run))
    # In the middle of a rollout, twice: the second time from what the first one went on with.
    folder = interrupted(tmp_path / "killed", run, monkeypatch, at=520)
    assert checkpoint.latest(folder.checkpoints) is not None
    interrupted(tmp_path / "killed", run, monkeypatch, at=910)
    assert outcome(trained(tmp_path / "killed", run)) == expected
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
    ids=["normalised", "schedules", "potential", "last-action", "TRPO"],
)
def test_whatever_a_run_remembers_is_kept(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config("CartPole-v1", **changes)
    expected = outcome(trained(tmp_path / "whole", run))
    interrupted(tmp_path / "killed", run, monkeypatch, at=700)
    assert outcome(trained(tmp_path / "killed", run)) == expected


def test_state_dependent_exploration_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config("Pendulum-v1", hyperparameters={"use_sde": True, "sde_sample_freq": 7})
    expected = outcome(trained(tmp_path / "whole", run))
    interrupted(tmp_path / "killed", run, monkeypatch, at=700)
    assert outcome(trained(tmp_path / "killed", run)) == expected


def test_what_a_killed_run_wrote_after_its_checkpoint_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config("CartPole-v1")
    folder = interrupted(tmp_path / "killed", run, monkeypatch, at=700)
    with folder.episodes.open("ab") as file:
        file.write(b"999,0,torn")  # the last line was being written
    expected = outcome(trained(tmp_path / "whole", run))
    assert outcome(trained(folder.path, run)) == expected


def test_a_damaged_generation_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config("CartPole-v1")
    expected = outcome(trained(tmp_path / "whole", run))
    folder = interrupted(tmp_path / "killed", run, monkeypatch, at=900)
    steps = {p: (checkpoint._read(p) or {})["timesteps"] for p in folder.checkpoints}
    newer, older = sorted(steps, key=lambda path: -steps[path])
    data = bytearray(newer.read_bytes())
    data[len(data) // 2] ^= 1
    newer.write_bytes(data)
    kept = checkpoint.latest(folder.checkpoints)
    assert kept is not None
    assert kept["timesteps"] == steps[older] < steps[newer]
    assert outcome(trained(folder.path, run)) == expected
    again = interrupted(tmp_path / "both", run, monkeypatch, at=900)
    for path in again.checkpoints:
        path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.latest(again.checkpoints) is None
    assert outcome(trained(again.path, run)) == expected  # from the start


def test_another_configuration_or_version_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config("CartPole-v1")
    folder = interrupted(tmp_path / "killed", run, monkeypatch, at=700)
    record = train._record(run)
    assert train._usable_checkpoints(folder, record)
    assert train._usable_checkpoints(folder, record | {"identity": "other"}) == []
    assert train._usable_checkpoints(folder, record | {"versions": {"torch": "0"}}) == []
    assert train._usable_checkpoints(folder, record | {"code": {"mine": "changed"}}) == []


def test_an_environment_that_cannot_be_played_again_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config("CartPole-v1")
    expected = outcome(trained(tmp_path / "whole", run))
    folder = interrupted(tmp_path / "killed", run, monkeypatch, at=700)
    memory = checkpoint.latest(folder.checkpoints)
    assert memory is not None
    memory["environments"]["obs"] += 1e-3
    for path in folder.checkpoints:
        path.write_bytes(checkpoint.dump(memory))
    assert outcome(trained(folder.path, run)) == expected
    assert "cannot be restored" in folder.read_record()["resume"]


def test_a_memory_comes_back_as_it_was() -> None:
    memory = {
        "timesteps": 3,
        "big": 2**127,
        "list": [1.5, None, {"array": np.arange(3, dtype=np.uint8)}],
        "empty": np.zeros((0, 2)),
        "number": np.array(2.5),
    }
    found = checkpoint.load(checkpoint.dump(memory))
    assert found is not None
    assert found["big"] == 2**127
    assert found["list"][2]["array"].dtype == np.uint8
    assert found["empty"].shape == (0, 2)
    assert found["number"].ndim == 0


def test_no_pickle_is_ever_read(tmp_path: Path) -> None:
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


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_process_that_is_killed_for_good(tmp_path: Path) -> None:
    run = config("LunarLander-v3", training={"total_timesteps": 4_000})
    expected = outcome(trained(tmp_path / "whole", run))
    folder = RunFolder(tmp_path / "killed")
    (tmp_path / "config.json").write_text(run.model_dump_json())
    command = [sys.executable, "-c", SCRIPT, str(folder.path), str(tmp_path / "config.json")]
    with subprocess.Popen(command) as process:
        while process.poll() is None and not all(p.exists() for p in folder.checkpoints):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert folder.state() == "interrupted"
    assert outcome(trained(folder.path, run)) == expected
