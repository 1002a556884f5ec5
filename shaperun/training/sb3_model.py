"""stable-baselines3 at arm's length: build an algorithm from a configuration, and let it act."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from threadpoolctl import threadpool_limits

from shaperun.common.errors import UserError
from shaperun.rewards.wrapper import make_environment
from shaperun.runs.run_folder import RunFolder
from shaperun.study.hyperparameters import (
    LOCATIONS,
    SCHEDULED,
    WITHOUT_CRITIC,
    linear_schedule_start,
)
from shaperun.study.models import RunConfig, TrainingConfig
from shaperun.training.checkpoint import Memory
from shaperun.training.evaluation import Act
from shaperun.training.normalization import ObservationScaling
from shaperun.training.safe_load import read_parameters
from shaperun.training.stacked.policy import StackedPolicy

_MERSENNE_WORDS = 624  # of the global generator's state, and an index into them

ACTIVATIONS = {
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
    "elu": torch.nn.ELU,
    "leaky_relu": torch.nn.LeakyReLU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
}


def compute_with_one_thread() -> None:
    """Let torch and numpy's products have one thread in this process.

    More would wait for each other at these sizes, and a product rounds by how many there are.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, "blas")


def check_device(training: TrainingConfig) -> None:
    """Make sure that there is what a study is to be trained on.

    Raises:
        UserError: there is not.
    """
    if training.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "training.device: torch finds no GPU here; take cpu, or install torch for CUDA"
        )


def build(training: TrainingConfig, envs: VecEnv) -> BaseAlgorithm:
    """The algorithm of a study with its hyperparameters, on these environments, saying nothing.

    Of a learner without a critic it is a PPO, which holds the policy and its optimiser.
    """
    hyperparameters: dict[str, Any] = {
        name: _schedule(value) if str(value).startswith(SCHEDULED) else value
        for name, value in training.hyperparameters.items()
    }
    if isinstance(hyperparameters.get("train_freq"), list):
        hyperparameters["train_freq"] = tuple(hyperparameters["train_freq"])
    names = training.hyperparameters["policy_kwargs"]
    hyperparameters["policy_kwargs"] = _policy_kwargs(training.algorithm, names)
    name = training.algorithm
    if name in WITHOUT_CRITIC:
        hyperparameters, name = _policy_alone(hyperparameters, envs), "PPO"
    package, _ = LOCATIONS[name]
    algorithm = getattr(importlib.import_module(package), name)
    model: BaseAlgorithm = algorithm("MlpPolicy", envs, device="cpu", **hyperparameters)
    # Without a logger of its own, stable-baselines3 makes one that writes temporary folders.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def _policy_alone(hyperparameters: dict[str, Any], envs: VecEnv) -> dict[str, Any]:
    """What of hyperparameters PPO has too, and a critic that sees nothing worth learning."""
    shared = ("learning_rate", "gamma", "clip_range", "policy_kwargs")
    kept = {name: value for name, value in hyperparameters.items() if name in shared}
    networks = kept["policy_kwargs"].get("net_arch") or [64, 64]
    actor = networks if isinstance(networks, list) else networks["pi"]
    kept["policy_kwargs"]["net_arch"] = {"pi": actor, "vf": []}
    # It makes room for a rollout, which nobody needs: the smallest there can be.
    return {**kept, "n_steps": 2, "batch_size": 2 * envs.num_envs}


def actor(model: BaseAlgorithm, scaling: ObservationScaling | None) -> Act:
    """The deterministic policy of a model."""

    def act(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return model.predict(scaling(obs) if scaling else obs, deterministic=True)[0]

    return act


def stacked_actor(model: BaseAlgorithm, scaling: ObservationScaling | None) -> Act:
    """The same as our own engines have it, whose products round in another order."""
    actor = StackedPolicy([model.policy]).actor()  # type: ignore[list-item]

    def act(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(actor.act((scaling(obs) if scaling else obs)[None])[0])

    return act


def memory(model: BaseAlgorithm) -> Memory:
    """Parameters, optimiser and counters of an on-policy learner between updates.

    Its random streams are to be added, see `streams`.
    """
    policy = model.policy
    return {
        "parameters": _arrays(policy.state_dict()),
        "optimizer": [
            [index, _arrays(state)]
            for index, state in policy.optimizer.state_dict()["state"].items()
        ],
        "noise": _arrays(_noise(policy)),
        "last_obs": np.array(model._last_obs),
        "last_episode_starts": np.array(model._last_episode_starts),
        "progress_remaining": model._current_progress_remaining,
        "updates": int(model._n_updates),
        "normalization": _normalization(model.get_env()),
    }


def streams() -> Memory:
    """The random streams that stable-baselines3 draws from, which are the global ones."""
    return {"torch": torch.get_rng_state().numpy(), "numpy": np.random.get_state(legacy=False)}


def restore(model: BaseAlgorithm, kept: Memory, timesteps: int) -> None:
    """Put a learner that was just built where a memory was taken; its streams are not set yet.

    Raises:
        ValueError: the memory is of another learner.
    """
    policy = model.policy
    _check_memory(policy, kept)
    shape = (model.n_envs, *(model.observation_space.shape or ()))
    if kept["last_obs"].shape != shape or kept["last_episode_starts"].shape != shape[:1]:
        raise ValueError("its observations are of another environment")
    policy.load_state_dict(_tensors(kept["parameters"]))
    optimizer = policy.optimizer.state_dict()
    optimizer["state"] = {index: _tensors(state) for index, state in kept["optimizer"]}
    policy.optimizer.load_state_dict(optimizer)
    model.num_timesteps = timesteps
    model._last_obs, model._last_episode_starts = kept["last_obs"], kept["last_episode_starts"]
    model._current_progress_remaining = kept["progress_remaining"]
    model._n_updates = kept["updates"]
    envs = model.get_env()
    if isinstance(envs, VecNormalize):
        _restore_normalization(envs, kept["normalization"])


def restore_streams(model: BaseAlgorithm, kept: Memory) -> None:
    """Set the random streams as they were, the noise of exploration that was drawn included."""
    for name, tensor in _tensors(kept["noise"]).items():
        setattr(model.policy.action_dist, name, tensor)
    torch.set_rng_state(torch.from_numpy(kept["torch"].copy()))
    np.random.set_state(kept["numpy"])


def _check_memory(policy: Any, kept: Memory) -> None:
    """Make sure that arrays and indices fit: compiled code that takes them does not look again."""
    blank = _after_a_step(policy.optimizer)
    pairs = [(kept["parameters"], policy.state_dict())]
    pairs += [(state, blank[index]) for index, state in kept["optimizer"]]
    for found, like in pairs:
        expected = {name: (array.dtype, array.shape) for name, array in _arrays(like).items()}
        if {name: (array.dtype, array.shape) for name, array in found.items()} != expected:
            raise ValueError("its parameters are of another policy")
    if kept["noise"].keys() != _noise(policy).keys():
        raise ValueError("its noise is of another policy")
    if not 0 <= kept["numpy"]["state"]["pos"] <= _MERSENNE_WORDS:
        raise ValueError("its random stream is none")


def _after_a_step(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, torch.Tensor]]:
    """What an optimiser remembers of every parameter once it has made a step."""
    zeros = [torch.zeros_like(p) for group in optimizer.param_groups for p in group["params"]]
    parameters = [torch.nn.Parameter(zero) for zero in zeros]
    for parameter, zero in zip(parameters, zeros, strict=True):
        parameter.grad = zero.clone()
    create: Any = type(optimizer)
    other = create(parameters, **optimizer.defaults)
    other.step()
    state: dict[int, dict[str, torch.Tensor]] = other.state_dict()["state"]
    return state


def _noise(policy: Any) -> dict[str, torch.Tensor]:
    """What state-dependent exploration has drawn; nothing without it."""
    names = ("exploration_mat", "exploration_matrices")
    distribution = getattr(policy, "action_dist", None)
    return {n: getattr(distribution, n) for n in names if hasattr(distribution, n)}


def _normalization(envs: VecEnv | None) -> Memory:
    if not isinstance(envs, VecNormalize):
        return {}
    return {
        "returns": envs.returns.copy(),
        **{
            name: [np.array(rms.mean), np.array(rms.var), float(rms.count)]
            for name, rms in _moments(envs).items()
        },
    }


def _restore_normalization(envs: VecNormalize, kept: Memory) -> None:
    envs.returns = kept["returns"]
    for name, rms in _moments(envs).items():
        mean, var, rms.count = kept[name]
        # of a reward they are numbers, which are stored as arrays of no dimension
        rms.mean, rms.var = (x if x.ndim else x[()] for x in (mean, var))


def _moments(envs: VecNormalize) -> dict[str, Any]:
    found = {"obs": getattr(envs, "obs_rms", None), "reward": envs.ret_rms}
    return {name: rms for name, rms in found.items() if rms is not None}


def _arrays(tensors: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def _tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def load_actor(config: RunConfig, folder: RunFolder) -> Act:
    """The policy of a finished run.

    The algorithm is built from the validated configuration and only its parameters are read, so
    nothing that a results folder contains can run.

    Raises:
        UserError: a file does not hold what belongs to such a policy.
    """
    envs = DummyVecEnv([partial(make_environment, config.environment)] * config.training.n_envs)
    try:
        model = build(config.training, envs)
    finally:
        envs.close()
    observations: Any = envs.observation_space
    beside = envs.num_envs * int(np.prod(observations.shape)) * observations.dtype.itemsize
    try:
        model.policy.load_state_dict(
            read_parameters(folder.policy, model.policy.state_dict(), beside)
        )
    except ValueError as error:
        raise folder.damaged(folder.policy, f"it is not a policy of this run, {error}") from None
    normalized = config.training.normalize.observations
    scaling = ObservationScaling.load(folder, observations.shape) if normalized else None
    return (actor if config.training.engine == "sb3" else stacked_actor)(model, scaling)


def _schedule(text: str) -> LinearSchedule:
    return LinearSchedule(start=linear_schedule_start(text), end=0.0, end_fraction=1.0)


def _policy_kwargs(algorithm: str, names: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in names.items() if value is not None}
    # The same Adam in one kernel a step instead of many: at these sizes a tenth of training.
    # The actor-critic policies set this eps themselves, but only where they are given no options.
    eps = {} if algorithm == "DQN" else {"eps": 1e-5}
    given["optimizer_kwargs"] = {"fused": True, **eps}
    if "activation_fn" in given:
        given["activation_fn"] = ACTIVATIONS[given["activation_fn"]]
    return given
