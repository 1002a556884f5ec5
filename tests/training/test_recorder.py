from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import parse_study
from shaperun.training import checkpoint, recorder
from shaperun.training.recorder import CHECKPOINT_SHARE, MUST_MATCH
from shaperun.training.run import open_run
from tests.conftest import TINY


@pytest.mark.parametrize("cohort_size", [1, 4])
def test_slow_checkpoints_are_written_less_often(
    cohort_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, took = [100.0], 3.0

    def save(*_: object) -> None:
        now[0] += took

    study = parse_study(TINY)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.start(dict.fromkeys(MUST_MATCH, "anything"))
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(recorder, "CHECKPOINT_SECONDS", 10.0)
    monkeypatch.setattr(checkpoint, "save", save)
    config = study.run_config(study.arms["default"], 0)
    with open_run(folder, config, cohort_size=cohort_size) as run:
        run.envs.reset()
        run.recorder.save_checkpoint(0, {})
        # All runs of the process are saved at the same time, which takes as long for each.
        rest = took * cohort_size / CHECKPOINT_SHARE
        for later, due in ((11.0, False), (rest - 1, False), (rest + 1, True)):
            now[0] = 100.0 + took + later
            assert run.recorder.checkpoint_due() == due
