"""Every file of a results folder, changed at random: errors of one sentence, and nothing else.

`python -m tests.security.test_fuzz SECONDS [SEED]` goes on for longer than the suite can wait.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from shaperun.analysis import comparison
from shaperun.analysis.updates import update_statistics
from shaperun.common.errors import UserError
from shaperun.report import data as report_material
from shaperun.report import page
from shaperun.runs import status
from shaperun.runs.open_study import open_study
from shaperun.runs.plan import Run, plan_runs
from shaperun.runs.run_folder import RunFolder
from shaperun.runs.study_folder import StudyFolder
from shaperun.study.models import Study
from shaperun.training import checkpoint, train
from shaperun.training.sb3_model import load_policy
from tests.conftest import TINY, run_shaperun
from tests.training.test_checkpoint import train_until_killed

CASES = 120
LONGEST = 20.0  # seconds that a single case may take, on a busy machine

TOKENS = [
    *(b"\x00", b"\xff", b"\n", b"\r", b",", b'"', b"'", b"-", b"=", b"[", b"{", b"]", b"}", b":"),
    *(b"nan", b"inf", b"1e999", b"1e308", b"-1", b"9" * 25, b"null", b"true", b'""', b"{}", b"[]"),
    *(b"\\ud800", b"\x1b[31m", b"../", b"/etc/passwd", b"array:0", b"PK\x03\x04", b"=1+1"),
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes: bits, pieces, numbers, tokens."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, size = rng.randrange(len(result) + 1), rng.choice((1, 1, 4, 16, 64, 1024))
        kind = rng.randrange(7)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[at : at + size] = b""
        elif kind == 2:
            result[at:at] = rng.choice(TOKENS)
        elif kind == 3:
            token = rng.choice(TOKENS)
            result[at : at + len(token)] = token
        elif kind == 4:
            result[at:at] = result[at : at + size]
        elif kind == 5:
            result[at : at + size] = rng.randbytes(size)
        else:
            _change_digit(result, rng)
    return bytes(result)


def _change_digit(data: bytearray, rng: random.Random) -> None:
    digits = [place for place, byte in enumerate(data[:20_000]) if chr(byte).isdigit()]
    if digits:
        data[rng.choice(digits)] = rng.choice(b"0123456789.-eE")


class Fuzz:
    """Forges copies of a trained study, and of a run that was killed, and reads them."""

    def __init__(self, trained: Path, scratch: Path, seed: int) -> None:
        self._trained, self._scratch = trained, scratch
        self._rng = random.Random(seed)  # noqa: S311 (no secret)
        self._study, _ = open_study("tiny", trained / "results")
        self._runs = plan_runs(self._study, self._study.arms)
        self._killed_run = self._runs[1]
        with pytest.MonkeyPatch.context() as patch:
            config = self._killed_run.config
            self._killed = train_until_killed(scratch / "killed", config, patch, at=700)
        self.cases = Counter[str]()

    def finished(self) -> None:
        """One file of a finished run, its hashes made right again in two cases of three."""
        folder = StudyFolder(self._scratch / "tiny")
        shutil.copytree(self._trained / "results" / "tiny", folder.path)
        run = self._rng.choice(self._runs)
        forged = folder.run(run.arm, run.seed)
        name = self._change(forged.path, [*FINISHED, "study.yaml"])
        if name not in ("DONE.json", "study.yaml") and self._rng.random() < 0.67:
            forged.finish()
        self._timed(name, lambda: self._read(folder, run))
        shutil.rmtree(folder.path)

    def unfinished(self, *, go_on: bool) -> None:
        """One file of a run that was killed; a changed checkpoint has the right checksum."""
        run, folder = self._killed_run, StudyFolder(self._scratch / "tiny")
        forged = folder.run(run.arm, run.seed)
        shutil.copytree(self._killed.path, forged.path)
        name = self._change(forged.path, UNFINISHED)
        if name.endswith(".bin") and self._rng.random() < 0.8:
            archive = (forged.path / name).read_bytes()[32:]
            for path in forged.checkpoints:
                path.write_bytes(_signed(archive))
        self._timed(name, lambda: self._read(folder, run))
        if go_on:
            self._timed(f"{name}, trained", lambda: _train(forged, run))
        shutil.rmtree(folder.path)

    def _change(self, path: Path, names: list[str]) -> str:
        name = self._rng.choice(names)
        file = path.parents[2] / name if name == "study.yaml" else path / name
        file.write_bytes(mutated(file.read_bytes(), self._rng))
        return name

    def _timed(self, name: str, read: Callable[[], None]) -> None:
        began = time.monotonic()
        read()
        assert time.monotonic() - began < LONGEST, name
        self.cases[name] += 1

    def _read(self, folder: StudyFolder, run: Run) -> None:
        with suppress(UserError):
            open_study("tiny", folder.path.parent)
        with suppress(UserError):
            for one in self._runs:
                status.read_run_status(folder, one)
        with suppress(UserError):
            comparison.compare_arms(self._study, folder)
        with suppress(UserError):
            update_statistics(folder, self._runs)
        if folder.run(run.arm, run.seed).policy.exists():
            with suppress(UserError):
                load_policy(run.config, folder.run(run.arm, run.seed))
        checkpoint.load_latest(folder.run(run.arm, run.seed).checkpoints)
        if self._rng.random() < 0.02:
            self._report(folder, self._study)

    def _report(self, folder: StudyFolder, study: Study) -> None:
        with pytest.MonkeyPatch.context() as patch, suppress(UserError):
            patch.setattr(report_material, "_record_gif", lambda *_: None)
            data = report_material.load_report_data(study, folder, print)
            page.render_page(data, static=True).encode()
            self.cases["report"] += 1


FINISHED = [
    *("DONE.json", "run.json", "progress.json", "normalization.json"),
    *("evaluations.csv", "episodes.csv", "updates.csv", "policy.zip"),
]
UNFINISHED = [
    *("run.json", "progress.json", "checkpoint-1.bin", "checkpoint-2.bin"),
    *("evaluations.csv", "episodes.csv", "updates.csv", "log.txt"),
]


def _signed(archive: bytes) -> bytes:
    return hashlib.sha256(archive).digest() + archive


def _train(folder: RunFolder, run: Run) -> None:
    """The run ends, whatever was in its folder."""
    train.train_run(folder, run.config)
    assert folder.read_state() == "done"


def test_any_corruption_is_reported_in_one_sentence(trained: Path, tmp_path: Path) -> None:
    fuzz = Fuzz(trained, tmp_path, seed=1)
    for _ in range(CASES // 2):
        fuzz.finished()
        fuzz.unfinished(go_on=False)
    assert sum(fuzz.cases.values()) >= CASES


def main(seconds: float, seed: int) -> None:
    """Fuzz for so long, and say what was tried."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
        done = run_shaperun("train", "tiny.yaml", cwd=scratch)
        assert done.returncode == 0, done.stderr
        fuzz = Fuzz(scratch, scratch / "scratch", seed)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fuzz.finished()
            fuzz.unfinished(go_on=sum(fuzz.cases.values()) % 10 == 0)
        print(sum(fuzz.cases.values()), dict(fuzz.cases))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
