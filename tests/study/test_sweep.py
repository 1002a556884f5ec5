"""Sweep sections: potentials and ranges."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shaperun.study.models import parse_study
from tests.helpers.studies import FULL, GRID, changed, refuse


def test_sweep_of_a_potential_needs_state_terms() -> None:
    data = changed(FULL, "arms.custom", {"mode": "potential", "weights": {"legs": 1}})
    with pytest.raises(ValidationError, match="main_engine depends on more than that"):
        parse_study(changed(data, "sweep", GRID | {"weights": {"main_engine": [0, 1]}}))


@pytest.mark.parametrize(
    "range_", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {"low": 1}, {"high": 1}]
)
def test_invalid_range_is_refused(range_: dict[str, Any]) -> None:
    refuse("sweep.weights", {"legs": range_})


def test_range_without_an_end_gives_one_error() -> None:
    message = refuse("sweep.weights", {"legs": {"low": 2, "log": True}})
    assert message.startswith("1 validation error")
