from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import parse_study
from shaperun.training import checkpoint, recorder
from shaperun.training.recorder import KEEP_SHARE, SAME
from shaperun.training.run import begin
from tests.conftest import TINY


@pytest.mark.parametrize("together", [1, 4])
def test_checkpoints_that_take_long_are_made_less_often(
    together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, took = [100.0], 3.0

    def save(*_: object) -> None:
        now[0] += took

    study = parse_study(TINY)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.begin(dict.fromkeys(SAME, "anything"))
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(recorder, "KEEP_SECONDS", 10.0)
    monkeypatch.setattr(checkpoint, "save", save)
    config = study.run_config(study.arms["default"], 0)
    trainee = begin(folder, config, None, together=together)
    trainee.envs.reset()
    trainee.recording.keep(0, {})
    # All runs of the process are kept at the same time, each for as long as this one.
    rest = took * together / KEEP_SHARE
    for later, due in ((11.0, False), (rest - 1, False), (rest + 1, True)):
        now[0] = 100.0 + took + later
        assert trainee.recording.keep_is_due() == due
    trainee.close()
