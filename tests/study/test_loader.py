"""Study files with mistakes: all reported at once, with position, path and remedy."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from shaperun.common.yaml import dump_yaml
from shaperun.envs.base import OWN_REWARD
from shaperun.envs.builtin import environments
from shaperun.study.error_messages import MODELS
from shaperun.study.learners import LEARNERS
from shaperun.study.loader import StudyError, load_study
from shaperun.study.models import Study, parse_study

LANDER = environments()["LunarLander-v3"]
LANDER_TERMS = [*LANDER.terms, *LANDER.outcomes, OWN_REWARD]

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


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "study.yaml"


def load(file: Path, text: str | bytes, *overrides: str) -> Study:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_study(file, overrides)


def problems(file: Path, text: str | bytes, *overrides: str) -> list[str]:
    """Return the messages, with the name of the file instead of its path."""
    with pytest.raises(StudyError) as caught:
        load(file, text, *overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [line.replace(str(file), file.name) for line in caught.value.problems]


def test_valid_file_is_loaded(file: Path) -> None:
    study = load(file, STUDY)
    assert study.training.total_timesteps == 1000
    assert study.arms["custom"].weights == {"distance": 2.0}


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
        ("19:52", "sweep.samples: unknown key, expected one of objective, aggregate"),
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
            f"expected one of {', '.join(environments())}, or any other id registered with "
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
def test_misspelt_hyperparameter_is_corrected(file: Path, algorithm: str) -> None:
    for name in LEARNERS[algorithm].hyperparameters.model_fields:
        wrong = name + name[-1]
        text = STUDY.replace("PPO", algorithm).replace("gamma: 0.999", f"{wrong}: 1")
        [line] = problems(file, text)
        key = f"training.hyperparameters.{wrong}"
        assert line.startswith(f"study.yaml:7:21: {key}: unknown hyperparameter of {algorithm},")
        assert line.endswith(f"; did you mean {name}?")


SWEEPS = ("grid", "random", "tpe", "nsga2", "cmaes")


def network() -> dict[str, Any]:
    """Return a network term of LunarLander's eight numbers."""
    return {"kind": "network", "layers": [{"weights": [[0.5] * 8], "bias": [0.0]}]}


def study_with(model_path: str) -> tuple[dict[str, Any], tuple[str | int, ...]]:
    """Return a valid study with a section at a path of MODELS, and the path within the study."""
    method = model_path.split(".")[1] if model_path.startswith("sweep.") else "grid"
    range_ = {"low": 1, "high": 2}
    data: dict[str, Any] = {
        "study": "lander",
        "environment": {"id": "LunarLander-v3"},
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
    paths = {
        **{f"sweep.{m}": "sweep" for m in SWEEPS},
        **{f"sweep.{m}.weights.*": "sweep.weights.legs" for m in SWEEPS},
        "terms.*": "terms.tall",
        "terms.*.network": "terms.seen",
        "terms.*.layers.*": "terms.seen.layers.0",
        "arms.*.terms.*.network": "arms.default.terms.own",
        "arms.*.terms.*.layers.*": "arms.default.terms.own.layers.0",
        "arms.*": "arms.default",
        "arms.*.terms.*": "arms.default.terms.wide",
        "arms.*.schedule.linear": "arms.default.schedule",
        "arms.*.schedule.piecewise": "arms.default.schedule",
    }
    path = paths.get(model_path, model_path.replace("*", "default")).removesuffix(".networks")
    parts = (int(part) if part.isdigit() else part for part in path.split(".") if part)
    return data, tuple(parts)


@pytest.mark.parametrize(("model_path", "model"), MODELS.items(), ids=[p or "top" for p in MODELS])
def test_misspelt_key_is_corrected(file: Path, model_path: str, model: type[BaseModel]) -> None:
    for field, info in model.model_fields.items():
        name = info.alias or field
        data, path = study_with(model_path)
        parse_study(data, allow_code=True)  # valid without the mistake
        inner: Any = data
        for part in path:
            inner = inner[part]
        wrong = name + name[-1]
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
    assert names == {model.__name__ for model in MODELS.values()} - {"Study"} | {"JsonValue"}


def test_duplicate_keys_are_refused(file: Path) -> None:
    text = STUDY + "  default: {}\nstudy: again\n"
    assert problems(file, text) == [
        "study.yaml:11:3: duplicate key 'default' (first on line 9)",
        "study.yaml:12:1: duplicate key 'study' (first on line 1)",
    ]


@pytest.mark.parametrize("name", ["a/b", "a.b", "a b", "-a", "..", "é"])
def test_invalid_arm_names_are_refused(file: Path, name: str) -> None:
    [line] = problems(file, STUDY.replace("  default: {}", f"  {name}: {{}}"))
    assert line.startswith(f"study.yaml:9:3: arms.{name}: invalid name {name!r}, expected")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_000_000", 10**6), ("1e6", 10**6), ("0x10", 16), ("1.0E+3", 1000), ("010", 10)],
)
def test_yaml_1_2_integers_are_read(file: Path, text: str, value: int) -> None:
    assert load(file, STUDY.replace("1_000", text)).training.total_timesteps == value


@pytest.mark.parametrize(("text", "value"), [("3e-4", 3e-4), ("lin_3e-4", "lin_3e-4"), (".5", 0.5)])
def test_yaml_1_2_numbers_are_read(file: Path, text: str, value: object) -> None:
    study = load(file, STUDY.replace("gamma: 0.999", f"learning_rate: {text}"))
    assert study.training.hyperparameters["learning_rate"] == value


@pytest.mark.parametrize("text", ["1.5", "yes", "'1000'", "1e-3", ".inf", "1 000", ""])
def test_non_integers_are_refused(file: Path, text: str) -> None:
    [line] = problems(file, STUDY.replace("1_000", text))
    assert line.startswith("study.yaml:6:")
    assert "training.total_timesteps: found " in line


# Overrides.


def test_overrides_are_yaml_and_the_last_wins(file: Path) -> None:
    study = load(
        file,
        STUDY,
        "training.total_timesteps=2e3",
        "training.total_timesteps=3_000",
        "training.hyperparameters.learning_rate=3e-4",
        "evaluation={every: 7}",
        "evaluation.episodes=3",
        "arms.custom.weights.legs=10",
        "arms.third={mode: replace, weights: {angle: 1}}",
        "study=other",
        "seeds=[1, 2]",
    )
    assert study.training.total_timesteps == 3000
    assert study.training.hyperparameters["learning_rate"] == 3e-4
    assert study.training.gamma == 0.999
    assert (study.evaluation.every, study.evaluation.episodes) == (7, 3)
    assert study.arms["custom"].weights == {"distance": 2.0, "legs": 10.0}
    assert list(study.arms) == ["default", "custom", "third"]
    assert study.study == "other"
    assert study.seeds == [1, 2]
    assert file.read_text() == STUDY


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "expected KEY=VALUE"),
        ("=5", "expected KEY=VALUE"),
        ("seeds=[1", "line 1: expected ',' or ']', but got '<stream end>'"),
        ("study.name=5", "study is not a mapping"),
        ("study=a/b", "study: invalid name 'a/b'"),
        ("study=", "study: found null, expected text"),
        ("training=5", "training: found 5, expected a mapping"),
        ("training.algorithm=PPPO", "training.algorithm: unknown algorithm PPPO, expected one of"),
        ("training.n_envs=[1]", "training.n_envs: found a list, expected an integer"),
        ("training.hyperparameters.gama=1", "training.hyperparameters.gama: unknown hyperparam"),
        ("training.hyperparameters={gama: 1}", "training.hyperparameters.gama: unknown hyperparam"),
        ("arms.custom.weights.mass=1", "arms.custom.weights.mass: unknown LunarLander-v3 term"),
        # Mappings that an override creates are on the command line too.
        ("arms.third.weights={legs: 1}", "arms.third.mode: an arm with weights needs a mode"),
        ("evaluaton.every=5", "evaluaton: unknown key, expected one of study, environment"),
        ("seeds.0=1", "seeds: found a mapping, expected a list"),
        ("seeds=0", "seeds: found 0, expected a number from 1 to 10,000, or a list of seeds"),
        ("seeds=[]", "seeds: found an empty list, expected at least 1 value"),
        ("seeds=[4294967296]", "seeds.0: found 4294967296, expected less than 4,294,967,296"),
        ("arms={}", "arms: found an empty mapping, expected at least 1 value"),
        (
            "training.hyperparameters.gamma=2",
            "training.hyperparameters.gamma: found 2, expected at",
        ),
        ("sweep={}", "sweep.method: missing"),
    ],
)
def test_invalid_override_is_refused(file: Path, override: str, message: str) -> None:
    [line] = problems(file, STUDY, override)
    assert line.startswith(f"--set {override}: {message}")


def test_invalid_overrides_are_listed_before_the_file(file: Path) -> None:
    messages = problems(file, STUDY.replace("add", "ad"), "training.n_envs=0", "study=a b")
    assert [line.split(": ", maxsplit=2)[:2] for line in messages] == [
        ["--set study=a b", "study"],
        ["--set training.n_envs=0", "training.n_envs"],
        ["study.yaml:10:18", "arms.custom.mode"],
    ]


# Files that are not studies.


NOT_STUDIES = {"": "nothing", "# -\n": "nothing", "5": "5", "[1]": "a list", "a b": "'a b'"}


@pytest.mark.parametrize("overrides", [(), ("study=a",), ("training.n_envs=2",)])
def test_file_without_study_is_refused(file: Path, overrides: tuple[str, ...]) -> None:
    for text, found in NOT_STUDIES.items():
        expected = f"study.yaml:1:1: found {found}, expected a study (shaperun init writes one)"
        assert problems(file, text, *overrides) == [expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "1:1: not valid UTF-8 (byte 0x89)"),
        (b"study: \0", "1:8: character U+0000 is not allowed in a text file"),
        ("[" * 30_000, "1:51: nested deeper than 50 levels"),
        (STUDY + "x: " + "{a: " * 30_000, "11:200: nested deeper than 50 levels"),
        ("study: &a [*a]", "1:12: alias *a refers to the value that contains it"),
        ("#" * 1_000_001, "1:1: the file is larger than 1,000,000 bytes"),
        ("- &a [" + "1," * 999 + "]\n" + "- *a\n" * 101, "100:3: more than 100,000 values"),
        ("study: !!python/object:os.system 1", "1:8: tag '!!python/object:os.system' is not"),
        ("study: a\n\ttraining: 1", "2:1: found character '\\t' that cannot start any token"),
    ],
)
def test_hostile_file_gives_one_message(file: Path, text: str | bytes, message: str) -> None:
    [line] = problems(file, text)
    assert line.startswith(f"study.yaml:{message}")
    assert len(line) < 300


def test_long_values_are_truncated(file: Path) -> None:
    for good in ("lander", "PPO", "add", "LunarLander-v3"):
        for line in problems(file, STUDY.replace(good, "x" * 100_000, 1)):
            assert len(line) < 400


def test_every_mistake_has_a_message(file: Path) -> None:
    messages = problems(file, STUDY + "".join(f"k{i}: 1\n" for i in range(2_000)))
    assert [int(line.split(":")[1]) for line in messages] == list(range(11, 2_011))


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nope\.yaml: No such file or directory$"):
        load_study(tmp_path / "nope.yaml")
    with pytest.raises(StudyError, match=r": Is a directory$"):
        load_study(tmp_path)


# Any content gives a study or a StudyError with positions.

WORDS = [*sorted(set(re.findall(r"[\w-]+", STUDY))), "sweep", "grid", "net_arch", "lin_1", "[key]"]
TEXT = st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8"), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def paths(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items() if isinstance(data, dict) else ():
        yield (*path, key)
        yield from paths(value, (*path, key))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a study with a sweep, one value of which is replaced and one added beside it."""
    data = copy.deepcopy(study_with(draw(st.sampled_from([f"sweep.{m}" for m in SWEEPS])))[0])
    *parents, key = draw(st.sampled_from(list(paths(data))))
    inner = data
    for part in parents:
        inner = inner[part]
    inner[draw(TEXT)] = draw(JSON)
    inner[key] = draw(JSON)
    return data


@settings(deadline=None)
@given(JSON | mutated(), st.lists(st.tuples(TEXT, JSON), max_size=2))
def test_any_file_and_override_gives_a_study_or_a_study_error(
    tmp_path_factory: pytest.TempPathFactory, data: Any, sets: list[tuple[str, Any]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(dump_yaml(data), encoding="utf-8")
    messages = []
    try:
        load_study(file, [f"{key}={dump_yaml(value)}" for key, value in sets])
    except StudyError as error:
        messages = error.problems
    assert all(line.startswith((f"{file}:", "--set ")) for line in messages)


@pytest.mark.parametrize(
    "override",
    [
        "arms.arm.weights.upright=1.1e12",
        "arms.arm.scale=-1e308",
        "arms.arm.schedule={kind: linear, from: 1e200}",
        "arms.arm.schedule={kind: piecewise, points: [[0, 1e13]]}",
        "terms={net: {kind: network, layers: [{weights: [[1e13, 0, 0, 0]], bias: [0]}]}}",
        "sweep={base: arm, method: grid, weights: {upright: [1e13]}}",
    ],
)
def test_numbers_whose_products_could_overflow_are_refused(override: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "study: test\nenvironment: {id: CartPole-v1}\ntraining: {total_timesteps: 100}\n"
        "arms: {arm: {mode: add, weights: {upright: 1e12}}}\n"
    )
    load_study(path)
    with pytest.raises(
        StudyError, match=r"--set .*: found .*, expected at (most|least) -?1,000,000,000,000"
    ):
        load_study(path, [override])
