"""Start a run from the policy of another: its parameters, and how it normalized observations.

The optimizer, its schedules and all random streams begin as in any other run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import data_to_json
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from shaperun.common.errors import UserError
from shaperun.common.text import truncate
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.start import describe_source, hash_policy
from shaperun.study.models import RunConfig, StartPolicy, Study
from shaperun.study.training import TrainingConfig
from shaperun.training import sb3_model
from shaperun.training.normalization import ObservationScaling
from shaperun.training.safe_load import check_parameters, read_any_parameters, read_attributes

_CRITIC = "value_net"  # in the names of a critic's parameters
_SAME_SPACES = "a policy starts in the spaces that it was trained in"


def check_starts(study: Study, runs: Sequence[Run]) -> None:
    """Check that every run can start from its policy, if it is there.

    Raises:
        UserError: the policy has other shapes, or would compute other actions from the same
            observations.
    """
    models: dict[str, BaseAlgorithm] = {}
    checked: set[tuple[str, str]] = set()
    for run in runs:
        config, start = run.config, run.config.start
        training = config.training.model_dump_json()
        if not start or (start.path, training) in checked or not Path(start.path).is_file():
            continue
        checked.add((start.path, training))
        try:
            model = models.get(training) or sb3_model.build_untrained(config)
            models[training] = model
            read_start(config, start, model)
        except ValueError as error:
            raise UserError(
                f"{study.place_of_start(run.arm)}: {run.arm} cannot start from the policy of "
                f"{describe_source(config)}: {error}"
            ) from None


def read_start(
    config: RunConfig, start: StartPolicy, model: BaseAlgorithm
) -> tuple[dict[str, torch.Tensor], ObservationScaling | None]:
    """Return the parameters that a model starts with, and the statistics of observations.

    A learner without a critic takes the actor only.

    Raises:
        ValueError: they do not fit the model, its normalization or its spaces, or another
            activation function; the message says why.
    """
    path, training = Path(start.path), config.training
    expected = _without_critic(model.policy.state_dict(), training)
    parameters = _without_critic(read_any_parameters(path), training)
    common = [name for name in expected if name in parameters]
    check_parameters(
        *({name: tensors[name] for name in common} for tensors in (parameters, expected))
    )
    others = sorted(expected.keys() ^ parameters.keys())
    if others:
        where = "only there" if others[0] in parameters else "not there"
        raise ValueError(f"its networks differ ({others[0]} is {where}); use the same learner")
    _check_function(read_attributes(path), model)
    folder = RunFolder(path.parent)
    here, there = config.environment.composite_observations, folder.read_observations()
    if here and there and here != there:
        raise ValueError(
            f"its observations are {truncate(there, 200)}, here {here}; {_SAME_SPACES}"
        )
    has_statistics = folder.normalization.exists()
    if has_statistics != training.normalize.observations:
        did = "normalized its observations" if has_statistics else "did not normalize observations"
        wanted = str(has_statistics).lower()
        raise ValueError(f"it {did}; set normalize: {{observations: {wanted}}}")
    if not has_statistics:
        return parameters, None
    try:
        shape = model.observation_space.shape or ()
        return parameters, ObservationScaling.load(folder, shape)
    except UserError as error:
        raise ValueError(str(error).partition(";")[0]) from None


def load_start(config: RunConfig, start: StartPolicy, model: BaseAlgorithm, envs: VecEnv) -> None:
    """Give a new model the parameters that its run starts from, and its environments statistics.

    The statistics count as much as the steps after which the policy was saved.

    Raises:
        UserError: the policy is not the one that the run was planned with.
    """
    path = Path(start.path)
    if hash_policy(path) != start.sha256:
        raise UserError(f"{path} is gone or has changed; run the same command again")
    try:
        parameters, scaling = read_start(config, start, model)
    except ValueError as error:
        raise UserError(f"cannot start from {path}: {error}") from None
    model.policy.load_state_dict({**model.policy.state_dict(), **parameters})
    if scaling and isinstance(envs, VecNormalize):
        statistics: Any = envs.obs_rms
        statistics.mean, statistics.var = scaling.mean, scaling.var
        statistics.count = _timesteps(read_attributes(path))


def _check_function(there: Mapping[str, Any], model: Any) -> None:
    """Refuse a policy that the same parameters make another function.

    Attributes of the source that are not known are not compared.

    Raises:
        ValueError: says what differs.
    """
    names = ("policy_kwargs", "observation_space", "action_space")
    here = json.loads(data_to_json({name: getattr(model, name) for name in names}))
    default = signature(type(model.policy).__init__).parameters.get("activation_fn")
    activations = [_activation(part, default and default.default) for part in (there, here)]
    if activations[0] and activations[0] != activations[1]:
        listed = ", here ".join(map(str, activations))
        raise ValueError(f"its activation function is {listed}; set policy_kwargs.activation_fn")
    for name in names[1:]:
        spaces = [_describe(part.get(name)) for part in (there, here)]
        if spaces[0] and spaces[0] != spaces[1]:
            listed = ", here ".join(truncate(str(space), 200) for space in spaces)
            raise ValueError(f"its {name.replace('_', ' ')} is {listed}; {_SAME_SPACES}")


def _activation(attributes: Mapping[str, Any], default: object) -> str | None:
    """Return the name of an activation function, from what stable-baselines3 saves; None if not."""
    kwargs = attributes.get("policy_kwargs")
    if not isinstance(kwargs, dict):
        return None
    return _class_name(kwargs.get("activation_fn", str(default)))


def _describe(space: object) -> str | None:
    """Return a space without bounds, from what stable-baselines3 saves; None if it is not known."""
    if not isinstance(space, dict) or ":type:" not in space:
        return None
    known = [space[key] for key in ("_shape", "n", "nvec", "pictures") if key in space]
    is_bytes = ["uint8"] if space.get("dtype") == "uint8" else []  # whose pictures are scaled
    return f"{_class_name(space[':type:'])}({', '.join(map(str, [*known, *is_bytes]))})"


def _class_name(text: object) -> str:
    """Return the name in the text of a class, as <class 'torch.nn.modules.activation.Tanh'>."""
    return truncate(str(text).rpartition(".")[2].removesuffix("'>"), 40)


def _timesteps(attributes: Mapping[str, Any]) -> int:
    """Return the environment steps after which a policy was saved; at least 1."""
    try:
        return max(1, int(attributes["num_timesteps"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return 1


def _without_critic(
    parameters: dict[str, torch.Tensor], training: TrainingConfig
) -> dict[str, torch.Tensor]:
    if training.learner.has_critic:
        return parameters
    return {name: tensor for name, tensor in parameters.items() if _CRITIC not in name}
