"""Turn validation errors into messages with place, cause and remedy."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from shaperun.common.validation import NAME
from shaperun.common.yaml import YamlSource
from shaperun.rewards.config import TERM_NAME, PythonTerm
from shaperun.rewards.network_term import Layer, NetworkTerm
from shaperun.rewards.schedule import LinearSchedule, PiecewiseSchedule
from shaperun.study.environment import EnvironmentConfig
from shaperun.study.hyperparameters import MANAGED, Networks, PolicyKwargs
from shaperun.study.learners import LEARNERS
from shaperun.study.models import Arm, Study
from shaperun.study.sweep import GridSweep, RandomSweep, Range, SearchSweep
from shaperun.study.training import EvaluationConfig, NormalizeConfig, TrainingConfig

TRAINING_MODELS: dict[str, type[BaseModel]] = {
    "training": TrainingConfig,
    "training.normalize": NormalizeConfig,
    "training.hyperparameters.policy_kwargs": PolicyKwargs,
    "training.hyperparameters.policy_kwargs.net_arch.networks": Networks,
}

# Which model's fields are the keys at a place, for the suggestions; `*` stands for a name.
MODELS: dict[str, type[BaseModel]] = {
    "": Study,
    "environment": EnvironmentConfig,
    **TRAINING_MODELS,
    "evaluation": EvaluationConfig,
    **{
        f"{place}terms.*{within}": model
        for place in ("", "arms.*.")
        for within, model in ((".layers.*", Layer), (".network", NetworkTerm), ("", PythonTerm))
    },
    "arms.*.schedule.linear": LinearSchedule,
    "arms.*.schedule.piecewise": PiecewiseSchedule,
    **{f"arms.*.{place}": model for place, model in TRAINING_MODELS.items()},
    "arms.*": Arm,
    "sweep.grid": GridSweep,
    "sweep.random": RandomSweep,
    **dict.fromkeys(["sweep.tpe", "sweep.nsga2", "sweep.cmaes"], SearchSweep),
    **{f"sweep.{m}.weights.*": Range for m in ("random", "tpe", "nsga2", "cmaes")},
}

# Error -> what was expected instead.
EXPECTED = {
    **dict.fromkeys(["model_type", "dict_type", "model_attributes_type"], "a mapping"),
    "string_type": "text",
}

# Pattern -> what it takes, in words.
NAMES = {
    NAME: "letters, digits, _ and -, at most 64 of them and no - in front",
    TERM_NAME: "small letters, digits and _, at most 40 of them and a letter in front",
}

KeyPath = tuple[str | int, ...]


class Positions:
    """Where a path stands: in the file, or on the command line."""

    def __init__(self, file: Path, source: YamlSource, overridden: dict[KeyPath, str]) -> None:
        self._file, self._source, self._overridden = file, source, overridden

    def __call__(
        self, path: KeyPath, *, key: bool, offset: int | None = None
    ) -> tuple[tuple[int, int], str]:
        """Something to sort by, and the place in words; an offset counts within a string."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._overridden:
                return (0, 0), self._overridden[path[:length]]
        mark = self._source.mark(path, key=key)
        if offset is not None:
            mark = self._source.mark_within(path, offset)
        return (mark.line, mark.column), f"{self._file}:{mark.line}:{mark.column}"


def describe_errors(errors: list[ErrorDetails], data: Any, places: Positions) -> list[str]:
    # The members of a union each complain about the same value: say once what all would take.
    found: dict[tuple[KeyPath, str, bool], list[str]] = {}
    offsets: dict[KeyPath, int] = {}
    for error in errors:
        what, expected = _explain(error, data)
        loc, kind = error["loc"], error["type"]
        if kind.startswith("union_tag"):
            loc = (*loc, error["ctx"]["discriminator"].strip("'"))
        about_key = kind == "extra_forbidden" or loc[-1:] == ("[key]",)
        path = _key_path(data, loc)
        found.setdefault((path, what, about_key), []).append(expected)
        if kind == "formula":
            offsets[path] = error["ctx"]["offset"]
    lines: list[tuple[tuple[int, int], str, str]] = []
    for (path, what, about_key), remedies in found.items():
        remedy = " or ".join(dict.fromkeys(filter(None, remedies)))
        text = f"{what}, expected {remedy}" if remedy else what
        name = ".".join(_short(str(part)) for part in path) or "study"
        place = places(path, key=about_key, offset=offsets.get(path))
        lines.append((*place, f"{name}: {text}"))
    return [f"{place}: {text}" for _, place, text in sorted(lines, key=lambda line: line[0])]


def _key_path(data: Any, loc: tuple[str | int, ...]) -> KeyPath:
    """The error's path without the words that only pydantic puts there (union members, [key])."""
    path: list[str | int] = []
    for depth, part in enumerate(loc):
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            path.append(part)
            data = data[part]
        elif depth == len(loc) - 1 and isinstance(data, dict) and part != "[key]":
            path.append(part)  # a key that is missing
    return tuple(path)


def _explain(error: ErrorDetails, data: Any) -> tuple[str, str]:
    """What is wrong, and what was expected instead."""
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    message = error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"], data)
    if kind == "union_tag_invalid":
        names = [name.strip("'") for name in context["expected_tags"].split(", ")]
        return f"found {show_value(context['tag'])}", _choices(names, str(context["tag"]))
    if kind == "union_tag_not_found":
        return "missing", ""
    if kind in EXPECTED:
        return f"found {show_value(value)}", EXPECTED[kind]
    if kind == "missing":
        return error["msg"] if "mode" in error["msg"] else "missing", ""
    if kind in ("formula", "unknown"):
        return _short(message, 200), _alternatives(context)
    if kind == "literal_error":
        names = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
        return f"found {show_value(value)}", _choices(names, str(value))
    if kind == "string_pattern_mismatch":
        rule = NAMES[context["pattern"]]
        return f"the name {show_value(value)} is not allowed", rule
    if message.startswith("Input should be "):
        return f"found {show_value(value)}", message.removeprefix("Input should be ")
    return message, ""


def _alternatives(context: dict[str, Any]) -> str:
    if not context["known"]:
        return ""
    return _choices(context["known"], str(context["name"]), context.get("shown"))


def _unknown_key(loc: tuple[str | int, ...], data: Any) -> tuple[str, str]:
    name, parent = str(loc[-1]), ".".join(map(str, loc[:-1]))
    if parent.endswith("training.hyperparameters"):
        algorithm = _algorithm(data, loc)
        if name in MANAGED:
            return f"{name} is set by shaperun itself, leave it out", ""
        fields = LEARNERS[algorithm].hyperparameters.model_fields
        return f"unknown key, {algorithm} takes no such hyperparameter", _choices(fields, name)
    model = next(model for place, model in MODELS.items() if fnmatchcase(parent, place))
    known = [field.alias or name for name, field in model.model_fields.items()]
    return "unknown key", _choices(known, name)


def _algorithm(data: Any, loc: tuple[str | int, ...]) -> str:
    """Whose hyperparameter a key would be: the arm's own learner, or the study's."""
    recipes = [data.get("training")]
    if loc[0] == "arms":
        recipes.insert(0, data["arms"][loc[1]]["training"])
    named = (recipe.get("algorithm") for recipe in recipes if isinstance(recipe, dict))
    return next(
        (str(name) for name in named if name), TrainingConfig.model_fields["algorithm"].default
    )


def _choices(known: Iterable[str], name: str, shown: str | None = None) -> str:
    """What there is, or its description where that is too much, and the nearest to the name."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    remedy = f"; did you mean {by_lower[close[0]]}?" if close else ""
    one_of = "one of " if len(by_lower) > 1 else ""
    return f"{one_of}{shown or ', '.join(by_lower.values())}{remedy}"


def show_value(value: object) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, bool | None) else repr(value)
    return _short(text)


def _short(text: str, most: int = 70) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}…"
