"""A run that is interrupted at every point of its writes, one after the other."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path

from benchmarks.crashes.comparison import count_harm, read_outcome
from benchmarks.crashes.fault_injection import is_refusable
from benchmarks.crashes.fork_server import NEVER, ForkServer, ProcessResult
from benchmarks.crashes.studies import tiny_run
from shaperun.runs.run_folder import RunFolder
from shaperun.training import checkpoint

ERRORS = ("ENOSPC", "EACCES", "EROFS", "EIO")


class EveryWrite:
    """One run, and the points that it reaches, in order.

    With `start`, a fault, the run is resumed after this fault; otherwise it starts from nothing.
    """

    def __init__(self, server: ForkServer, folder: Path, start: str = "") -> None:
        self._server, self._folder, self._config = server, folder, tiny_run()
        uninterrupted = folder / "uninterrupted"
        self._train(uninterrupted, checkpoint_seconds=NEVER)
        self._expected = read_outcome(RunFolder(uninterrupted))
        self._start = folder / "start" if start else None
        if self._start:
            assert self._train(self._start, fault=start).killed
        self.points = self._train(self._new_folder("points"), list_points=True).points

    def kill_at(self, numbers: Sequence[int]) -> Counter[str]:
        """Kill the run at the points of these numbers, from 1; return the counts."""
        return self._interrupt((number, "die") for number in numbers)

    def fail_from(self, numbers: Sequence[int]) -> Counter[str]:
        """Refuse all writes from these points on, if they can be, with another error each time."""
        refusable = [number for number in numbers if is_refusable(self.points[number - 1])]
        return self._interrupt(zip(refusable, cycle(ERRORS)))

    def _interrupt(self, faults: Iterable[tuple[int, str]]) -> Counter[str]:
        counts, saved = Counter[str](), -1
        for number, kind in faults:
            run = RunFolder(self._new_folder(f"{number} {kind}"))
            result = self._train(run.path, fault=f"{kind} {number}")
            assert result.killed if kind == "die" else result.status == 1, (number, result)
            if any(p.startswith("after replace") and "DONE" in p for p in self.points[:number]):
                counts["runs not finished"] += not run.is_done()
            else:  # the number of saved steps must never decrease from point to point
                steps = int(
                    (checkpoint.load_latest(run.checkpoints) or {"timesteps": -1})["timesteps"]
                )
                counts["checkpoints lost"] += steps < saved
                saved = max(saved, steps)
            finished = self._train(run.path).status == 0
            counts.update(count_harm(run, self._expected, finished=finished))
            counts["cases"] += 1
            shutil.rmtree(run.path)
        return counts

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / name
        if self._start:
            shutil.copytree(self._start, folder)
        return folder

    def _train(self, folder: Path, **options: object) -> ProcessResult:
        return self._server.train(folder, self._config, **options)
