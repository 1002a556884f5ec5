"""Read YAML as plain Python data, with the line and column of each value.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/, section 10.3), with one
addition: digits may be grouped by single underscores (`1_000_000`). Text is parsed by PyYAML's
Python parser: the C parser is faster but not part of every build of PyYAML, and the slowest file
within the limits takes the Python parser about a second.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from shaperun.common.text import truncate

MAX_SIZE = 1_000_000  # bytes; characters if the input is text
MAX_DEPTH = 50
MAX_EVENTS = 100_000  # with aliases expanded
MAX_NUMBER_LENGTH = 250  # keeps str() and float() of an integer from failing later
_TAG_PREFIX = "tag:yaml.org,2002:"


@dataclass(frozen=True, order=True)
class Mark:
    """A position in the file; line and column count from 1."""

    line: int
    column: int


class YamlError(ValueError):
    """One or more problems of a file, in the order of the file."""

    def __init__(self, problems: list[tuple[Mark, str]]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(f"line {mark.line}: {message}" for mark, message in self.problems)


@dataclass(frozen=True)
class _Node:
    """Position of a node: its key (or itself, without a key), its value and its children."""

    key: Mark
    value: Mark
    children: dict[str | int, "_Node"] = field(default_factory=dict)


@dataclass(frozen=True)
class YamlSource:
    """The data of a file: dict (keys are str), list, str, int, float, bool, None."""

    data: Any
    _root: _Node = field(repr=False)
    _lines: Sequence[str] = field(default=(), repr=False)

    def mark(self, path: Sequence[str | int], *, key: bool = False) -> Mark:
        """Return the position of the value at `path`, or of its key.

        For a path that is not in the file, return the position of its nearest ancestor.
        """
        node = self._root
        for part in path:
            if part not in node.children:
                break
            node = node.children[part]
        return node.key if key else node.value

    def mark_within(self, path: Sequence[str | int], offset: int) -> Mark:
        """Return the position of a character, counted from 0, of the string at `path`.

        For a string with escapes or folded lines, return the position of its start.
        """
        mark = self.mark(path)
        value = self.data
        for part in path:
            value = value[part]
        line = self._lines[mark.line - 1] if mark.line <= len(self._lines) else ""
        for quote in (0, 1):
            start = mark.column - 1 + quote
            if line[start : start + offset] == str(value)[:offset]:
                return Mark(mark.line, start + offset + 1)
        return mark


def read_yaml(text: bytes | str) -> YamlSource:
    """Read one YAML document; the data of an empty file is None.

    Raises:
        YamlError: the text is not YAML, exceeds a limit, or has duplicate keys, merge keys, tags
            outside the core schema or a second document.
    """
    stream, decoded = _EventStream(), _decode(text)
    for event in _parse(decoded):
        stream.add(event)
    if not stream.events:
        return YamlSource(None, _Node(Mark(1, 1), Mark(1, 1)))
    builder = _Builder(stream.events)
    data, root = builder.build()
    if builder.problems:
        # An alias repeats the problems of its anchor.
        raise YamlError(sorted(set(builder.problems)))
    return YamlSource(data, root, decoded.splitlines())


def _decode(source: bytes | str) -> str:
    if len(source) > MAX_SIZE:
        raise YamlError([(Mark(1, 1), f"the file is larger than {MAX_SIZE:,} bytes")])
    text = source if isinstance(source, str) else _decode_bytes(source)
    match = yaml.SafeLoader.NON_PRINTABLE.search(text)
    if match:
        message = f"character U+{ord(match[0]):04X} is not allowed in a text file"
        raise YamlError([(_mark_at(text, match.start()), message)])
    return text


def _decode_bytes(source: bytes) -> str:
    encoding = find_encoding(source)
    try:
        return source.decode(encoding)
    except UnicodeDecodeError as error:
        before = source[: error.start].decode(encoding, "ignore")
        message = f"not valid {error.encoding.upper()} (byte 0x{source[error.start]:02X})"
        raise YamlError([(_mark_at(before, len(before)), message)]) from None


def find_encoding(source: bytes) -> str:
    """Return the encoding of a file from its byte order mark, by default UTF-8."""
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
    return next((name for mark, name in marks.items() if source.startswith(mark)), "utf-8")


def _mark_at(text: str, index: int) -> Mark:
    return Mark(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _parse(text: str) -> Iterator[yaml.Event]:
    """Yield the events of PyYAML, and raise its errors as YamlError."""
    loader: Any = yaml.SafeLoader(text)  # its methods are untyped
    try:
        while loader.check_event():
            yield loader.get_event()
    except yaml.MarkedYAMLError as error:
        raise YamlError([_explain(error)]) from None
    except (ValueError, OverflowError):
        # PyYAML does not check the size of "\UFFFFFFFF" or of %YAML 1.999….
        raise YamlError([(_mark(loader.get_mark()), "a number here is too large")]) from None


def _explain(error: yaml.MarkedYAMLError) -> tuple[Mark, str]:
    message = error.problem or "not valid YAML"
    if error.context and error.context_mark:
        message += f" ({error.context} starting on line {error.context_mark.line + 1})"
    if r"'\t'" in message:
        message += "; indent with spaces, not with tabs"
    return _mark(error.problem_mark or error.context_mark), message


class _EventStream:
    """The node events of one document, with aliases expanded.

    The limits are checked here, before a tree is built. Aliases are expanded event by event, so
    that their values count in full.
    """

    def __init__(self) -> None:
        self.events: list[yaml.Event] = []
        self._anchors: dict[str, int] = {}  # name -> index of its first event
        self._open: list[int] = []  # start indices of the open collections
        self._ends: dict[int, int] = {}  # start index of a collection -> index after its end

    def add(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._expand(event)
        elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            self._append(event, event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.events:
            raise _error(event, "a second document starts here; a file may have only one")

    def _append(self, event: yaml.Event, origin: yaml.Event) -> None:
        """Append `event`; errors are reported at `origin`, which is itself or an alias."""
        if len(self.events) == MAX_EVENTS:
            raise _error(origin, f"more than {MAX_EVENTS:,} values, aliases expanded")
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            self._anchors[event.anchor] = len(self.events)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append(len(self.events))
            if len(self._open) > MAX_DEPTH:
                raise _error(origin, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._ends[self._open.pop()] = len(self.events) + 1
        self.events.append(event)

    def _expand(self, alias: yaml.AliasEvent) -> None:
        start = self._anchors.get(str(alias.anchor))
        if start is None:
            raise _error(alias, f"unknown alias *{alias.anchor}; define &{alias.anchor} above it")
        if start in self._open:
            raise _error(alias, f"alias *{alias.anchor} refers to the value that contains it")
        first = copy.copy(self.events[start])
        first.start_mark = alias.start_mark  # the value is here, its parts are at the anchor
        for event in [first, *self.events[start + 1 : self._ends.get(start, start + 1)]]:
            self._append(event, alias)


def _error(event: yaml.Event, message: str) -> YamlError:
    return YamlError([(_mark(event.start_mark), message)])


class _Builder:
    """Builds data and positions from events, recursively: the depth is limited already."""

    def __init__(self, events: list[yaml.Event]) -> None:
        self._events = iter(events)
        self.problems: list[tuple[Mark, str]] = []

    def build(self, event: yaml.Event | None = None, key: Mark | None = None) -> tuple[Any, _Node]:
        """Build the node that starts with `event`, by default the next one."""
        event = event or next(self._events)
        value = _mark(event.start_mark)
        node = _Node(key or value, value)
        if isinstance(event, yaml.ScalarEvent):
            return self._build_scalar(event), node
        if isinstance(event, yaml.SequenceStartEvent):
            self._read_tag(event, ["seq"])
            return self._build_list(node), node
        self._read_tag(event, ["map"])
        return self._build_dict(node), node

    def _build_list(self, node: _Node) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item, node.children[len(items)] = self.build(event)
            items.append(item)
        return items

    def _build_dict(self, node: _Node) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._read_key(event)
            value, child = self.build(key=_mark(event.start_mark))
            if key in mapping:
                first = node.children[key].key.line
                self._report(event, f"duplicate key {_quote(key)} (first on line {first})")
            elif key is not None:
                mapping[key], node.children[key] = value, child
        return mapping

    def _read_key(self, event: yaml.Event) -> str | None:
        """Return the text of a key; None if it is refused.

        Keys are names, so an unquoted `200`, `1e-3` or `true` is kept as text: an arm named after
        a number needs no quotes.
        """
        if not isinstance(event, yaml.ScalarEvent):
            self.build(event)
            self._report(event, "a key must be text, not a list or a mapping")
            return None
        text = self._read_text(event)
        self._read_tag(event, ["str"])
        plain = event.style is None and event.tag is None
        if plain and text == "<<":
            self._report(event, "merge keys (<<) are not supported; write the keys out")
        elif plain and not text:
            self._report(event, "missing key before ':'")
        else:
            return text
        return None

    def _build_scalar(self, event: yaml.ScalarEvent) -> Any:
        text = self._read_text(event)
        tag = self._read_tag(event, ["str", *_CORE])
        if tag == "str" or (tag is None and event.style is not None):
            return text
        for kind in [tag] if tag else _CORE:
            pattern, convert = _CORE[kind]
            if not pattern.fullmatch(text):
                continue
            if len(text) > MAX_NUMBER_LENGTH:
                self._report(event, f"a number longer than {MAX_NUMBER_LENGTH} characters")
                return text
            return convert(text)
        if tag:
            self._report(event, f"{_quote(text)} is not a valid !!{tag}")
        return text

    def _read_text(self, event: yaml.ScalarEvent) -> str:
        r"""Return the text of a scalar, with JSON's surrogate pairs ("\ud83d\ude00") joined."""
        value: str = event.value
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._report(event, "unpaired surrogate escape (\\ud800 to \\udfff)")
            return ""

    def _read_tag(self, event: Any, allowed: Sequence[str]) -> str | None:
        """Return the short name of an explicit tag; None if it is absent or refused."""
        for name in allowed:
            if event.tag == _TAG_PREFIX + name:
                return name
        if event.tag is not None:
            tag = _quote(event.tag.replace(_TAG_PREFIX, "!!"))
            expected = ", ".join(f"!!{name}" for name in allowed)
            self._report(event, f"tag {tag} is not allowed here (only {expected})")
        return None

    def _report(self, event: yaml.Event, message: str) -> None:
        self.problems.append((_mark(event.start_mark), message))


def _quote(text: str) -> str:
    return repr(truncate(text, 60))


def _to_int(text: str) -> int:
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _to_float(text: str) -> float:
    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))


_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_HEX = r"0x[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
_OCTAL = r"0o[0-7]+(?:_[0-7]+)*"
_FLOAT = rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?{_DIGITS})?"
_SPECIAL = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"

# Tag -> pattern and conversion; the first match of an unquoted scalar wins.
_CORE: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "null": (re.compile(r"null|Null|NULL|~|"), lambda _: None),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    "int": (re.compile(rf"[-+]?{_DIGITS}|{_HEX}|{_OCTAL}"), _to_int),
    "float": (re.compile(rf"{_FLOAT}|{_SPECIAL}"), _to_float),
}


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes all text which a YAML 1.2 reader could read as another type."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9_ -]*[A-Za-z0-9]", text) and read_yaml(text).data == text
    )
    return dumper.represent_scalar(_TAG_PREFIX + "str", text, style=None if plain else '"')


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    numbers = bool(items) and all(isinstance(item, int | float) for item in items)
    return dumper.represent_sequence(_TAG_PREFIX + "seq", items, flow_style=numbers or None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)


def dump_yaml(data: object) -> str:
    """Return plain data as YAML that `read_yaml` reads back unchanged."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
