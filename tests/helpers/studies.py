"""A study file, the messages about its mistakes, and studies as data."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shaperun.study.loader import StudyError, load_study
from shaperun.study.models import Study, parse_study

STUDY = """\
study: lander
environment:
  id: LunarLander-v3
training:
  algorithm: PPO
  total_timesteps: 1_000
  hyperparameters: {gamma: 0.999}
arms:
  default: {}
  custom: {mode: add, weights: {distance: 2}}
"""


def load(file: Path, text: str | bytes, *overrides: str) -> Study:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_study(file, overrides)


def problems(file: Path, text: str | bytes, *overrides: str) -> list[str]:
    """Return the messages, with the name of the file instead of its path."""
    with pytest.raises(StudyError) as caught:
        load(file, text, *overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [line.replace(str(file), file.name) for line in caught.value.problems]


def mistake(file: Path, text: str, old: str, new: str) -> str:
    """Return the only message about a study in which a part is replaced, from its line on."""
    assert old in text
    [line] = problems(file, text.replace(old, new))
    return line.removeprefix(f"{file.name}:")


SWEEPS = ("grid", "random", "tpe", "nsga2", "cmaes")


def network() -> dict[str, Any]:
    """Return a network term of LunarLander's eight numbers."""
    return {"kind": "network", "layers": [{"weights": [[0.5] * 8], "bias": [0.0]}]}


# Paths of models within the study of `study_with`, where they differ from the model's path.
PATHS = {
    **{f"sweep.{m}": "sweep" for m in SWEEPS},
    **{f"sweep.{m}.weights.*": "sweep.weights.legs" for m in SWEEPS},
    "environment.outcomes.*": "environment.outcomes.down",
    "environment.metrics.*": "environment.metrics.height",
    "terms.*": "terms.tall",
    "terms.*.network": "terms.seen",
    "terms.*.layers.*": "terms.seen.layers.0",
    "arms.*.terms.*.network": "arms.default.terms.own",
    "arms.*.terms.*.layers.*": "arms.default.terms.own.layers.0",
    "arms.*": "arms.default",
    "arms.*.terms.*": "arms.default.terms.wide",
    "arms.*.schedule.linear": "arms.default.schedule",
    "arms.*.schedule.piecewise": "arms.default.schedule",
    "arms.*.schedule.earned": "arms.default.schedule",
}


def study_with(model_path: str) -> tuple[dict[str, Any], tuple[str | int, ...]]:
    """Return a valid study with a section at a path of MODELS, and the path within the study."""
    method = model_path.split(".")[1] if model_path.startswith("sweep.") else "grid"
    range_ = {"low": 1, "high": 2}
    data: dict[str, Any] = {
        "study": "lander",
        "environment": {
            "id": "LunarLander-v3",
            "outcomes": {"down": {"when": "terminated"}},
            "metrics": {"height": {"value": "y", "of": "max"}},
        },
        "training": {
            "total_timesteps": 1000,
            "normalize": {},
            "hyperparameters": {"policy_kwargs": {"net_arch": {"pi": [64]}}},
        },
        "evaluation": {},
        "terms": {"tall": {"python": "json:dumps"}, "seen": network()},
        "arms": {
            "default": {
                "mode": "add",
                "weights": {"legs": 1},
                "terms": {"wide": {"python": "json:dumps"}, "own": network()},
                "schedule": {"kind": "linear"},
                "training": {
                    "normalize": {},
                    "hyperparameters": {"policy_kwargs": {"net_arch": {"pi": [64]}}},
                },
            }
        },
        "sweep": {
            "method": method,
            "base": "default",
            "weights": {"legs": [1] if method == "grid" else range_},
        },
    }
    if method != "grid":
        data["sweep"]["samples"] = 1
    if method == "cmaes":  # needs two weights
        data["sweep"]["weights"]["angle"] = dict(range_)
    if model_path.endswith("piecewise"):
        data["arms"]["default"]["schedule"] = {"kind": "piecewise", "points": [[0, 1]]}
    if model_path.endswith("earned"):
        earned = {"kind": "earned", "metric": "return", "between": [0, 1]}
        data["arms"]["default"]["schedule"] = earned
    path = PATHS.get(model_path, model_path.replace("*", "default")).removesuffix(".networks")
    parts = (int(part) if part.isdigit() else part for part in path.split(".") if part)
    return data, tuple(parts)


PLAIN: dict[str, Any] = {
    "study": "lander",
    "environment": {"id": "LunarLander-v3"},
    "training": {"total_timesteps": 1000},
    "arms": {"default": {}},
}
FULL: dict[str, Any] = {
    "study": "lander",
    "environment": {"id": "LunarLander-v3", "options": {"gravity": -9.0, "enable_wind": False}},
    "training": {
        "algorithm": "PPO",
        "total_timesteps": 1000,
        "n_envs": 4,
        "normalize": {"observations": False, "rewards": True},
        "hyperparameters": {
            "gamma": 0.999,
            "learning_rate": "lin_3e-4",
            "policy_kwargs": {"net_arch": {"pi": [64], "vf": [32, 32]}, "activation_fn": "relu"},
        },
    },
    "seeds": [3, 5],
    "evaluation": {"every": 100, "episodes": 5, "final_episodes": 10},
    "arms": {
        "default": {},
        "custom": {"mode": "replace", "weights": {"distance": 2, "legs": 1}, "scale": 0.5},
    },
    "sweep": {
        "method": "random",
        "base": "custom",
        "weights": {"distance": {"low": 1, "high": 9, "log": True}},
        "samples": 3,
        "seed": 7,
    },
}
GRID = {"method": "grid", "base": "custom", "weights": {"distance": [0, 1], "legs": [5]}}


def changed(data: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return a copy of the data with a value at the dotted key."""
    data = copy.deepcopy(data)
    *parents, last = key.split(".")
    inner = data
    for part in parents:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return data


def accept(key: str, value: object) -> Study:
    return parse_study(changed(FULL, key, value))


def refuse(key: str, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        accept(key, value)
    return str(caught.value)
