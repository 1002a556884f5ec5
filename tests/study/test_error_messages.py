"""Messages about mistakes in study files: position, path and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from shaperun.common.yaml import dump_yaml
from shaperun.envs.base import OWN_REWARD
from shaperun.envs.builtin import environments
from shaperun.study.error_messages import MODELS
from shaperun.study.learners import LEARNERS
from shaperun.study.models import Study, parse_study
from tests.helpers.studies import STUDY, problems, study_with

LANDER = environments()["LunarLander-v3"]
LANDER_TERMS = [*LANDER.terms, *LANDER.outcomes, OWN_REWARD]


def test_all_mistakes_are_reported_in_file_order(file: Path) -> None:
    text = """\
study: a/b
environmen: 1
environment:
  id: LunarLander-v3
  options: {render_mode: human}
training:
  algorithm: PPO
  total_timestep: 5
  n_envs: 0
  normalize: {observations: 1}
  hyperparameters: {gama: 0.9, device: cuda, n_steps: many, policy_kwargs: {net_arch: {pj: [64]}}}
seeds: [0, 0]
evaluation: {episodes: x}
arms:
  -a: {}
  b: {mode: ad, weights: {distanc: 1}}
  c: {weights: {distance: 1}}
  d: {mode: potential, weights: {legs: 1, main_engine: 1}, scale: .inf}
sweep: {method: grid, base: e, weights: {legs: 1}, samples: 3}
"""
    messages = problems(file, text)
    expected = [
        ("1:8", "study: invalid name 'a/b', expected up to 64 letters (a to z, A to Z), digits"),
        ("2:1", "environmen: unknown key, expected one of study, environment, training"),
        ("5:12", "environment.options: render_mode is set by shaperun; remove it"),
        ("7:3", "training.total_timesteps: missing"),
        ("8:3", "training.total_timestep: unknown key, expected one of algorithm, total_timesteps"),
        ("9:11", "training.n_envs: found 0, expected at least 1"),
        ("10:29", "training.normalize.observations: found 1, expected true or false"),
        ("11:21", "training.hyperparameters.gama: unknown hyperparameter of PPO, expected one of"),
        ("11:32", "training.hyperparameters.device: device is set by shaperun; remove it"),
        ("11:55", "training.hyperparameters.n_steps: found 'many', expected an integer"),
        ("11:88", "training.hyperparameters.policy_kwargs.net_arch.pj: unknown key, expected one"),
        ("12:8", "seeds: duplicate seeds; list each seed once"),
        ("13:24", "evaluation.episodes: found 'x', expected an integer"),
        ("15:3", "arms.-a: invalid name '-a', expected up to 64 letters (a to z, A to Z), digits"),
        ("16:13", "arms.b.mode: found 'ad', expected one of log, add, replace, potential; did you"),
        ("16:27", "arms.b.weights.distanc: unknown LunarLander-v3 term distanc"),
        ("17:6", "arms.c.mode: an arm with weights needs a mode"),
        ("18:13", "arms.d.mode: a potential is a function of the state, but main_engine depends"),
        ("18:67", "arms.d.scale: found inf, expected a finite number"),
        ("19:29", "sweep.base: unknown arm e, expected one of -a, b, c, d"),
        ("19:48", "sweep.weights.legs: found 1, expected a list"),
        ("19:52", "sweep.samples: not for grid, only for random, tpe, nsga2, cmaes"),
    ]
    assert len(messages) == len(expected)
    for line, (position, message) in zip(messages, expected, strict=True):
        assert line.startswith(f"study.yaml:{position}: {message}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "LunarLander-v3",
            "LunarLander-v2",
            "3:7: environment.id: unknown environment LunarLander-v2, "
            "expected one of those that shaperun terms lists, or any other id registered with "
            "gymnasium (PACKAGE:NAME for one of a package); did you mean LunarLander-v3?",
        ),
        (
            "PPO",
            "ppo",
            "5:14: training.algorithm: unknown algorithm ppo, "
            f"expected one of {', '.join(LEARNERS)}; did you mean PPO?",
        ),
        (
            "mode: add",
            "mode: Replace",
            "10:18: arms.custom.mode: found 'Replace', "
            "expected one of log, add, replace, potential; did you mean replace?",
        ),
        (
            "distance",
            "velocty",
            "10:33: arms.custom.weights.velocty: unknown LunarLander-v3 term velocty, "
            f"expected one of {', '.join(LANDER_TERMS)}; did you mean velocity?",
        ),
        (
            "distance",
            "wealth",
            "10:33: arms.custom.weights.wealth: unknown LunarLander-v3 term wealth, "
            f"expected one of {', '.join(LANDER_TERMS)}",
        ),
        (
            "arms:",
            "sweep: {method: grid, base: costum, weights: {legs: [1]}}\narms:",
            "8:29: sweep.base: unknown arm costum, "
            "expected one of default, custom; did you mean custom?",
        ),
        (
            "arms:",
            "sweep: {method: gird, base: custom, weights: {legs: [1]}}\narms:",
            "8:17: sweep.method: found 'gird', "
            "expected one of grid, random, tpe, nsga2, cmaes; did you mean grid?",
        ),
        (
            "arms:",
            "sweep: {base: custom, weights: {legs: [1]}}\narms:",
            "8:8: sweep.method: missing",
        ),
        (
            "gamma: 0.999",
            "learning_rate: lin_x",
            "7:36: training.hyperparameters.learning_rate: found 'lin_x', "
            "expected a number or a linear schedule like lin_2.5e-4",
        ),
        (
            "  default: {}",
            "  default: 5",
            "9:12: arms.default: found 5, expected a mapping",
        ),
    ],
)
def test_mistake_gives_one_message(file: Path, old: str, new: str, message: str) -> None:
    assert problems(file, STUDY.replace(old, new)) == [f"study.yaml:{message}"]


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_misspelled_hyperparameter_is_corrected(file: Path, algorithm: str) -> None:
    for name in LEARNERS[algorithm].hyperparameters.model_fields:
        wrong = name + name[-1]
        text = STUDY.replace("PPO", algorithm).replace("gamma: 0.999", f"{wrong}: 1")
        [line] = problems(file, text)
        key = f"training.hyperparameters.{wrong}"
        assert line.startswith(f"study.yaml:7:21: {key}: unknown hyperparameter of {algorithm},")
        assert line.endswith(f"; did you mean {name}?")


@pytest.mark.parametrize(("model_path", "model"), MODELS.items(), ids=[p or "top" for p in MODELS])
def test_misspelled_key_is_corrected(file: Path, model_path: str, model: type[BaseModel]) -> None:
    for field, info in model.model_fields.items():
        name = info.alias or field
        data, path = study_with(model_path)
        parse_study(data, allow_code=True)  # valid without the mistake
        inner: Any = data
        for part in path:
            inner = inner[part]
        wrong = f"{name}x"
        inner[wrong] = 1
        text = dump_yaml(data)
        lines = problems(file, text)
        [line] = [line for line in lines if "--allow-code" not in line]
        row, at = next((i, x) for i, x in enumerate(text.splitlines(), 1) if f"{wrong}:" in x)
        column = len(at) - len(at.lstrip()) + 1
        key = ".".join(map(str, [*path, wrong]))
        assert line.startswith(f"study.yaml:{row}:{column}: {key}: unknown key, expected one of ")
        assert line.endswith(f"; did you mean {name}?")


def test_hyperparameters_of_an_arm_belong_to_its_algorithm(file: Path) -> None:
    arm = "  default: {training: {algorithm: A2C, hyperparameters: {n_epochs: 3}}}"
    (line,) = problems(file, STUDY.replace("  default: {}", arm))
    key = "arms.default.training.hyperparameters.n_epochs"
    assert f": {key}: unknown hyperparameter of A2C, expected one of " in line


def test_every_model_of_the_schema_has_a_path() -> None:
    names = set(Study.model_json_schema()["$defs"])
    for learner in LEARNERS.values():
        names |= set(learner.hyperparameters.model_json_schema()["$defs"])
    any_key = {"JsonValue", "FormulaTerm"}
    assert names == {model.__name__ for model in MODELS.values()} - {"Study"} | any_key


def test_long_values_are_truncated(file: Path) -> None:
    for good in ("lander", "PPO", "add", "LunarLander-v3"):
        for line in problems(file, STUDY.replace(good, "x" * 100_000, 1)):
            assert len(line) < 400


def test_every_mistake_has_a_message(file: Path) -> None:
    messages = problems(file, STUDY + "".join(f"k{i}: 1\n" for i in range(2_000)))
    assert [int(line.split(":")[1]) for line in messages] == list(range(11, 2_011))
