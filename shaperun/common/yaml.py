"""YAML text -> plain Python data, and the line and column at which each part of it stands.

The rules are those of YAML 1.2 (https://yaml.org/spec/1.2.2/, section 10.3, the core schema), with
one addition: digits may be grouped by single underscores (`1_000_000`). Text is parsed by PyYAML's
Python parser. The C parser would be faster, but it is not in every build of PyYAML, and the slowest
file that the limits let through takes the Python one about a second.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_SIZE = 1_000_000  # bytes, or characters where text is given
MAX_DEPTH = 50
MAX_EVENTS = 100_000  # with every alias written out
MAX_NUMBER_LENGTH = 250  # so that str() and float() of an integer cannot fail later

_TAG_PREFIX = "tag:yaml.org,2002:"


@dataclass(frozen=True, order=True)
class Mark:
    """A position in the file; both numbers count from 1."""

    line: int
    column: int


class YamlError(ValueError):
    """What is wrong with a file: one or several problems, in the order of the file."""

    def __init__(self, problems: list[tuple[Mark, str]]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(f"line {mark.line}: {message}" for mark, message in self.problems)


@dataclass(frozen=True)
class _Node:
    """Where a node stands: its key (itself, where it has none), its value, and its children."""

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
        """Where the value at `path` stands (or its key).

        A path that is not in the file gives its nearest ancestor that is.
        """
        place = self._root
        for part in path:
            if part not in place.children:
                break
            place = place.children[part]
        return place.key if key else place.value

    def mark_within(self, path: Sequence[str | int], offset: int) -> Mark:
        """Where a character of the string at `path` stands, counted from 0.

        A string that is not written out as it is (escapes, folded lines) gives its beginning.
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
    """Read one YAML document; an empty file gives None.

    Raises:
        YamlError: the text is not YAML, is over a limit, or uses what is not allowed here
            (duplicate keys, merge keys, tags outside the core schema, a second document).
    """
    tape, decoded = _EventStream(), _decode(text)
    for event in _parse(decoded):
        tape.take(event)
    if not tape.events:
        return YamlSource(None, _Node(Mark(1, 1), Mark(1, 1)))
    builder = _Builder(tape.events)
    data, root = builder.node()
    if builder.problems:
        # An alias repeats the problems of what it stands for.
        raise YamlError(sorted(set(builder.problems)))
    return YamlSource(data, root, decoded.splitlines())


def _decode(source: bytes | str) -> str:
    if len(source) > MAX_SIZE:
        raise YamlError([(Mark(1, 1), f"the file is larger than {MAX_SIZE:,} bytes")])
    text = source if isinstance(source, str) else _decode_bytes(source)
    bad = yaml.SafeLoader.NON_PRINTABLE.search(text)
    if bad:
        message = f"the character U+{ord(bad[0]):04X} cannot stand in a text file"
        raise YamlError([(_mark_at(text, bad.start()), message)])
    return text


def _decode_bytes(source: bytes) -> str:
    encoding = "utf-16" if source.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return source.decode(encoding)
    except UnicodeDecodeError as error:
        before = source[: error.start].decode(encoding, "ignore")
        message = f"this is no {error.encoding.upper()} text (byte 0x{source[error.start]:02X})"
        raise YamlError([(_mark_at(before, len(before)), message)]) from None


def _mark_at(text: str, index: int) -> Mark:
    return Mark(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _parse(text: str) -> Iterator[yaml.Event]:
    """PyYAML's events; its errors become a YamlError."""
    loader: Any = yaml.SafeLoader(text)  # its methods have no types
    try:
        while loader.check_event():
            yield loader.get_event()
    except yaml.MarkedYAMLError as error:
        raise YamlError([_explain(error)]) from None
    except (ValueError, OverflowError):
        # PyYAML does not look at the size of "\UFFFFFFFF" or of %YAML 1.999….
        raise YamlError([(_mark(loader.get_mark()), "a number here is far too large")]) from None


def _explain(error: yaml.MarkedYAMLError) -> tuple[Mark, str]:
    message = error.problem or "this is not YAML"
    if error.context and error.context_mark:
        message += f" ({error.context} that begins on line {error.context_mark.line + 1})"
    if r"'\t'" in message:
        message += "; indent with spaces, not with tabs"
    return _mark(error.problem_mark or error.context_mark), message


class _EventStream:
    """The events of one document's nodes, every alias replaced by what it stands for.

    The limits are checked here, before there is any tree. An alias is played again event by event,
    so what it stands for counts in full towards them.
    """

    def __init__(self) -> None:
        self.events: list[yaml.Event] = []
        self._anchors: dict[str, int] = {}  # name -> index of its first event
        self._open: list[int] = []  # indices at which the open collections begin
        self._ends: dict[int, int] = {}  # collection: index of its first event -> one past its last

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._replay(event)
        elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            self._record(event, event)
        elif isinstance(event, yaml.DocumentStartEvent) and self.events:
            raise _refusal(event, "a second document begins here; a file holds one")

    def _record(self, event: yaml.Event, origin: yaml.Event) -> None:
        """Add `event`, which `origin` (itself, or an alias) put here."""
        if len(self.events) == MAX_EVENTS:
            raise _refusal(
                origin, f"the file holds more than {MAX_EVENTS:,} values, aliases expanded"
            )
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            self._anchors[event.anchor] = len(self.events)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append(len(self.events))
            if len(self._open) > MAX_DEPTH:
                raise _refusal(origin, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._ends[self._open.pop()] = len(self.events) + 1
        self.events.append(event)

    def _replay(self, alias: yaml.AliasEvent) -> None:
        start = self._anchors.get(str(alias.anchor))
        if start is None:
            raise _refusal(alias, f"nothing above is marked &{alias.anchor}")
        if start in self._open:
            raise _refusal(alias, f"*{alias.anchor} stands inside itself")
        first = copy.copy(self.events[start])
        first.start_mark = alias.start_mark  # the value stands here; its parts, at the anchor
        for event in [first, *self.events[start + 1 : self._ends.get(start, start + 1)]]:
            self._record(event, alias)


def _refusal(event: yaml.Event, message: str) -> YamlError:
    return YamlError([(_mark(event.start_mark), message)])


class _Builder:
    """Events -> data and places. It recurses, which the limit on depth makes safe."""

    def __init__(self, events: list[yaml.Event]) -> None:
        self._events = iter(events)
        self.problems: list[tuple[Mark, str]] = []

    def node(self, event: yaml.Event | None = None, key: Mark | None = None) -> tuple[Any, _Node]:
        """The node that begins with `event`, by default the next one."""
        event = event or next(self._events)
        value = _mark(event.start_mark)
        place = _Node(key or value, value)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event), place
        if isinstance(event, yaml.SequenceStartEvent):
            self._tag(event, ["seq"])
            return self._sequence(place), place
        self._tag(event, ["map"])
        return self._mapping(place), place

    def _sequence(self, place: _Node) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item, place.children[len(items)] = self.node(event)
            items.append(item)
        return items

    def _mapping(self, place: _Node) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            value, child = self.node(key=_mark(event.start_mark))
            if key in mapping:
                first = place.children[key].key.line
                self._problem(event, f"key {_show(key)} stands twice (first on line {first})")
            elif key is not None:
                mapping[key], place.children[key] = value, child
        return mapping

    def _key(self, event: yaml.Event) -> str | None:
        """The text of a key, or None where it is refused.

        A key is a name, so an unquoted `200`, `1e-3` or `true` is taken as it is written: to ask
        for quotes around every arm that is called after a number would help nobody.
        """
        if not isinstance(event, yaml.ScalarEvent):
            self.node(event)
            self._problem(event, "a key must be text, not a list or a mapping")
            return None
        text = self._text(event)
        self._tag(event, ["str"])
        plain = event.style is None and event.tag is None
        if plain and text == "<<":
            self._problem(event, "merge keys (<<) are not supported; write the keys out")
        elif plain and not text:
            self._problem(event, "there is no key before the ':'")
        else:
            return text
        return None

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = self._text(event)
        tag = self._tag(event, ["str", *_CORE])
        if tag == "str" or (tag is None and event.style is not None):
            return text
        for kind in [tag] if tag else _CORE:
            pattern, convert = _CORE[kind]
            if not pattern.fullmatch(text):
                continue
            if len(text) > MAX_NUMBER_LENGTH:
                self._problem(event, f"a number of more than {MAX_NUMBER_LENGTH} characters")
                return text
            return convert(text)
        if tag:
            self._problem(event, f"{_show(text)} is no !!{tag}")
        return text

    def _text(self, event: yaml.ScalarEvent) -> str:
        r"""The scalar's text, with JSON's way of writing U+1F600 ("\ud83d\ude00") put together."""
        value: str = event.value
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._problem(event, "half a character: a surrogate escape (\\ud800 to \\udfff) alone")
            return ""

    def _tag(self, event: Any, allowed: Sequence[str]) -> str | None:
        """The short name of an explicit tag; None where there is none or it is refused."""
        for name in allowed:
            if event.tag == _TAG_PREFIX + name:
                return name
        if event.tag is not None:
            shown = _show(event.tag.replace(_TAG_PREFIX, "!!"))
            expected = ", ".join(f"!!{name}" for name in allowed)
            self._problem(event, f"the tag {shown} is not allowed here (only {expected})")
        return None

    def _problem(self, event: yaml.Event, message: str) -> None:
        self.problems.append((_mark(event.start_mark), message))


def _show(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _to_int(text: str) -> int:
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _to_float(text: str) -> float:
    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))


_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_HEX = r"0x[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
_OCTAL = r"0o[0-7]+(?:_[0-7]+)*"
_FLOAT = rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?{_DIGITS})?"
_SPECIAL = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"

# Tag -> the texts that mean it, and what they mean; the first that fits an unquoted scalar wins.
_CORE: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "null": (re.compile(r"null|Null|NULL|~|"), lambda _: None),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    "int": (re.compile(rf"[-+]?{_DIGITS}|{_HEX}|{_OCTAL}"), _to_int),
    "float": (re.compile(rf"{_FLOAT}|{_SPECIAL}"), _to_float),
}


class _Dumper(yaml.SafeDumper):
    """Quotes whatever a YAML 1.2 reader could take for something else than text."""


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
    """Plain data as YAML that `read_yaml` reads back as it was."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
