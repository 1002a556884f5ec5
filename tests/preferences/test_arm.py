from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shaperun.common.errors import UserError
from shaperun.common.yaml import read_yaml
from shaperun.preferences import arm as fitted
from shaperun.preferences.fit import Fit, NetworkFit, fit_answers
from shaperun.study.loader import load_study
from tests.helpers.preferences import simulate_answers
from tests.rewards.test_network_term import random_network

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
def test_adding_an_arm_changes_nothing_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(FILES[name].encode())
    before = load_study(path)
    fitted.add_arm_to_file(path, "fitted", ARM)
    after = load_study(path)
    assert list(after.arms) == [*before.arms, "fitted"]
    assert dict(after.arms["fitted"].weights) == ARM["weights"]
    assert after.model_copy(update={"arms": before.arms}) == before
    lines = path.read_text(encoding="utf-8").splitlines()
    remaining = [line for line in FILES[name].splitlines() if line in lines]
    assert remaining == FILES[name].splitlines()


@pytest.mark.parametrize(
    "arms", ["arms: {default: {}}\n", "arms: &all\n  default: {}\n  <<: *all\n"]
)
def test_an_unsupported_layout_is_left_unchanged(arms: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(HEAD + arms)
    with pytest.raises(UserError, match="by hand"):
        fitted.add_arm_to_file(path, "fitted", ARM)
    assert path.read_text() == HEAD + arms


def test_existing_and_invalid_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(FILES["last"])
    with pytest.raises(UserError, match="already has an arm other"):
        fitted.add_arm_to_file(path, "other", ARM)
    with pytest.raises(UserError, match=r"letters \(a to z, A to Z\), digits"):
        fitted.add_arm_to_file(path, "../up", ARM)
    assert path.read_text() == FILES["last"]


def test_the_arm_has_the_fitted_weights() -> None:
    result = fit_answers(simulate_answers([2.0, -1.0], 60))
    arm = fitted.build_arm(result)
    assert arm["mode"] == "replace"
    for name, weight in result.weights.items():
        assert arm["weights"][name] == pytest.approx(weight, rel=1e-3)
    assert fitted.format_arm("mine", arm).startswith("mine:\n")


def test_a_network_becomes_a_term(tmp_path: Path) -> None:
    result, learned = (
        fit_answers(simulate_answers([2.0, -1.0], 60)),
        NetworkFit(random_network(4, 16, 1), 0.9, 0.01, 1.0),
    )
    arm = fitted.build_arm(result, learned)
    assert arm["weights"] == fitted.build_arm(result)["weights"] | {"learned": 1.0}
    assert "bias: [" in fitted.format_arm("mine", arm)  # one line for all numbers
    config = {"mode": "replace", "terms": arm["terms"], "weights": {"upright": 1.0, "learned": 1.0}}
    path = tmp_path / "study.yaml"
    path.write_text(FILES["last"])
    fitted.add_arm_to_file(path, "mine", config)
    assert load_study(path).arms["mine"].terms == {"learned": learned.term}


def test_the_networks_name_is_unique() -> None:
    result = fit_answers(simulate_answers([2.0, -1.0], 60))
    weights = {"learned": 1.0, "learned_2": 2.0}
    named = Fit(**vars(result) | {"weights": weights})
    arm = fitted.build_arm(named, NetworkFit(random_network(4, 1), 0.9, 0.01, 1.0))
    assert list(arm["terms"]) == ["learned_3"]


def test_file_keeps_its_link_its_encoding_and_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "study.yaml", tmp_path / "link.yaml"
    text = FILES["last"]
    real.write_bytes(text.encode("utf-16"))
    real.chmod(0o640)
    link.symlink_to(real)
    backups = [fitted.add_arm_to_file(link, name, ARM) for name in ("one", "two")]
    assert [backup.name for backup in backups] == ["study.yaml.bak", "study.yaml.bak2"]
    assert backups[0].read_bytes() == text.encode("utf-16")
    assert link.is_symlink()
    assert {path.stat().st_mode & 0o777 for path in (real, *backups)} == {0o640}
    new = real.read_bytes().decode("utf-16")
    assert new.startswith(text.rstrip())
    assert read_yaml(real.read_bytes()).data["arms"].keys() >= {"one", "two"}


def test_a_copy_that_a_killed_command_has_kept_is_the_copy(tmp_path: Path) -> None:
    path, copy = tmp_path / "study.yaml", tmp_path / "study.yaml.bak"
    path.write_text(FILES["last"])
    copy.write_text(FILES["last"])
    assert fitted.add_arm_to_file(path, "fitted", ARM) == copy
    assert copy.read_text() == FILES["last"]
    assert sorted(tmp_path.iterdir()) == [path, copy]
