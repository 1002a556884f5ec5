"""The floors: who may import whom, and which commands wait for which libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "shaperun"

# From the ground up. A file imports only from lower floors, or from files before it in its row.
FLOORS = {
    "ground": "errors wording faults files yaml_source stats importance execute ray_cluster",
    "domain": "terms metrics expression plugins envs describe",
    "study": "algorithms backends network arm sweep_config study study_file sweep corners schema "
    "reward wrapper episodes",
    "foresight": "behaviours ranking distances findings check answers preferences fitted",
    "runs": "store plan opening batch",
    "learning": "checkpoint evaluate parameters stacked_actions stacked_actor stacked_networks "
    "stacked_policy stacked_ppo normalization learner episode_recorder copies envpool_copies "
    "training_envs episodic_envs tensorboard recording trainee alone lockstep monte_carlo "
    "reinforce grpo episodic train replay preference_network",
    "analysis": "recipes payments evaluation_table results cross_reward exploitation term_history "
    "training_record health sample_efficiency summary pooling",
    "search": "halving suggest trials trial_results trial_table search standing",
    "output": "canvas plots training_plots sweep_plots search_plots parallel_plots front_plots "
    "sweep_figures exports comparison comparison_files sweep_results gifs video record_gif "
    "terminal screen tables check_screen check_plots fit_screen film preview questions ask "
    "report_trials report_material report_charts report_search report",
    "roof": "cli __main__ __init__",
}
ORDER = [file for row in FLOORS.values() for file in row.split()]
LEARNERS = {"torch", "stable_baselines3", "sb3_contrib"}
HEAVY = LEARNERS | {"gymnasium", "matplotlib", "polars", "ray"}

FILES = sorted(SOURCE.rglob("*.py"))


def file_of(path: Path) -> str:
    """Its name in the table; the environments are one entry."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


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


def own(path: Path) -> set[str]:
    """The entries of the table that a file imports."""
    modules = {name.split(".")[1] for name in imports(path) if name.startswith("shaperun.")}
    return {name if name in ORDER else "__init__" for name in modules}


def test_every_file_has_one_place() -> None:
    assert sorted(ORDER) == sorted({file_of(path) for path in FILES})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_go_down(path: Path) -> None:
    below = ORDER[: ORDER.index(file_of(path))]
    assert own(path) <= set(below)


def test_the_table_is_not_empty_talk() -> None:
    """What is looked for is found: some arrows that are known to be there."""
    assert {"terms"} == own(SOURCE / "envs" / "lunar_lander.py")
    assert {"arm", "terms"} <= own(SOURCE / "reward.py")
    assert "batch" in own(SOURCE / "cli.py")  # inside a function
    assert "torch" in set(imports(SOURCE / "learner.py"))


def test_only_the_learning_floor_imports_learners() -> None:
    users = {
        file_of(path) for path in FILES if LEARNERS & {name.split(".")[0] for name in imports(path)}
    }
    assert users
    assert users <= set(FLOORS["learning"].split())


STUDY = """\
study: light
environment: {id: LunarLander-v3}
training: {total_timesteps: 1000}
arms: {default: {}, custom: {mode: potential, weights: {distance: 1}}}
sweep: {method: grid, base: custom, weights: {legs: [0, 1]}}
"""

RUN = f"""
import sys
from shaperun.cli import main
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
def test_what_needs_no_library_waits_for_none(command: str, tmp_path: Path) -> None:
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


def test_what_every_worker_imports_of_the_command_line_is_nothing() -> None:
    script = Path(sys.executable).with_name("shaperun")
    code = f"import sys, runpy; runpy.run_path({str(script)!r}, run_name='__mp_main__')"
    check = "assert not {'typer', 'shaperun.cli'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], check=True)
