"""No code in a formula is executed, and compiled ones reach nothing but numpy."""

from __future__ import annotations

import builtins
import contextlib
import importlib
from pathlib import Path

import numpy as np
import pytest

from shaperun.rewards.compiled import build_function
from shaperun.rewards.compiler import compile_formula
from shaperun.rewards.differences import find_difference
from shaperun.rewards.formula import ExpressionError
from shaperun.rewards.syntax import NAMESPACE
from tests.helpers.formulas import environment, error_of

# Formulas that would have a side effect if Python executed them.
TOUCH = "__import__('pathlib').Path('sentinel').touch()"
DISGUISES = [
    TOUCH,
    f"  \n {TOUCH}",
    f"1 and {TOUCH}",
    f"0 if True and {TOUCH} else 1",
    f"(lambda: {TOUCH})()",
    f"(lambda z={TOUCH}: z)",
    f"[{TOUCH} for z in (1,)]",
    f"sum({TOUCH} or 1 for z in (1,))",
    f'f"{{{TOUCH}}}"',
    f"(z := {TOUCH})",
    f"{{1: {TOUCH}}}",
    f"obs[{TOUCH} or 0]",
    f"obs[0:{TOUCH} or 1]",
    f"abs(*[{TOUCH} or 1])",
    f"sum(obs, **{{'start': {TOUCH} or 0}})",
    f"sum(obs, start={TOUCH} or 0)",
    f"1 < 2 < ({TOUCH} or 3)",
    f"x + ({TOUCH} or 1)",
    f"-({TOUCH} or 1)",
    f"2 ** ({TOUCH} or 1)",
    f"1 / ({TOUCH} or 1)",
    f"eval({TOUCH!r})",
    f"exec({TOUCH!r})",
    f"eval(compile({TOUCH!r}, '', 'eval'))",
    "open('sentinel', 'w')",
    "ｏｐｅｎ('sentinel', 'w')",
    "abs.__self__.open('sentinel', 'w')",
    "getattr(abs.__self__, 'op' + 'en')('sentinel', 'w')",
    "__builtins__['open']('sentinel', 'w')",
    "().__class__.__base__.__subclasses__() and open('sentinel', 'w')",
    "'{0.__class__}'.format(open('sentinel', 'w'))",
    "x.tofile('sentinel')",
    "(x + 1).tofile('sentinel')",
    "obs.dump('sentinel')",
    "np.ndarray.tofile(obs, 'sentinel')",
]


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("text", DISGUISES)
def test_formula_is_not_executed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error_of(text)
    with contextlib.suppress(ExpressionError):
        find_difference(text)
    assert not Path("sentinel").exists()
    scope = {"__builtins__": vars(builtins), "np": np, "x": np.ones(1), "obs": np.ones(1)}
    with contextlib.suppress(Exception):
        eval(text.strip(), scope)  # noqa: S307 (text of this test, in a temporary folder)
    assert Path("sentinel").exists()  # the formula does have a side effect


def test_namespace_has_only_numpy_functions() -> None:
    assert NAMESPACE["__builtins__"] == {}
    for name, function in NAMESPACE.items():
        if name != "__builtins__":
            module = "numpy.linalg" if name == "norm" else "numpy"
            assert function is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("text", ["x + 1", "x - last_x", "3"])
def test_compiled_formula_has_no_other_globals(text: str) -> None:
    evaluate = build_function(compile_formula(environment(), text).result)
    assert evaluate.__globals__ == NAMESPACE
    assert evaluate.__globals__ is not NAMESPACE
    assert evaluate.__closure__ is None
