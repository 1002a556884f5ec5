"""YAML: scalars, positions, errors and limits."""

import json
import pickle
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from shaperun.common.yaml import MAX_EVENTS, MAX_SIZE, Mark, YamlError, dump_yaml, read_yaml

STUDY = """\
# a comment
study: lander
training:
  gamma: 0.999
  net: [64, 32]
arms:
  custom:
    weights: {distance: 200, angle:
      50}
  empty:
"""


def problems(text: bytes | str) -> list[tuple[int, int, str]]:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    return [(mark.line, mark.column, message) for mark, message in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3e-4", 3e-4),
        ("1e6", 1e6),
        ("1E+3", 1e3),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.5", -0.5),
        ("1_0.2_5", 10.25),
        ("1_000_000", 1_000_000),
        ("1__0", "1__0"),
        ("_1", "_1"),
        ("1_", "1_"),
        ("010", 10),
        ("+7", 7),
        ("0x1F", 31),
        ("0o10", 8),
        ("-0x10", "-0x10"),
        ("0b1", "0b1"),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("inf", "inf"),
        ("nan", "nan"),
        (".", "."),
        ("e5", "e5"),
        ("1:30", "1:30"),
        ("1.2.3", "1.2.3"),
        ("2020-01-31", "2020-01-31"),
        ("٣", "٣"),  # a digit to Python, not to YAML
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        *[(word, word) for word in ("on", "Off", "yes", "NO", "y", "n")],
        ("null", None),
        ("~", None),
        ("", None),
        ("nuLL", "nuLL"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("=", "="),
        ("<<", "<<"),
        ("|-\n  1", "1"),
        ("!!float 1e6", 1e6),
        ("!!float 1", 1.0),
        ('!!int "12"', 12),
        ("!!str 12", "12"),
        ("!!null ''", None),
        ("!!map {}", {}),
        ("!!seq []", []),
        (r'"\ud83d\ude00"', "😀"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, expected: object) -> None:
    value = read_yaml(f"a: {text}").data["a"]
    assert repr(value) == repr(expected)  # distinguishes 1, 1.0 and True


def test_nan_is_read_as_a_float() -> None:
    assert repr(read_yaml(".nan").data) == "nan"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", b"", b"\xef\xbb\xbf"])
def test_empty_file_is_none(text: bytes | str) -> None:
    source = read_yaml(text)
    assert source.data is None
    assert source.mark(["a"]) == source.mark([]) <= Mark(2, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str) -> None:
    assert read_yaml("é: λ".encode(encoding)).data == {"é": "λ"}


def test_keys_are_kept_as_text() -> None:
    text = "200: a\n1e-3: b\ntrue: c\n~: d\non: e\n'': f\n'<<': g\n0x10: h"
    assert list(read_yaml(text).data) == ["200", "1e-3", "true", "~", "on", "", "<<", "0x10"]


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ([], (2, 1), (2, 1)),
        (["study"], (2, 8), (2, 1)),
        (["training"], (4, 3), (3, 1)),
        (["training", "gamma"], (4, 10), (4, 3)),
        (["training", "net", 1], (5, 13), (5, 13)),
        (["arms", "custom", "weights", "angle"], (9, 7), (8, 30)),
        (["arms", "empty"], (10, 9), (10, 3)),
        (["training", "net", 7], (5, 8), (5, 3)),  # missing: its nearest ancestor
        (["training", "nope", "gamma"], (4, 3), (3, 1)),
        (["study", "deeper"], (2, 8), (2, 1)),
        (["nope"], (2, 1), (2, 1)),
    ],
)
def test_marks_of_keys_and_values(
    path: list[str | int], value: tuple[int, int], key: tuple[int, int]
) -> None:
    source = read_yaml(STUDY)
    assert source.mark(path) == Mark(*value)
    assert source.mark(path, key=True) == Mark(*key)


def test_alias_is_a_copy_with_its_position() -> None:
    source = read_yaml("a: &x [1, {b: 2}]\nc: *x\nd: [*x]\n*x2: 3".replace("*x2", "&x e"))
    assert source.data == {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": [[1, {"b": 2}]], "e": 3}
    assert source.data["a"] is not source.data["c"]
    assert source.mark(["c"]) == Mark(2, 4)
    assert source.mark(["c", 1, "b"]) == Mark(1, 15)


def test_anchor_can_be_redefined() -> None:
    assert read_yaml("[&x 1, *x, &x 2, *x]").data == [1, 1, 2, 2]


def test_all_duplicate_keys_are_reported() -> None:
    text = "arms:\n  a: {gamma: 1,\n    gamma: 2}\n  b: 1\n  'a': 2\n  a: 3\narms: 1\n"
    assert problems(text) == [
        (3, 5, "duplicate key 'gamma' (first on line 2)"),
        (5, 3, "duplicate key 'a' (first on line 2)"),
        (6, 3, "duplicate key 'a' (first on line 2)"),
        (7, 1, "duplicate key 'arms' (first on line 1)"),
    ]


def test_problem_in_an_aliased_value_is_reported_once() -> None:
    text = "a: &x {k: 1, k: 2}\nb: *x\nc: *x"
    assert problems(text) == [(1, 14, "duplicate key 'k' (first on line 1)")]


def test_problems_are_reported_in_the_order_of_the_file() -> None:
    errors = problems("a: 1\nb: !foo 1\n[1]: 2\na: 3\n<<: {}\n")
    assert [line for line, _, _ in errors] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: !!python/object:os.system 1", 1, 4, "tag '!!python/object:os.system' is not allowed"),
        ("a: !!python/tuple [1]", 1, 4, "only !!seq"),
        ("a: !local 1", 1, 4, "tag '!local' is not allowed"),
        ("a: !<int> 1", 1, 4, "tag 'int' is not allowed"),
        ("a: !!timestamp 2020-01-01", 1, 4, "tag '!!timestamp' is not allowed"),
        ("a: !!seq {}", 1, 4, "tag '!!seq' is not allowed here (only !!map)"),
        ("a: !!str []", 1, 4, "only !!seq"),
        ("a: !!int 1.5", 1, 4, "'1.5' is not a valid !!int"),
        ("!!int 1: 2", 1, 1, "only !!str"),
        ("{<<: {a: 1}}", 1, 2, "merge keys"),
        ("? \n: 1", 1, 2, "missing key before"),
        ("a: 1\n[1, 2]: 3", 2, 1, "a key must be text"),
        ("a: 1\n---\nb: 2", 2, 1, "second document"),
        ("a: 1\n\tb: 2", 2, 1, "not with tabs"),
        ("a: b: c", 1, 5, "mapping values are not allowed"),
        ("a:\n  [1, 2\nb: 3", 3, 2, "starting on line 2"),
        ("a: *x", 1, 4, "unknown alias *x; define &x above it"),
        (r'a: "\ud800"', 1, 4, "surrogate"),
        (r'a: "\UFFFFFFFF"', 1, 7, "too large"),
        ("a: " + "9" * 300, 1, 4, "a number longer than 250"),
        ("a: !!int " + "9" * 300, 1, 4, "a number longer than 250"),
        ("a: 0x" + "f" * 300, 1, 4, "a number longer than 250"),
        (b"\x89PNG\r\n\x1a\n\0\0", 1, 1, "not valid UTF-8 (byte 0x89)"),
        (b"a: 1\nb: \xff", 2, 4, "byte 0xFF"),
        (b"\xff\xfea", 1, 1, "not valid UTF-16"),
        (b"a: 1\nb: \0", 2, 4, "U+0000"),
        ("a: \x1b[0m", 1, 4, "U+001B"),
        ("\ud800", 1, 1, "U+D800"),
    ],
)
def test_invalid_yaml(text: bytes | str, line: int, column: int, message: str) -> None:
    [error] = problems(text)
    assert error[:2] == (line, column)
    assert message in error[2]


def billion_laughs(levels: int) -> str:
    """Return YAML of about 40 bytes per level that expands to 9 ** levels values."""
    lines = ["a0: &a0 [" + ",".join("x" * 9) + "]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 9) + "]")
    return "\n".join(lines)


def deep_by_aliases(levels: int) -> str:
    """Return flat YAML that gains twenty levels per line when its aliases are expanded."""
    lines = ["- &a0 1"]
    for i in range(1, levels):
        lines.append(f"- &a{i} " + "[" * 20 + f"*a{i - 1}" + "]" * 20)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 30_000, "deeper than 50"),
        ("- " * 30_000, "deeper than 50"),
        ("{a: " * 30_000, "deeper than 50"),
        ("? " * 30_000, "deeper than 50"),
        (deep_by_aliases(100), "deeper than 50"),
        (billion_laughs(10), "more than 100,000 values"),
        ("- &a [" + "1," * 999 + "]\n" + "- *a\n" * 101, "more than 100,000 values"),
        ("- 1\n" * MAX_EVENTS, "more than 100,000 values"),
        ("&a [*a]", "refers to the value that contains it"),
        ("&a {b: [*a]}", "refers to the value that contains it"),
        ("&a {*a : 1}", "refers to the value that contains it"),
        ("#" * (MAX_SIZE + 1), "larger than 1,000,000"),
        (b"\xff" * (MAX_SIZE + 1), "larger than 1,000,000"),
    ],
)
def test_text_beyond_a_limit_is_refused(text: bytes | str, message: str) -> None:
    [(_, _, problem)] = problems(text)
    assert message in problem


def test_values_within_the_limits() -> None:
    deep = read_yaml("[" * 50 + "]" * 50).data
    assert json.dumps(deep) == "[" * 50 + "]" * 50
    assert len(read_yaml("- &a [" + "1," * 990 + "]\n" + "- *a\n" * 99).data) == 100
    assert read_yaml("#" * MAX_SIZE).data is None


def test_error_message_and_pickling() -> None:
    error = YamlError([(Mark(1, 2), "this"), (Mark(3, 4), "that")])
    assert str(error) == "line 1: this\nline 3: that"
    assert pickle.loads(pickle.dumps(error)).problems == error.problems  # noqa: S301


def test_import_loads_neither_numpy_nor_pydantic() -> None:
    code = "import sys, shaperun.common.yaml; assert not {'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# U+007F is not printable in YAML, and JSON does not escape it.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=20)
# safe_dump follows YAML 1.1 and does not quote the string "1e6".
WORDS = TEXT.filter(lambda text: not re.match(r"[-+.0-9]", text))


def json_like(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    number = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | number | text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=12,
    )


@settings(deadline=None)
@given(json_like(TEXT))
def test_json_is_valid_yaml(data: Any) -> None:
    for text in (json.dumps(data), json.dumps(data, indent=1, separators=(",", ":"))):
        assert repr(read_yaml(text).data) == repr(data)


@settings(deadline=None)
@given(json_like(WORDS))
def test_pyyaml_output_is_read_back(data: Any) -> None:
    for style in (None, '"'):  # the second writes numbers as !!int "1"
        text = yaml.safe_dump(data, default_style=style, sort_keys=False)
        assert repr(read_yaml(text.encode()).data) == repr(data)


PIECES = [*"[]{}:,-&*!|>%'\"\\#?~<=@`\n\t\r.a1u", " ", "  ", ": ", "- ", "? ", "---\n", "...\n"]
PIECES += ["&a ", "*a", "!!int ", "!!map ", "!<", "%YAML ", "%TAG ! ", "<<: ", '"\\u', '"\\U']
PIECES += ["d83d", "FFFFFFFF", "9" * 5000, "\x85", "\u2028", "\ufeff", "é", "\0", "a: b\n"]


@settings(deadline=None)
@given(st.binary() | st.text() | st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_input_returns_data_or_raises_yaml_error(text: bytes | str) -> None:
    try:
        data = read_yaml(text).data
    except YamlError as error:
        data = [(mark.line, mark.column, message) for mark, message in error.problems]
    json.dumps(data)


@given(json_like(TEXT))
def test_dump_is_read_back(data: Any) -> None:
    assert read_yaml(dump_yaml(data)).data == data


@pytest.mark.parametrize(
    "text", ["1e6", "on", "null", "~", "0x10", "a: b", "", "- x", "é", "3e-4 "]
)
def test_ambiguous_text_is_dumped_as_text(text: str) -> None:
    assert read_yaml(dump_yaml({"key": text})).data == {"key": text}
