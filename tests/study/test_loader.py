"""Study files: YAML, overrides, and files that are not studies."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.common.yaml import dump_yaml
from shaperun.study.loader import StudyError, load_study
from tests.helpers.studies import STUDY, SWEEPS, load, mistake, problems, study_with


def test_valid_file_is_loaded(file: Path) -> None:
    study = load(file, STUDY)
    assert study.training.total_timesteps == 1000
    assert study.arms["custom"].weights == {"distance": 2.0}


def test_duplicate_keys_are_refused(file: Path) -> None:
    text = STUDY + "  default: {}\nstudy: again\n"
    assert problems(file, text) == [
        "study.yaml:11:3: duplicate key 'default' (first on line 9)",
        "study.yaml:12:1: duplicate key 'study' (first on line 1)",
    ]


@pytest.mark.parametrize("name", ["a/b", "a.b", "a b", "-a", "..", "é"])
def test_invalid_arm_names_are_refused(file: Path, name: str) -> None:
    line = mistake(file, STUDY, "  default: {}", f"  {name}: {{}}")
    assert line.startswith(f"9:3: arms.{name}: invalid name {name!r}, expected")


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
    line = mistake(file, STUDY, "1_000", text)
    assert line.startswith("6:")
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
