"""Adapter to stable-baselines3: build a model, save and restore it, let it act.

This is the only module that touches private members of stable-baselines3's objects.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecNormalize,
    VecTransposeImage,
)
from threadpoolctl import threadpool_limits

from shaperun.common.errors import UserError
from shaperun.runs.code_files import changed_code
from shaperun.runs.run_folder import RunFolder
from shaperun.study.hyperparameters import LINEAR_PREFIX, linear_schedule_start
from shaperun.study.learners import LEARNERS, Learner
from shaperun.study.models import RunConfig
from shaperun.study.training import TrainingConfig
from shaperun.training.checkpoint import StateDict
from shaperun.training.evaluation import Act
from shaperun.training.normalization import ObservationScaling
from shaperun.training.pictures import PicturesExtractor
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


def use_one_thread() -> None:
    """Limit torch and numpy's matrix products to one thread in this process.

    More threads would wait for each other at these sizes, and their number affects rounding.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, "blas")


def check_device(training: TrainingConfig) -> None:
    """Check that the device of the training is available.

    Raises:
        UserError: it is not.
    """
    if training.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "training.device: torch finds no GPU; use cpu, or install torch with CUDA support"
        )


def build_algorithm(training: TrainingConfig, envs: VecEnv) -> BaseAlgorithm:
    """Build the model of a study's learner on these environments, with logging disabled.

    For a learner without a critic this is a PPO that holds the policy and its optimizer.
    """
    hyperparameters: dict[str, Any] = {
        name: LinearSchedule(linear_schedule_start(value), 0.0, end_fraction=1.0)
        if str(value).startswith(LINEAR_PREFIX)
        else value
        for name, value in training.hyperparameters.items()
    }
    if "buffer_size" in hyperparameters:  # allocated at once, whether or not it is ever full
        most = training.total_timesteps + training.n_envs
        hyperparameters["buffer_size"] = min(hyperparameters["buffer_size"], most)
    if isinstance(hyperparameters.get("train_freq"), list):
        hyperparameters["train_freq"] = tuple(hyperparameters["train_freq"])
    learner = training.learner
    names = training.hyperparameters["policy_kwargs"]
    hyperparameters["policy_kwargs"] = _policy_kwargs(learner, names)
    if not learner.has_critic:
        hyperparameters, learner = _policy_without_critic(hyperparameters, envs), LEARNERS["PPO"]
    algorithm: Any = load_implementation(learner)
    policy: str = training.policy
    if policy == "MultiInputPolicy":  # observations are flattened; an extractor finds the pictures
        policy, extractor = "MlpPolicy", {"is_scaled": training.normalize.observations}
        hyperparameters["policy_kwargs"] |= {
            "features_extractor_class": PicturesExtractor,
            "features_extractor_kwargs": extractor,
        }
    if training.engine != "sb3" and is_image_space(envs.observation_space):
        envs = VecTransposeImage(envs, skip=True)  # the other engines keep the channels in place
    model: BaseAlgorithm = algorithm(policy, envs, device="cpu", **hyperparameters)
    # Without a logger, stable-baselines3 makes one that writes temporary folders.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def load_implementation(learner: Learner) -> Any:
    """Import the class that implements a learner."""
    module, _, name = learner.implementation.partition(":")
    return getattr(importlib.import_module(module), name)


def _policy_without_critic(hyperparameters: dict[str, Any], envs: VecEnv) -> dict[str, Any]:
    """Keep the hyperparameters that PPO shares; use an empty critic."""
    shared = ("learning_rate", "gamma", "clip_range", "policy_kwargs")
    result = {name: value for name, value in hyperparameters.items() if name in shared}
    networks = result["policy_kwargs"].get("net_arch") or [64, 64]
    actor = networks if isinstance(networks, list) else networks["pi"]
    result["policy_kwargs"]["net_arch"] = {"pi": actor, "vf": []}
    # PPO allocates a rollout buffer, which is not used: make it as small as possible.
    return {**result, "n_steps": 2, "batch_size": 2 * envs.num_envs}


def deterministic_policy(model: BaseAlgorithm, scaling: ObservationScaling | None) -> Act:
    """Return the deterministic policy of a model."""

    def act(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return model.predict(scaling(obs) if scaling else obs, deterministic=True)[0]

    return act


def stacked_policy(model: BaseAlgorithm, scaling: ObservationScaling | None) -> Act:
    """Return the same policy in the arithmetic of StackedPolicy, which rounds differently."""
    actor = StackedPolicy([model.policy]).build_actor()  # type: ignore[list-item]

    def act(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(actor.act((scaling(obs) if scaling else obs)[None])[0])

    return act


def last_observations(model: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return the latest observations (N, …), and whether an episode starts with each (N,)."""
    return np.asarray(model._last_obs), np.asarray(model._last_episode_starts)


def set_last_observations(
    model: Any, obs: npt.NDArray[Any], episode_starts: npt.NDArray[np.bool_]
) -> None:
    """Set the observations that the next rollout begins with."""
    model._last_obs, model._last_episode_starts = obs, episode_starts


def set_progress(model: Any, timesteps: int, remaining: float) -> None:
    """Set the environment steps taken, and the remaining share of training for schedules."""
    model.num_timesteps, model._current_progress_remaining = timesteps, remaining


def get_updates(model: Any) -> int:
    """Return the number of updates (epochs) that a model has made."""
    return int(model._n_updates)


def set_updates(model: Any, updates: int) -> None:
    """Set the number of updates that a model has made."""
    model._n_updates = updates


def get_state(model: BaseAlgorithm) -> StateDict:
    """Return parameters, optimizer state and counters of an on-policy model between updates.

    Random states are separate, see `get_random_state`.
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
        "normalization": _normalization(model.get_vec_normalize_env()),
    }


def get_random_state() -> StateDict:
    """Return the global random states, which stable-baselines3 draws from."""
    return {"torch": torch.get_rng_state().numpy(), "numpy": np.random.get_state(legacy=False)}


def set_state(model: BaseAlgorithm, state: StateDict, timesteps: int) -> None:
    """Restore a model that was just built; its random states are not restored yet.

    Raises:
        ValueError: the state belongs to another model.
    """
    policy = model.policy
    _check_state(policy, state)
    shape = (model.n_envs, *(model.observation_space.shape or ()))
    if state["last_obs"].shape != shape or state["last_episode_starts"].shape != shape[:1]:
        raise ValueError("its observations belong to another environment")
    policy.load_state_dict(_tensors(state["parameters"]))
    optimizer = policy.optimizer.state_dict()
    optimizer["state"] = {index: _tensors(arrays) for index, arrays in state["optimizer"]}
    policy.optimizer.load_state_dict(optimizer)
    model.num_timesteps = timesteps
    model._last_obs, model._last_episode_starts = state["last_obs"], state["last_episode_starts"]
    model._current_progress_remaining = state["progress_remaining"]
    model._n_updates = state["updates"]
    envs = model.get_vec_normalize_env()  # which is not the outermost for pictures
    if envs:
        _restore_normalization(envs, state["normalization"])


def set_random_state(model: BaseAlgorithm, state: StateDict) -> None:
    """Restore the global random states, and the exploration noise that was drawn."""
    for name, tensor in _tensors(state["noise"]).items():
        setattr(model.policy.action_dist, name, tensor)
    torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
    np.random.set_state(state["numpy"])


def _check_state(policy: Any, state: StateDict) -> None:
    """Check shapes and indices: compiled code does not check them again."""
    templates = _state_after_step(policy.optimizer)
    pairs = [(state["parameters"], policy.state_dict())]
    pairs += [(arrays, templates[index]) for index, arrays in state["optimizer"]]
    for arrays, template in pairs:
        expected = {name: (array.dtype, array.shape) for name, array in _arrays(template).items()}
        if {name: (array.dtype, array.shape) for name, array in arrays.items()} != expected:
            raise ValueError("its parameters belong to another policy")
    if state["noise"].keys() != _noise(policy).keys():
        raise ValueError("its noise belongs to another policy")
    if not 0 <= state["numpy"]["state"]["pos"] <= _MERSENNE_WORDS:
        raise ValueError("its random state is invalid")


def _state_after_step(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, torch.Tensor]]:
    """Return the state that an optimizer has after one step, by parameter index."""
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
    """Return the noise of state-dependent exploration; empty without it."""
    names = ("exploration_mat", "exploration_matrices")
    distribution = getattr(policy, "action_dist", None)
    return {n: getattr(distribution, n) for n in names if hasattr(distribution, n)}


def _normalization(envs: VecNormalize | None) -> StateDict:
    if envs is None:
        return {}
    return {
        "returns": envs.returns.copy(),
        **{
            name: [np.array(rms.mean), np.array(rms.var), float(rms.count)]
            for name, rms in _moments(envs).items()
        },
    }


def _restore_normalization(envs: VecNormalize, state: StateDict) -> None:
    envs.returns = state["returns"]
    for name, rms in _moments(envs).items():
        mean, var, rms.count = state[name]
        # A reward's moments are scalars, stored as arrays without dimensions.
        rms.mean, rms.var = (x if x.ndim else x[()] for x in (mean, var))


def _moments(envs: VecNormalize) -> dict[str, Any]:
    moments = {"obs": getattr(envs, "obs_rms", None), "reward": envs.ret_rms}
    return {name: rms for name, rms in moments.items() if rms is not None}


def _arrays(tensors: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def _tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def build_untrained(config: RunConfig) -> BaseAlgorithm:
    """Build the model of a run without its buffers, for its policy."""
    envs: VecEnv = DummyVecEnv([config.environment.make])
    if config.training.normalize.observations and is_image_space(envs.observation_space):
        envs = VecNormalize(envs)  # pictures are then no pictures for stable-baselines3
    try:
        return build_algorithm(_without_buffers(config.training), envs)
    finally:
        envs.close()


def load_policy(config: RunConfig, folder: RunFolder) -> Act:
    """Return the policy of a finished run.

    The model is built from the validated configuration and only parameters are read from the file,
    so that no file in a results folder can run code.

    Raises:
        UserError: a file does not hold the parameters of such a policy.
    """
    model = build_untrained(config)
    observations: Any = model.observation_space
    obs_bytes = (
        config.training.n_envs * int(np.prod(observations.shape)) * observations.dtype.itemsize
    )
    try:
        model.policy.load_state_dict(
            read_parameters(folder.policy, model.policy.state_dict(), obs_bytes)
        )
    except ValueError as error:
        changed = changed_code(folder, config)
        if changed:
            raise UserError(
                f"{folder.policy} was trained with another version of {', '.join(changed)} and "
                f"does not fit the present one: {error}; undo the change, or train again with "
                "--fresh"
            ) from None
        raise folder.damage_error(
            folder.policy, f"it is not a policy of this run, {error}"
        ) from None
    normalized = config.training.normalize.observations
    scaling = ObservationScaling.load(folder, observations.shape) if normalized else None
    policy = deterministic_policy if config.training.engine == "sb3" else stacked_policy
    return policy(model, scaling)


def _without_buffers(training: TrainingConfig) -> TrainingConfig:
    """Return a training whose model holds few transitions; its policy is the same."""
    small = {"n_steps": 2, "batch_size": 2, "buffer_size": 2}
    small = {name: value for name, value in small.items() if name in training.hyperparameters}
    return training.model_copy(update={"hyperparameters": training.hyperparameters | small})


def _policy_kwargs(learner: Learner, names: dict[str, Any]) -> dict[str, Any]:
    result = {name: value for name, value in names.items() if value is not None}
    # Adam in one kernel per step instead of many: saves a tenth of training.
    result["optimizer_kwargs"] = {"fused": True, **learner.optimizer_kwargs}
    if "activation_fn" in result:
        result["activation_fn"] = ACTIVATIONS[result["activation_fn"]]
    return result
