"""Turn validation errors into messages: place, path, cause, expected value, nearest spelling."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from shaperun.common.text import pluralize, truncate
from shaperun.common.validation import NAME
from shaperun.common.yaml import YamlSource
from shaperun.rewards.config import NAME_RULE, TERM_NAME, PythonTerm
from shaperun.rewards.network_term import Layer, NetworkTerm
from shaperun.rewards.schedule import EarnedSchedule, LinearSchedule, PiecewiseSchedule
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.hyperparameters import MANAGED, Networks, PolicyKwargs
from shaperun.study.learners import LEARNERS
from shaperun.study.models import Arm, Study
from shaperun.study.outcomes import EpisodeMetric, Outcome
from shaperun.study.sweep import GridSweep, RandomSweep, Range, SearchSweep
from shaperun.study.training import EvaluationConfig, NormalizeConfig, TrainingConfig

TRAINING_MODELS: dict[str, type[BaseModel]] = {
    "training": TrainingConfig,
    "training.normalize": NormalizeConfig,
    "training.hyperparameters.policy_kwargs": PolicyKwargs,
    "training.hyperparameters.policy_kwargs.net_arch.networks": Networks,
}

# Path of a mapping -> model of its keys; `*` matches any name.
MODELS: dict[str, type[BaseModel]] = {
    "": Study,
    "environment": EnvironmentConfig,
    "environment.outcomes.*": Outcome,
    "environment.metrics.*": EpisodeMetric,
    **TRAINING_MODELS,
    "evaluation": EvaluationConfig,
    **{
        f"{parent}terms.*{child}": model
        for parent in ("", "arms.*.")
        for child, model in ((".layers.*", Layer), (".network", NetworkTerm), ("", PythonTerm))
    },
    "arms.*.schedule.linear": LinearSchedule,
    "arms.*.schedule.piecewise": PiecewiseSchedule,
    "arms.*.schedule.earned": EarnedSchedule,
    **{f"arms.*.{path}": model for path, model in TRAINING_MODELS.items()},
    "arms.*": Arm,
    "sweep.grid": GridSweep,
    "sweep.random": RandomSweep,
    **dict.fromkeys(["sweep.tpe", "sweep.nsga2", "sweep.cmaes"], SearchSweep),
    **{f"sweep.{m}.weights.*": Range for m in ("random", "tpe", "nsga2", "cmaes")},
}

# Type of a pydantic error, or how it starts -> expected value, with names of its context.
EXPECTED_VALUES = {
    **dict.fromkeys(["model_", "dict_type"], "a mapping"),
    **dict.fromkeys(["list_type", "tuple_type"], "a list"),
    "string_type": "text",
    "int_": "an integer",
    "float_": "a number",
    "bool_": "true or false",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}

_LIMITS = {"ge", "gt", "le", "lt"}

NAME_RULES = {
    NAME: "up to 64 letters (a to z, A to Z), digits, _ or -, not starting with -",
    TERM_NAME: NAME_RULE,
}

SHORT_NAME = 4

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Positions:
    """Source positions of key paths: in the study file or on the command line."""

    file: Path
    source: YamlSource
    overridden: dict[KeyPath, str]

    def __call__(
        self, path: KeyPath, *, key: bool, offset: int | None = None
    ) -> tuple[tuple[int, int], str]:
        """Return a sort key and the text of a position; an offset counts within a string."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return (0, 0), self.overridden[path[:length]]
        mark = self.source.mark(path, key=key)
        if offset is not None:
            mark = self.source.mark_within(path, offset)
        return (mark.line, mark.column), f"{self.file}:{mark.line}:{mark.column}"


def describe_errors(errors: list[ErrorDetails], data: Any, positions: Positions) -> list[str]:
    """Return one message per mistake, in the order of the file."""
    # Every member of a union reports the same value: merge what they expect into one message.
    expected_by_mistake: dict[tuple[KeyPath, str, bool], list[str]] = {}
    offsets: dict[KeyPath, int] = {}
    for error in errors:
        cause, expected = _explain(error, data)
        loc, kind = error["loc"], error["type"]
        if kind.startswith("union_tag"):
            loc = (*loc, error["ctx"]["discriminator"].strip("'"))
        about_key = kind == "extra_forbidden" or loc[-1:] == ("[key]",)
        if inner := error.get("ctx", {}).get("path"):
            loc, about_key = (*loc, *inner), kind != "formula"
        path = _key_path(data, loc)
        expected_by_mistake.setdefault((path, cause, about_key), []).append(expected)
        if kind == "formula":
            offsets[path] = error["ctx"]["offset"]
    messages: list[tuple[tuple[int, int], str]] = []
    for (path, cause, about_key), alternatives in expected_by_mistake.items():
        expected = " or ".join(dict.fromkeys(filter(None, alternatives)))
        text = f"{cause}, expected {expected}" if expected else cause
        name = ".".join(truncate(str(part)) for part in path) or "study"
        sort_key, position = positions(path, key=about_key, offset=offsets.get(path))
        messages.append((sort_key, f"{position}: {name}: {text}"))
    return [message for _, message in sorted(messages, key=lambda item: item[0])]


def _key_path(data: Any, loc: tuple[str | int, ...]) -> KeyPath:
    """Return an error's path without the parts that pydantic adds (union members, [key])."""
    path: list[str | int] = []
    for depth, part in enumerate(loc):
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            path.append(part)
            data = data[part]
        elif depth == len(loc) - 1 and isinstance(data, dict) and part != "[key]":
            path.append(part)  # a missing key
    return tuple(path)


def _explain(error: ErrorDetails, data: Any) -> tuple[str, str]:
    """Return the cause of an error and the expected value, empty if the cause implies it."""
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    message = error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return _explain_unknown_key(error["loc"], data)
    if kind == "union_tag_invalid":
        names = [name.strip("'") for name in context["expected_tags"].split(", ")]
        return f"found {show_value(context['tag'])}", _choices(names, str(context["tag"]))
    if kind == "union_tag_not_found":
        return "missing", ""
    if kind == "missing":
        return "missing" if message == "Field required" else message, ""
    if kind in ("formula", "unknown"):
        known = context["known"]
        expected = _choices(known, str(context["name"]), context.get("shown")) if known else ""
        return truncate(message, 200), expected
    if kind == "literal_error":
        names = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
        return f"found {show_value(value)}", _choices(names, str(value))
    if kind == "string_pattern_mismatch":
        return f"invalid name {show_value(value)}", NAME_RULES[context["pattern"]]
    return _explain_value(error)


def describe_value_error(error: ErrorDetails) -> str:
    """Return the cause of an error that any model may have, and the expected value."""
    cause, expected = _explain_value(error)
    return f"{cause}, expected {expected}" if expected else cause


def _explain_value(error: ErrorDetails) -> tuple[str, str]:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind in ("too_short", "too_long"):
        few, container = kind == "too_short", "mapping" if isinstance(value, dict) else "list"
        size = f"a {container} of {len(value)}" if value else f"an empty {container}"
        limit = pluralize(context["min_length" if few else "max_length"], "value")
        return f"found {size}", f"at {'least' if few else 'most'} {limit}"
    found = f"found {show_value(value)}"
    for start, expected in EXPECTED_VALUES.items():
        if kind.startswith(start):
            given = _LIMITS & context.keys()
            limits = {key: f"{context[key]:,}".removesuffix(".0") for key in given}
            return found, expected.format(**limits)
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("Input should be "):
        return found, message.removeprefix("Input should be ")
    return message, ""


def _explain_unknown_key(loc: tuple[str | int, ...], data: Any) -> tuple[str, str]:
    name, parent = str(loc[-1]), ".".join(map(str, loc[:-1]))
    if parent.endswith("training.hyperparameters"):
        algorithm = _algorithm_at(loc, data)
        if name in MANAGED:
            return f"{name} is set by shaperun; remove it", ""
        fields = LEARNERS[algorithm].hyperparameters.model_fields
        return f"unknown hyperparameter of {algorithm}", _choices(fields, name)
    path, model = next(item for item in MODELS.items() if fnmatchcase(parent, item[0]))
    union, _, kind = path.rpartition(".")
    if union == "sweep" or union.endswith("schedule"):
        others = [other for other in MODELS if other.rpartition(".")[0] == union]
        takers = [o.rpartition(".")[2] for o in others if name in MODELS[o].model_fields]
        if takers:
            return f"not for {kind}, only for {', '.join(takers)}", ""
    known = [field.alias or name for name, field in model.model_fields.items()]
    return "unknown key", _choices(known, name)


def _algorithm_at(loc: tuple[str | int, ...], data: Any) -> str:
    """Return the algorithm of the arm that a path is in, by default the study's."""
    sections = [data.get("training")]
    if loc[0] == "arms":
        sections.insert(0, data["arms"][loc[1]]["training"])
    names = (section.get("algorithm") for section in sections if isinstance(section, dict))
    return str(next(filter(None, names), TrainingConfig.model_fields["algorithm"].default))


def _choices(known: Iterable[str], name: str, shown: str | None = None) -> str:
    """Return the known names, or `shown` in place of them, and the one nearest to a name."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    cutoff = 0.5 if len(name) > SHORT_NAME else 0.75  # SAC is not a misspelled A2C
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    remedy = f"; did you mean {by_lower[close[0]]}?" if close else ""
    one_of = "one of " if len(by_lower) > 1 else ""
    return f"{one_of}{shown or ', '.join(by_lower.values())}{remedy}"


def show_value(value: object) -> str:
    """Return a value as messages show it, at most 70 characters."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, bool | None) else repr(value)
    return truncate(text)
