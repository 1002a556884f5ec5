"""Import order of the packages, and which commands load which libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "shaperun"

# A package imports only from packages before it in this list.
ORDER = [
    "common",
    "stats",
    "envs",
    "rewards",
    "study",
    "runs",
    "training",
    "analysis",
    "check",
    "search",
    "preferences",
    "report",
    "cli",
]
LEARNERS = {"torch", "stable_baselines3", "sb3_contrib"}
HEAVY = LEARNERS | {"gymnasium", "matplotlib", "polars", "ray"}

FILES = sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    """Name of the package below shaperun; empty for the top level's own files."""
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, those inside functions included, by its full name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in only_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: imports are written out"
            if node.module == "shaperun":
                yield from (f"shaperun.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def packages(path: Path) -> set[str]:
    """The other packages of shaperun that a file imports."""
    found = {name.split(".")[1] for name in imports(path) if name.startswith("shaperun.")}
    return found & set(ORDER) - {package_of(path)}


def test_every_package_has_its_place() -> None:
    assert sorted(ORDER) == sorted({package_of(path) for path in FILES} - {""})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    package = package_of(path)
    before = ORDER[: ORDER.index(package)] if package else ORDER
    assert packages(path) <= set(before)


def test_imports_are_found() -> None:
    assert packages(SOURCE / "rewards" / "kernel.py") == {"common", "envs"}
    assert "runs" in packages(SOURCE / "cli" / "train.py")  # inside a function
    assert "torch" in set(imports(SOURCE / "training" / "sb3_model.py"))


def test_only_training_imports_learners() -> None:
    users = {path for path in FILES if LEARNERS & {name.split(".")[0] for name in imports(path)}}
    assert users
    assert {package_of(path) for path in users} == {"training", "preferences"}
    assert [path.name for path in users if package_of(path) == "preferences"] == ["network.py"]


# From namedtuple, gymnasium's BipedalWalker and os. Subclasses may use protected methods of `self`.
PRIVATE_MEMBERS = {"_replace", "_destroy", "_exit"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_only_the_adapter_touches_private_members_of_stable_baselines3(path: Path) -> None:
    private = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and ast.unparse(node.value) not in ("self", "cls")
    }
    if path.name == "sb3_model.py":
        assert "_last_obs" in private
    else:
        assert private <= PRIVATE_MEMBERS


STUDY = """\
study: light
environment: {id: LunarLander-v3}
training: {total_timesteps: 1000}
arms: {default: {}, custom: {mode: potential, weights: {distance: 1}}}
sweep: {method: grid, base: custom, weights: {legs: [0, 1]}}
"""

RUN = f"""
import sys
from shaperun.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = {HEAVY!r} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "train --help",
        "train study.yaml --dry-run",
        "sweep study.yaml --dry-run",
        "status study.yaml",
        "status study.yaml --json",
        "status",
        "terms",
        "schema",
        "init new.yaml",
    ],
)
def test_light_commands_load_no_heavy_library(command: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    trained = tmp_path / "results" / "light"
    trained.mkdir(parents=True)
    (trained / "study.yaml").write_text(STUDY)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_importing_the_package_is_cheap() -> None:
    code = f"import sys, shaperun; assert not {HEAVY | {'numpy', 'pydantic'}!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_workers_import_nothing_of_the_command_line() -> None:
    script = Path(sys.executable).with_name("shaperun")
    code = f"import sys, runpy; runpy.run_path({str(script)!r}, run_name='__mp_main__')"
    check = "assert not {'typer', 'shaperun.cli.app'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True)
