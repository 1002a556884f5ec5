"""Runs trained together give the same bytes as alone, even if others fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from shaperun.runs import driver
from shaperun.runs.plan import plan_runs
from shaperun.runs.process_pool import Job, JobResult, run_inline
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.runs.train_options import TrainOptions
from shaperun.study.models import RunConfig, parse_study
from shaperun.training.checkpoint import load_latest
from shaperun.training.engines.lockstep import Cohort
from shaperun.training.run import TrainingRun, open_run
from shaperun.training.sb3_model import load_policy
from shaperun.training.train import train_cohort, train_run, train_runs
from tests.training.test_checkpoint import killed_at, read_outcome

ARMS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "default": {},
        "guided": {"mode": "potential", "weights": {"upright": 1}},
        "paid": {
            "mode": "replace",
            "terms": {"record": "lowest(x) - previous(std_so_far(angle)) + steps()"},
            "weights": {"upright": 1, "centred": 0.5, "record": 0.1},
        },
    },
    "Pendulum-v1": {
        "default": {},
        "calm": {
            "mode": "add",
            "weights": {"upright": 0.1},
            "schedule": {"kind": "linear", "to": 0},
        },
    },
    "FrozenLake-v1": {"default": {}},
}


STUDY: dict[str, Any] = {
    "study": "test",
    "environment": {"id": "CartPole-v1"},
    "training": {
        "engine": "lockstep",
        "total_timesteps": 900,
        "n_envs": 3,
        "hyperparameters": {"n_steps": 50, "batch_size": 50, "n_epochs": 3},
    },
    "evaluation": {"every": 300, "episodes": 3, "final_episodes": 18},
}


def make_configs(env_id: str, seeds: int = 2, **training: Any) -> dict[str, RunConfig]:
    """Return the configurations of a small study by arm and seed."""
    changes = {
        "environment": {"id": env_id},
        "training": STUDY["training"] | training,
        "seeds": seeds,
        "arms": ARMS[env_id],
    }
    study = parse_study(STUDY | changes)
    return {f"{run.arm}-{run.seed}": run.config for run in plan_runs(study, study.arms)}


def train_together(path: Path, runs: dict[str, RunConfig], **how: Any) -> dict[str, RunFolder]:
    folders = {name: RunFolder(path / name) for name in runs}
    failures = train_runs({folders[name]: run for name, run in runs.items()}, **how)
    assert failures == {}
    return folders


def read_outcomes(folders: dict[str, RunFolder]) -> dict[str, dict[str, bytes]]:
    return {name: read_outcome(folder) for name, folder in folders.items()}


@pytest.mark.parametrize(
    ("env_id", "training"),
    [
        ("CartPole-v1", {}),
        ("Pendulum-v1", {"normalize": {"observations": True, "rewards": True}}),
        ("FrozenLake-v1", {}),
    ],
)
def test_other_runs_do_not_change_a_byte(
    env_id: str, training: dict[str, Any], tmp_path: Path
) -> None:
    runs = make_configs(env_id, **training)
    folders = train_together(tmp_path / "all", runs)
    for name, run in runs.items():
        alone = RunFolder(tmp_path / "alone" / name)
        train_run(alone, run)
        assert read_outcome(folders[name]) == read_outcome(alone)
        assert alone.read_state() == folders[name].read_state() == "done"


def test_a_killed_cohort_resumes_in_any_grouping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_configs("CartPole-v1")
    expected = read_outcomes(train_together(tmp_path / "all", runs))

    folders = {name: RunFolder(tmp_path / "killed" / name) for name in runs}
    with killed_at(500, monkeypatch):
        train_runs({folders[name]: run for name, run in runs.items()})
    # One run lost its newest checkpoint, one has none; both may resume in any group.
    behind, empty, *_ = folders.values()
    steps = {path: (load_latest((path, path)) or {})["timesteps"] for path in behind.checkpoints}
    assert sorted(steps.values()) == [300, 450]
    max(steps, key=lambda path: steps[path]).unlink()
    for path in empty.checkpoints:
        path.unlink()
    for half in (list(runs)[::2], list(runs)[1::2]):
        assert train_runs({folders[name]: runs[name] for name in half}) == {}
    assert read_outcomes(folders) == expected
    assert {folder.read_record()["resume"] for folder in folders.values()} == {"exact"}


def test_failures_do_not_change_the_other_runs(tmp_path: Path) -> None:
    runs = make_configs("CartPole-v1", seeds=1)
    expected = read_outcomes(train_together(tmp_path / "all", runs))
    far = {"far": "1 / (obs[0] - obs[0]) if abs(obs[0]) > 0.1 else 0"}
    odd = {
        "breaks": {"mode": "add", "terms": far, "weights": {"far": 1}},
        "diverges": {"mode": "add", "terms": {"huge": "1e25 + x"}, "weights": {"huge": 1e12}},
    }
    like = next(iter(runs.values())).model_dump()
    for name, reward in odd.items():
        runs = {name: RunConfig.model_validate(like | {"reward": reward}), **runs}
    members = [(str(tmp_path / "with" / name), run.model_dump_json()) for name, run in runs.items()]
    train_cohort(members)
    folders = {name: RunFolder(tmp_path / "with" / name) for name in runs}
    assert {name: read_outcome(folders[name]) for name in expected} == expected
    assert {name: folders[name].read_state() for name in odd} == dict.fromkeys(odd, "failed")
    assert "the term far is" in str(folders["breaks"].read_failure())
    assert "diverged: the policy's parameters are no longer" in str(
        folders["diverges"].read_failure()
    )


def test_a_policy_acts_the_same_in_stable_baselines3(tmp_path: Path) -> None:
    """stable-baselines3 and load_policy agree up to the last bits of an action."""
    for env_id in ("CartPole-v1", "Pendulum-v1"):
        name, run = next(iter(make_configs(env_id).items()))
        folder = RunFolder(tmp_path / env_id / name)
        train_run(folder, run)
        model = PPO.load(folder.policy)
        shape = model.observation_space.shape or ()
        obs = np.random.default_rng(0).uniform(-1, 1, (16, *shape)).astype(np.float32)
        theirs = model.predict(obs, deterministic=True)[0]
        np.testing.assert_allclose(load_policy(run, folder)(obs), theirs, rtol=1e-5, atol=1e-6)
        assert model.num_timesteps == run.training.total_timesteps


def test_until_pauses_all_runs(tmp_path: Path) -> None:
    runs = make_configs("CartPole-v1", seeds=1)
    expected = read_outcomes(train_together(tmp_path / "all", runs))
    folders = train_together(tmp_path / "paused", runs, options=TrainOptions(until=300))
    for folder in folders.values():
        state = load_latest(folder.checkpoints)
        assert state is not None
        assert state["timesteps"] == 300
        assert folder.read_state() == "interrupted"
    train_together(tmp_path / "paused", runs)
    assert read_outcomes(folders) == expected


def test_a_failure_in_a_cohort_belongs_to_its_run(tmp_path: Path) -> None:
    reward = {"mode": "add", "terms": {"huge": "1e25 + x"}, "weights": {"huge": 1e12}}
    study = parse_study(STUDY | {"seeds": 1, "arms": ARMS["CartPole-v1"] | {"diverges": reward}})
    folder, runs = StudyFolder(tmp_path / "study"), plan_runs(study, study.arms)
    submitted: list[Job] = []

    def counting(jobs: Iterable[Job]) -> Iterator[JobResult | None]:
        submitted.extend(jobs)
        return run_inline(submitted)

    *_, last = driver.execute_runs(folder, runs, counting)
    assert len(submitted) == 1
    states = {run.arm: run.state for run in last}
    assert states.pop("diverges") == "failed"
    assert set(states.values()) == {"done"}
    (failed,) = [run for run in last if run.state == "failed"]
    assert failed.diverged
    core, wall = last[0].core_seconds, last[0].seconds
    assert core == pytest.approx(wall / len(runs), rel=0.2)


# Field of a minibatch -> attribute of stable-baselines3's buffer.
NAMES = {
    "features": "observations",
    "old_values": "values",
    "old_log_probs": "log_probs",
    "advantages": "advantages",
    "returns": "returns",
}


@pytest.mark.parametrize("normalize", [{}, {"observations": True, "rewards": True}])
def test_a_rollout_matches_stable_baselines3_with_the_same_actions(
    normalize: dict[str, bool], tmp_path: Path
) -> None:
    """Compare observations, bootstrapping at time limits, normalization and advantages."""
    run = next(iter(make_configs("Pendulum-v1", normalize=normalize).values()))
    options = {"environment": {"id": "Pendulum-v1", "options": {"max_episode_steps": 7}}}
    reward = {"mode": "add", "weights": {"upright": 0.1}}
    run = RunConfig.model_validate(run.model_dump() | options | {"reward": reward})
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    folders = [RunFolder(tmp_path / name) for name in ("ours", "theirs")]
    for folder in folders:
        folder.start({"identity": run.identity})
    with open_run(folders[0], run) as ours, open_run(folders[1], run) as theirs:
        assert_same_rollout(ours, theirs, run)


def assert_same_rollout(ours: TrainingRun, theirs: TrainingRun, run: RunConfig) -> None:
    rollout = Cohort([ours]).collect_rollout()
    (minibatch,) = rollout.minibatches(torch.arange(rollout.size)[None], rollout.size)

    model: Any = theirs.model
    shape = (model.n_envs, model.n_steps)
    actions = iter(minibatch.actions[0].view(*shape, -1).transpose(0, 1))

    def forward(obs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        action = next(actions)
        values, log_prob, _ = model.policy.evaluate_actions(obs, action)
        return action, values, log_prob

    model.policy.forward = forward
    _, callback = model._setup_learn(run.training.total_timesteps)
    buffer = model.rollout_buffer
    model.collect_rollouts(model.env, callback, buffer, model.n_steps)
    assert buffer.episode_starts.sum() == model.n_envs * (1 + 49 // 7)
    for name, its_name in NAMES.items():
        there = torch.from_numpy(getattr(buffer, its_name))
        here = getattr(minibatch, name)[0].view(*shape, *there.shape[2:]).transpose(0, 1)
        torch.testing.assert_close(here, there)
