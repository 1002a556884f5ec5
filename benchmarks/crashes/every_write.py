"""Ends a run at every passing of a point where it writes, and has it go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.crashes.comparison import differences, leftovers, outcome
from benchmarks.crashes.fork_server import NEVER, Ended, Nursery
from benchmarks.crashes.studies import tiny
from shaperun.runs.run_folder import RunFolder
from shaperun.training import checkpoint

ERRORS = ("ENOSPC", "EACCES", "EROFS", "EIO")


@dataclass
class Counts:
    """How often a run was ended, and what came of it."""

    cases: int = 0
    differing: int = 0
    unfinished: int = 0
    leftovers: int = 0
    lost_checkpoints: int = 0

    def add(self, other: Counts) -> None:
        """Count others in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def row(self) -> list[int]:
        """How often, and the four kinds of harm."""
        return list(vars(self).values())

    @property
    def harmless(self) -> bool:
        """Whether nothing came of it, however often."""
        return not any(self.row[1:])


class Passings:
    """One run that is ended at every passing, each time in a folder of its own."""

    def __init__(self, nursery: Nursery, folder: Path, start: str = "") -> None:
        """`start` is the fault that the run has suffered before; then it goes on from there."""
        self._nursery, self._folder, self._run = nursery, folder, tiny()
        whole = folder / "whole"
        self._train(whole, keep_seconds=NEVER)
        self.expected = outcome(RunFolder(whole))
        self._start = folder / "start" if start else None
        if self._start:
            assert self._train(self._start, fault=start).killed
        self.points = self._train(self._begin("listed"), listing=True).passed

    def kills(self, numbers: Sequence[int]) -> Counts:
        """Kill at these passings, counted from 1."""
        return self._count((number, "die") for number in numbers)

    def errors(self, numbers: Sequence[int]) -> Counts:
        """Let the system refuse everything from these passings on, for one reason or another."""
        return self._count(zip(numbers, cycle(ERRORS)))

    def _count(self, faults: Iterator[tuple[int, str]]) -> Counts:
        counts, kept = Counts(), -1
        for number, kind in faults:
            folder = RunFolder(self._begin(f"{number} {kind}"))
            ended = self._train(folder.path, fault=f"{kind} {number}")
            assert ended.killed if kind == "die" else ended.status == 1, (number, ended)
            counts.cases += 1
            kept = self._kept(folder, number, counts, kept)
            counts.unfinished += self._train(folder.path).status != 0
            counts.differing += len(differences(folder, self.expected))
            counts.leftovers += len(leftovers(folder))
            shutil.rmtree(folder.path)
        return counts

    def _kept(self, folder: RunFolder, number: int, counts: Counts, before: int) -> int:
        """Steps in the last checkpoint, which never are fewer than after an earlier passing."""
        if any(p.startswith("replaced") and "DONE" in p for p in self.points[:number]):
            counts.unfinished += not folder.is_done()
            return before
        kept = int((checkpoint.latest(folder.checkpoints) or {"timesteps": -1})["timesteps"])
        counts.lost_checkpoints += kept < before
        return max(kept, before)

    def _begin(self, name: str) -> Path:
        folder = self._folder / name
        if self._start:
            shutil.copytree(self._start, folder)
        return folder

    def _train(self, folder: Path, **wishes: object) -> Ended:
        return self._nursery.train(folder, self._run, **wishes)
