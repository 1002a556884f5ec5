from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shaperun.common.errors import UserError
from shaperun.preferences import arm as fitted
from shaperun.preferences.fit import Fit, NetworkFit, fit
from shaperun.study.loader import load_study
from tests.helpers.preferences import simulated
from tests.rewards.test_network_term import of_sizes

ARM: dict[str, Any] = {"mode": "replace", "weights": {"upright": 1.25, "still": -0.5}}
HEAD = """\
# Poles.
study: poles
environment: {id: CartPole-v1}
training: {total_timesteps: 1000}
"""
FILES = {
    "last": f"{HEAD}arms:\n  default: {{}}\n  other: {{mode: add, weights: {{upright: 1}}}}\n",
    "no-newline": f"{HEAD}arms:\n  default: {{}}",
    "followed": f"{HEAD}arms:\n    default: {{}}  # the anchor\n\n# How many.\nseeds: 3\n",
    "deep": f"{HEAD}arms:\n  default: {{}}\n  guided:\n    mode: add\n    weights:\n"
    "      upright: 1\n  # a last word\n\n\nseeds: 2\n",
    "in-front": f"arms:\n  default: {{}}\n{HEAD}",
    "windows": f"{HEAD}arms:\n  default: {{}}\n".replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_arm_is_added_and_nothing_else_changes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(FILES[name].encode())
    before = load_study(path)
    fitted.add_arm_to_file(path, "fitted", ARM)
    after = load_study(path)
    assert list(after.arms) == [*before.arms, "fitted"]
    assert dict(after.arms["fitted"].weights) == ARM["weights"]
    assert after.model_copy(update={"arms": before.arms}) == before
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in FILES[name].splitlines() if line in lines]
    assert kept == FILES[name].splitlines()


@pytest.mark.parametrize(
    "arms", ["arms: {default: {}}\n", "arms: &all\n  default: {}\n  <<: *all\n"]
)
def test_a_file_to_which_no_line_can_be_added_stays(arms: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(HEAD + arms)
    with pytest.raises(UserError, match="by hand"):
        fitted.add_arm_to_file(path, "fitted", ARM)
    assert path.read_text() == HEAD + arms


def test_no_arm_is_replaced_or_called_what_none_can_be(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(FILES["last"])
    with pytest.raises(UserError, match="has an arm other already"):
        fitted.add_arm_to_file(path, "other", ARM)
    with pytest.raises(UserError, match="letters, digits"):
        fitted.add_arm_to_file(path, "../up", ARM)
    assert path.read_text() == FILES["last"]


def test_the_arm_is_that_of_the_fit() -> None:
    found = fit(simulated([2.0, -1.0], 60))
    arm = fitted.fitted_arm(found)
    assert arm["mode"] == "replace"
    for name, weight in found.weights.items():
        assert arm["weights"][name] == pytest.approx(weight, rel=1e-3)
    assert fitted.arm_yaml("mine", arm).startswith("mine:\n")


def test_a_network_stands_in_the_file(tmp_path: Path) -> None:
    found, learned = fit(simulated([2.0, -1.0], 60)), NetworkFit(of_sizes(4, 16, 1), 0.9, 1.0)
    arm = fitted.fitted_arm(found, learned)
    assert arm["weights"] == fitted.fitted_arm(found)["weights"] | {"learned": 1.0}
    assert "bias: [" in fitted.arm_yaml("mine", arm)  # numbers side by side, not a line each
    config = {"mode": "replace", "terms": arm["terms"], "weights": {"upright": 1.0, "learned": 1.0}}
    path = tmp_path / "study.yaml"
    path.write_text(FILES["last"])
    fitted.add_arm_to_file(path, "mine", config)
    assert load_study(path).arms["mine"].terms == {"learned": learned.term}


def test_its_name_is_not_that_of_a_term_that_was_asked_about() -> None:
    found = fit(simulated([2.0, -1.0], 60))
    weights = {"learned": 1.0, "learned_2": 2.0}
    taken = Fit(**vars(found) | {"weights": weights})
    arm = fitted.fitted_arm(taken, NetworkFit(of_sizes(4, 1), 0.9, 1.0))
    assert list(arm["terms"]) == ["learned_3"]
