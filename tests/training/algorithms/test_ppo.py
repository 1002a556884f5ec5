from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer

from shaperun.study.loader import load_study
from shaperun.training.algorithms.ppo import Minibatch, StackedPPO, advantages_and_returns
from shaperun.training.stacked import policy
from shaperun.training.stacked.layers import choose_kernels
from tests.helpers.lockstep import (
    ENVIRONMENTS,
    PROGRESS,
    build_learner,
    stack_learners,
    to_float64,
    update_with_sb3,
)

torch.set_num_threads(1)
torch.distributions.Distribution.set_default_validate_args(False)

NETWORK = {"net_arch": {"pi": [9], "vf": [33, 5]}}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "schedules": {"learning_rate": "lin_5e-3", "clip_range": "lin_0.1"},
    "truncated minibatch": {"batch_size": 36},
    "last minibatch of one": {"batch_size": 19},
    "raw advantages": {"normalize_advantage": False},
    "clip_range_vf": {"clip_range_vf": 0.05},
    "clip_range_vf scheduled": {"clip_range_vf": "lin_0.1"},
    "entropy": {"ent_coef": 0.1},
    "vf_coef": {"vf_coef": 0.1},
    "tight gradients": {"max_grad_norm": 0.01},
    "loose gradients": {"max_grad_norm": 1e9},
    "tight clip_range": {"clip_range": 0.02},
    "target_kl": {"target_kl": 0.005},
    "log_std_init": {"policy_kwargs": {"log_std_init": -1.0}},
    "plain weights": {"policy_kwargs": {"ortho_init": False}},
    "other networks": {"policy_kwargs": NETWORK},
    "no hidden layer": {"policy_kwargs": {"net_arch": []}},
    "no hidden layer in the actor": {"policy_kwargs": {"net_arch": {"vf": [8]}}},
    **{
        name: {"policy_kwargs": {"activation_fn": name, "net_arch": [10, 7]}}
        for name in ("relu", "elu", "leaky_relu", "gelu", "silu")
    },
}


def assert_close(result: Any, expected: Any, tolerance: float) -> None:
    assert set(result) == set(expected)
    for name, parameter in expected.items():
        assert float((result[name] - parameter).abs().max()) <= tolerance, name


# Differences show in float64; float32 has its own rounding, and the same code.
@pytest.mark.parametrize(
    ("environment", "double"), [("discrete", True), ("box", True), ("box", False)]
)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_update_matches_stable_baselines3(option: str, environment: str, double: bool) -> None:
    models = [build_learner(environment, seed, **OPTIONS[option]) for seed in (1, 2, 3)]
    check_parity(models, double)


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("environment", ["several", "multidiscrete", "multibinary"])
def test_other_action_spaces_match_stable_baselines3(environment: str, double: bool) -> None:
    check_parity([build_learner(environment, seed, ent_coef=0.05) for seed in (1, 2)], double)


def test_discrete_observations_match_stable_baselines3() -> None:
    check_parity([build_learner("countable", seed) for seed in (1, 2)], double=False)


def test_hopper_with_tuned_hyperparameters_matches_stable_baselines3() -> None:
    pytest.importorskip("mujoco")
    study = load_study(Path(__file__).parents[3] / "experiments" / "hopper.yaml")
    hyperparameters = study.training.hyperparameters
    models = [build_learner("hopper", seed, n_envs=1, **hyperparameters) for seed in (1, 2)]
    check_parity(models, double=True)


@pytest.mark.parametrize("environment", ["discrete", "box"])
def test_kernels_of_accelerators_give_the_same_update(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = choose_kernels(torch.device("cuda"))
    monkeypatch.setattr(policy, "choose_kernels", lambda _: elsewhere)
    check_parity([build_learner(environment, seed) for seed in (1, 2)], double=True)


def check_parity(models: list[PPO], double: bool) -> None:
    models = [to_float64(model) for model in models] if double else models
    before = [{k: v.clone() for k, v in model.policy.state_dict().items()} for model in models]
    seeds = range(10, 10 + len(models))
    stacked, rollout = stack_learners(models, seeds)
    reports = stacked.update(rollout, PROGRESS)
    for run, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        expected = update_with_sb3(model, seed)
        result = stacked.policy.state_dict(run)
        assert_close(result, model.policy.state_dict(), 1e-10 if double else 1e-5)
        moved = max(float((result[name] - before[run][name]).abs().max()) for name in result)
        assert moved > 1e-3
        assert stacked.updates[run] == model._n_updates
        for name, value in reports[run].items():
            # float32 statistics; the KL is a difference near 0
            assert value == pytest.approx(expected[name], rel=1e-4, abs=2e-6), name


@pytest.mark.parametrize("environment", ["discrete", "box"])
def test_every_option_changes_the_update(environment: str) -> None:
    """Parity proves nothing for a clip that never clips, or an early stop that never happens."""
    (plain,) = update_to_bytes([build_learner(environment, 1)])
    idle = {"defaults", "loose gradients", *({"log_std_init"} if environment == "discrete" else ())}
    for option in set(OPTIONS) - idle:
        assert update_to_bytes([build_learner(environment, 1, **OPTIONS[option])]) != [plain], (
            option
        )
    models = [build_learner(environment, seed, **OPTIONS["target_kl"]) for seed in (1, 2, 3)]
    stacked, rollout = stack_learners(models, range(10, 13))
    stacked.update(rollout, PROGRESS)
    assert len(set(stacked.optimizer.steps.tolist())) == 3
    stacked, rollout = stack_learners([build_learner(environment, 1, clip_range=0.02)], [0])
    assert stacked.update(rollout, PROGRESS)[0]["train/clip_fraction"] > 0.1


@pytest.mark.parametrize("option", ["defaults", "schedules", "target_kl"])
def test_several_updates_match_stable_baselines3(option: str) -> None:
    """Optimizer, minibatch orders and schedules continue between updates."""
    models = [to_float64(build_learner("box", seed, **OPTIONS[option])) for seed in (1, 2)]
    stacked, rollout = stack_learners(models, [5, 6])
    for progress in (1.0, 0.5):
        stacked.update(rollout, progress)
    for run, (model, seed) in enumerate(zip(models, (5, 6), strict=True)):
        np.random.seed(seed)
        for model._current_progress_remaining in (1.0, 0.5):
            model.train()
        assert_close(stacked.policy.state_dict(run), model.policy.state_dict(), 1e-10)


def run_to_bytes(stacked: StackedPPO, run: int) -> bytes:
    optimizer = stacked.optimizer
    parts = (stacked.policy.rows, optimizer.exp_avg, optimizer.exp_avg_sq, optimizer.steps)
    return b"".join(part.detach()[run].numpy().tobytes() for part in parts)


INVARIANT: dict[str, dict[str, Any]] = {
    name: {**OPTIONS[name], "n_epochs": 1}
    for name in (
        "defaults",
        "target_kl",
        "other networks",
        "no hidden layer",
        "gelu",
        "elu",
        "silu",
    )
}


# The actions of an environment change the last layer, and the first if there is no other.
COMBINED = [
    (option, environment)
    for option in INVARIANT
    for environment in sorted(ENVIRONMENTS)
    if option in ("defaults", "no hidden layer") or environment in ("discrete", "several")
]


@pytest.mark.parametrize(("option", "environment"), COMBINED)
def test_other_runs_and_indices_do_not_change_a_byte(option: str, environment: str) -> None:
    """Use minibatches of 7 and a last one of 5, which fill no vector of the processor."""
    settings = {**INVARIANT[option], "batch_size": 7, "n_steps": 13}
    models = [build_learner(environment, seed, 2, **settings) for seed in range(16)]
    expected = update_to_bytes(models)
    assert len(set(expected)) == 16
    for size in (1, 2, 3, 5, 9):
        for first in (0, 16 - size):
            chosen = list(range(first, first + size))[::-1]
            assert update_to_bytes(models, chosen) == [expected[run] for run in chosen]


def update_to_bytes(models: list[PPO], chosen: list[int] | None = None) -> list[tuple[bytes, str]]:
    """Return parameters and optimizer state of each run as bytes, and its statistics."""
    chosen = list(range(len(models))) if chosen is None else chosen
    stacked, rollout = stack_learners([models[run] for run in chosen], chosen)
    reports = stacked.update(rollout, PROGRESS)
    return [(run_to_bytes(stacked, index), str(reports[index])) for index in range(len(chosen))]


@pytest.mark.parametrize("environment", ["discrete", "several"])
def test_other_runs_do_not_change_a_byte_in_float64(environment: str) -> None:
    """In float64 the processor's vectors have half as many elements."""
    settings = {"n_steps": 35, "n_epochs": 1, "ent_coef": 0.01}
    models = [to_float64(build_learner(environment, seed, 2, **settings)) for seed in range(17)]
    expected = update_to_bytes(models)
    for chosen in ([16], [3, 0], list(range(9, 2, -1))):
        assert update_to_bytes(models, chosen) == [expected[run] for run in chosen]


def test_padding_of_layers_stays_zero() -> None:
    for kind in ("tanh", "relu", "elu", "leaky_relu", "gelu", "silu"):
        network = {"net_arch": {"pi": [9], "vf": [33, 5]}, "activation_fn": kind}
        stacked, rollout = stack_learners([build_learner("box", 1, policy_kwargs=network)], [0])
        stacked.update(rollout, PROGRESS)
        for parameter in stacked.policy.layout.parameters(stacked.policy.rows[0]).values():
            assert parameter.all()
            parameter.zero_()
        assert not stacked.policy.rows.any()


def test_a_run_that_stops_early_is_unchanged() -> None:
    models = [build_learner("discrete", seed, target_kl=1e9) for seed in (1, 2, 3)]
    alone = [data for data, _ in update_to_bytes(models)]
    models[1].rollout_buffer.log_probs -= 50.0  # a huge KL
    stacked, rollout = stack_learners(models, [0, 1, 2])
    before = run_to_bytes(stacked, 1)
    stacked.update(rollout, PROGRESS)
    assert run_to_bytes(stacked, 1) == before
    assert [run_to_bytes(stacked, run) for run in (0, 2)] == [alone[0], alone[2]]
    assert not stacked.diverged.any()
    assert stacked.updates.tolist() == [3, 1, 3]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_diverging_run_does_not_change_the_others(number: float) -> None:
    models = [build_learner("box", seed) for seed in (1, 2, 3)]
    alone = [data for data, _ in update_to_bytes(models)]
    models[1].rollout_buffer.returns[5, 2] = number
    stacked, rollout = stack_learners(models, [0, 1, 2])
    stacked.update(rollout, PROGRESS)
    assert stacked.diverged.tolist() == [False, True, False]
    assert [run_to_bytes(stacked, run) for run in (0, 2)] == [alone[0], alone[2]]
    frozen = run_to_bytes(stacked, 1)
    stacked.update(rollout, PROGRESS)
    assert run_to_bytes(stacked, 1) == frozen
    assert torch.isfinite(stacked.policy.rows[1]).all()
    assert stacked.updates[1] == 1


def test_parameters_that_are_not_finite_are_a_divergence() -> None:
    """No loss follows the last step of an update."""
    hyperparameters: dict[str, Any] = {
        "batch_size": 96,
        "n_epochs": 1,
        "learning_rate": 3e38,
        "vf_coef": 1e30,
    }
    stacked, rollout = stack_learners([build_learner("box", 1, **hyperparameters)], [0])
    stacked.update(rollout, PROGRESS)
    assert not torch.isfinite(stacked.policy.rows).all()
    assert stacked.diverged.all()


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_advantages_match_stable_baselines3(gae_lambda: float) -> None:
    models = [build_learner("discrete", seed, gae_lambda=gae_lambda, n_steps=60) for seed in (1, 2)]
    generator = np.random.default_rng(0)
    last_values = generator.normal(size=(2, 4)).astype(np.float32)
    dones = generator.random((2, 4)) < 0.5
    buffers: list[RolloutBuffer] = [model.rollout_buffer for model in models]
    for buffer, values, done in zip(buffers, last_values, dones, strict=True):
        buffer.compute_returns_and_advantage(torch.from_numpy(values), done)
        assert buffer.episode_starts[1:].any()

    def stacked(name: str) -> Any:
        return np.stack([getattr(buffer, name) for buffer in buffers], 1)

    advantages, returns = advantages_and_returns(
        stacked("rewards"),
        stacked("values"),
        np.concatenate([stacked("episode_starts"), dones[None]]).astype(np.float32),
        last_values,
        gamma=0.99,
        gae_lambda=gae_lambda,
    )
    assert np.array_equal(advantages, stacked("advantages"))
    assert np.array_equal(returns, stacked("returns"))


def test_minibatches_match_stable_baselines3() -> None:
    models = [build_learner("several", seed) for seed in (1, 2)]
    _, rollout = stack_learners(models, [3, 4])
    orders = np.stack([np.random.RandomState(seed).permutation(rollout.size) for seed in (3, 4)])
    minibatches: list[Minibatch] = list(rollout.minibatches(torch.from_numpy(orders), 16))
    for run, seed in enumerate((3, 4)):
        np.random.seed(seed)
        for ours, theirs in zip(minibatches, models[run].rollout_buffer.get(16), strict=True):
            assert torch.equal(ours.features[run], theirs.observations)
            assert torch.equal(ours.actions[run], theirs.actions)
            assert torch.equal(ours.old_values[run], theirs.old_values)
            assert torch.equal(ours.old_log_probs[run], theirs.old_log_prob)
            assert torch.equal(ours.advantages[run], theirs.advantages)
            assert torch.equal(ours.returns[run], theirs.returns)


def test_a_stacked_policy_is_saved_and_predicts_the_same(tmp_path: Path) -> None:
    models = [build_learner("discrete", seed) for seed in (1, 2)]
    stacked, rollout = stack_learners(models, [0, 1])
    stacked.update(rollout, PROGRESS)
    model = models[1]
    model.policy.load_state_dict(stacked.policy.state_dict(1))
    model.save(tmp_path / "policy.zip")
    loaded = PPO.load(tmp_path / "policy.zip", device="cpu")
    obs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    actions = stacked.policy.build_actor().act(np.stack([obs, obs]))[1]
    assert len(set(actions.tolist())) == 2
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], actions)
