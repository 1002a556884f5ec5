"""Every figure has the style of the project."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest

from shaperun.report import plots

MODULES = [module.name for module in pkgutil.iter_modules(plots.__path__)]
FIGURES: list[Callable[..., Any]] = [
    function
    for name in MODULES
    for key, function in vars(importlib.import_module(f"shaperun.report.plots.{name}")).items()
    if key.startswith("plot_")
]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda function: function.__name__)
def test_figures_are_styled(figure: Callable[..., Any]) -> None:
    # The decorator wraps functions; without it, a user's matplotlibrc changes the figure.
    assert hasattr(figure, "__wrapped__")
