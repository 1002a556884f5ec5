"""Commands besides `train` with PPO, killed at random and repeated; their files are compared."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.crashes import processes
from benchmarks.crashes.comparison import SURVIVORS, is_harmless, read_outcome
from benchmarks.crashes.random_kills import DRIVER_SHARE, run_under_kills
from benchmarks.doc_tables import ROOT
from shaperun.common.files import is_temporary
from shaperun.runs.run_folder import RunFolder

MAX_ROUND_SECONDS = 600.0
WRITTEN_AGAIN = "already has an arm"  # what `fit` says after a kill that came after its last write

STUDY = """
study: killed
environment: {id: CartPole-v1}
training:
  total_timesteps: 2000
  n_envs: 4
  hyperparameters: {n_steps: 50, batch_size: 50, n_epochs: 2}
seeds: 2
evaluation: {every: 500, episodes: 3, final_episodes: 5}
arms:
  default: {}
  guided: {mode: potential, weights: {upright: 1, centred: 1}}
"""
SWEEP = """
sweep:
  method: tpe
  base: guided
  pruning: halving
  weights: {upright: {low: 0, high: 10}, centred: {low: 0.1, high: 10, log: true}}
  samples: 6
  population: 3
  confirm: 1
"""
DQN = STUDY.replace("training:", "training:\n  algorithm: DQN").replace("n_envs: 4", "n_envs: 1")
DQN = DQN.replace("{n_steps: 50, batch_size: 50, n_epochs: 2}", "{learning_starts: 100}")
EXAMPLE, ANSWERS = "critic-or-not-cartpole", "critic-or-not-cartpole-by-environment-return"


@dataclass(frozen=True)
class Command:
    """A command on `study.yaml`, and one that has come to its end before."""

    arguments: tuple[str, ...]
    study: str = STUDY
    earlier: tuple[str, ...] = ()

    @property
    def driver_share(self) -> float:
        """Share of the kills that hit the driver; larger for commands without workers."""
        return DRIVER_SHARE if self.arguments[0] in ("train", "sweep") else 0.5


TRAIN = ("train", "study.yaml", "--quiet")
COMMANDS = {
    "sweep": Command(("sweep", "study.yaml", "--quiet"), STUDY + SWEEP),
    "train, DQN": Command(TRAIN, DQN),
    "report": Command(("report", "study.yaml", "--quiet"), earlier=TRAIN),
    "record-gif": Command(("record-gif", "study.yaml", "--quiet"), earlier=TRAIN),
    "fit --into": Command(
        ("fit", "answers.json", "--into", "study.yaml", "--name", "again"),
        (ROOT / f"experiments/{EXAMPLE}.yaml").read_text(encoding="utf-8"),
    ),
}
COUNTS = ("rounds", "times started", "workers killed", "drivers killed")
EPISODES = ("episodes.csv", "evaluations.csv")
STUDY_HARM = "damaged studies"
HARM = ("without a good end", "files that differ", "files left behind", SURVIVORS, STUDY_HARM)


class KilledCommand:
    """One command that is killed again and again; `undisturbed` is its duration without kills."""

    def __init__(self, folder: Path, command: Command, seed: int) -> None:
        self._folder, self._command = folder, command
        self._rng = np.random.default_rng(seed)
        self._messages = folder / "messages"
        before = folder / "before"
        before.mkdir(parents=True)
        (before / "study.yaml").write_text(command.study, encoding="utf-8")
        shutil.copy(ROOT / f"experiments/answers/{ANSWERS}.json", before / "answers.json")
        if command.earlier:
            self._finish(before, command.earlier)
        undisturbed = self._copy("undisturbed")
        self.undisturbed = self._finish(undisturbed, command.arguments)
        self._expected = read_tree(undisturbed)
        self._studies = {(f / "study.yaml").read_bytes() for f in (before, undisturbed)}

    def play_round(self, number: int) -> Counter[str]:
        """Repeat the command under kills until it ends well; return the counts."""
        folder, counts = self._copy(str(number)), Counter({"rounds": 1})
        began, ended_well = time.monotonic(), False
        while not ended_well and time.monotonic() - began < MAX_ROUND_SECONDS:
            counts["times started"] += 1
            start = partial(self._start, folder, self._command.arguments)
            share = self._command.driver_share
            status = run_under_kills(start, self.undisturbed, self._rng, counts, share)
            ended_well = not status or WRITTEN_AGAIN in self._messages.read_text(encoding="utf-8")
            counts[STUDY_HARM] += (folder / "study.yaml").read_bytes() not in self._studies
        counts[HARM[0]] += not ended_well
        counts.update(compare_trees(self._expected, read_tree(folder)))
        if is_harmless(counts):
            shutil.rmtree(folder)
        return counts

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self._folder / "before", self._folder / name))

    def _start(self, folder: Path, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with self._messages.open("wb") as file:
            return processes.start_command(folder, *arguments, output=file)

    def _finish(self, folder: Path, arguments: tuple[str, ...]) -> float:
        """Run a command to its end, and return its seconds."""
        began = time.monotonic()
        if status := self._start(folder, arguments).wait():
            said = self._messages.read_text(encoding="utf-8")
            raise RuntimeError(f"{arguments} exited with status {status}: {said}")
        return time.monotonic() - began


def read_tree(folder: Path) -> Mapping[str, bytes]:
    """Return the files of a folder by path; of runs, their outcome in place of their files.

    A run that was pruned has its episodes only: its checkpoints hold durations, and if it was
    killed after its last evaluation, the statistics of the update before are not recorded.
    """
    runs = [path.parent for path in folder.rglob("run.json")]
    tree = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and (path.parent not in runs or path.name in EPISODES or is_temporary(path))
    }
    for run in map(RunFolder, runs):
        outcome = read_outcome(run) if run.is_done() else {}
        tree |= {f"{run.path.relative_to(folder)}/{name}": data for name, data in outcome.items()}
    return tree


def compare_trees(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> Counter[str]:
    """Return the numbers of files that differ or lack, and of temporary files left behind."""
    names = expected.keys() | found.keys()
    left = {name for name in names if is_temporary(Path(name))}
    differing = sum(found.get(name) != expected.get(name) for name in names - left)
    return Counter({"files that differ": differing, "files left behind": len(left)})
