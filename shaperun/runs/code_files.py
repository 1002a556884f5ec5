"""Code and data that runs name beside their configuration, and versions of it that differ."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shaperun.common.text import pluralize
from shaperun.envs.declared import installed_environments
from shaperun.rewards.config import PythonTerm
from shaperun.rewards.python_term import installed_terms
from shaperun.runs.plan import Run
from shaperun.runs.run_folder import MAX_FILE_BYTES, RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import RunConfig

_FILE = "file "  # before the names of files that are no modules
_MAX_PATH = 1000  # characters
_SHOWN = 3  # runs that a sentence names


def hash_code(config: RunConfig) -> dict[str, str]:
    """Return the SHA-256 of the files that a run names, by module or path.

    They are the modules of its environment, wrappers and Python terms, and files that options and
    arguments of wrappers name. What modules import is not followed, and nothing is imported.
    """
    hashes = ((name, _hash(path)) for name, path in _find_files(config) if path)
    return {name: digest for name, digest in hashes if digest}


def changed_code(folder: RunFolder, config: RunConfig) -> list[str]:
    """Return the files of which a run was trained with other versions than the present ones."""
    recorded, present = folder.read_record()["code"], hash_code(config)
    return [_show(n) for n, digest in present.items() if recorded.get(n, digest) != digest]


def code_notes(folder: StudyFolder, runs: Iterable[Run]) -> list[str]:
    """Return a sentence on each file of which runs were trained with other versions.

    Other than the present one or, if that is not known, the most frequent one.
    """
    return describe_versions((r.arm, folder.run(r.arm, r.seed), r.config) for r in runs)


def describe_versions(runs: Iterable[tuple[str, RunFolder, RunConfig]]) -> list[str]:
    """Return the sentences of `code_notes` on runs, given with their arms."""
    trained: dict[str, dict[str, str]] = {}  # file -> run -> hash
    present: dict[str, str] = {}
    for arm, folder, config in runs:
        names = [name for name, _ in _find_files(config)]
        recorded = folder.read_record()["code"] if names else {}
        present |= hash_code(config) if names else {}
        for name in names:
            if name in recorded:
                trained.setdefault(name, {})[f"{arm}/{config.seed}"] = recorded[name]
    return [note for name, by_run in trained.items() for note in _note(name, by_run, present)]


def _note(name: str, by_run: dict[str, str], present: dict[str, str]) -> Iterator[str]:
    reference = present.get(name) or Counter(by_run.values()).most_common(1)[0][0]
    others = [run for run, digest in by_run.items() if digest != reference]
    if not others:
        return
    shown = ", ".join(others[:_SHOWN])
    if len(others) > _SHOWN:
        shown = f"{pluralize(len(others), 'run')} ({shown}, …)"
    than = "the present one" if name in present else "the other runs"
    text = f"{shown} {'was' if len(others) == 1 else 'were'} trained with another version of "
    mixed = len(set(by_run.values())) > 1
    why = "; differences between runs may come from that" if mixed else ""
    yield f"{text}{_show(name)} than {than}{why}."


def _show(name: str) -> str:
    """Return a file as sentences name it."""
    is_file = name.startswith(_FILE)
    return name.removeprefix(_FILE) if is_file else f"{name.replace('.', '/')}.py"


def _find_files(config: RunConfig) -> Iterator[tuple[str, Path | None]]:
    """Yield the name of each module and file that a run names, and where it is, if it is there."""
    wrappers: list[Any] = [
        {w: {}} if isinstance(w, str) else w for w in config.environment.wrappers
    ]
    terms = [t.python for t in config.reward.terms.values() if isinstance(t, PythonTerm)]
    points = {**installed_terms(), **installed_environments()}
    named = [config.environment.id, *(name for w in wrappers for name in w), *terms]
    modules = {points[n].module if n in points else n.rpartition(":")[0] for n in named}
    for module in sorted(modules - {""}):
        yield module, _find_module(module)
    values = [config.environment.options, config.evaluation.options, wrappers]
    for text in sorted(set(_iter_texts(values))):
        path = _find_file(text)
        if path:
            yield f"{_FILE}{text}", path


def _find_module(name: str) -> Path | None:
    """Return the file of a module, without importing the packages that it is in."""
    top, *parts = name.split(".")
    try:
        spec: ModuleSpec | None = find_spec(top)
        for part in parts:
            inside = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", inside) if spec and inside else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def _find_file(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if len(text) <= _MAX_PATH and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # such a path cannot be
        return None


def _iter_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _iter_texts(part)


def _hash(path: Path) -> str | None:
    try:
        found = path.stat()
        return None if found.st_size > MAX_FILE_BYTES else _hash_once(path, found.st_mtime_ns)
    except OSError:
        return None


@cache
def _hash_once(path: Path, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
