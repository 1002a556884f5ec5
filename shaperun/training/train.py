"""The whole life of one cohort of runs: what it goes on from, its training, its end."""

from __future__ import annotations

import hashlib
import importlib
import math
import platform
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first optimiser would, in every worker anew: a second each

from shaperun.common.errors import UserError
from shaperun.common.files import Lease, advice
from shaperun.rewards.config import PythonTerm
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import RunConfig
from shaperun.training import checkpoint, run, sb3_model
from shaperun.training.checkpoint import DamagedError, Memory
from shaperun.training.engines import episodic, lockstep, sb3
from shaperun.training.recorder import SAME
from shaperun.training.run import Trainee
from shaperun.training.vector_env import NotTheSameError

PACKAGES = ("shaperun", "gymnasium", "stable-baselines3", "sb3-contrib", "torch", "numpy")

ENGINES = {"sb3": sb3.train, "lockstep": lockstep.train, "episodic": episodic.train}

Runs = dict[RunFolder, RunConfig]


def train_cohort(
    members: list[tuple[str, str]], tensorboard: bool = False, until: int | None = None
) -> None:
    """Train runs, each given as its folder and its configuration in JSON: what a worker calls.

    Those that another process trains are left to it. Why a run of several failed is written into
    its folder; that of one is raised.

    Raises:
        UserError: the disk is full, or a folder cannot be written.
    """
    runs = {
        RunFolder(Path(path)): RunConfig.model_validate_json(config) for path, config in members
    }
    try:
        failures = train_runs(runs, tensorboard=tensorboard, until=until)
    except OSError as trouble:  # when a lease was given back
        failures = {next(iter(runs)): trouble}
    for folder, error in failures.items():
        if len(runs) > 1 and not isinstance(error, OSError | TakenError):
            folder.fail("".join(traceback.format_exception(error)))
    for folder, error in failures.items():
        advised = advice(error, folder.path) if isinstance(error, OSError) else None
        if advised:
            raise UserError(advised) from error
        if len(runs) == 1 or isinstance(error, OSError):
            raise error


class TakenError(RuntimeError):
    """Another process is training a run."""


def train_run(
    folder: RunFolder, config: RunConfig, *, tensorboard: bool = False, until: int | None = None
) -> None:
    """Train one run to its DONE.json, from nothing or from where it stopped.

    A finished run is left as it is.

    Args:
        folder: where the run is kept.
        config: what it is.
        tensorboard: whether to write event files beside it.
        until: stop at the first rollout that begins after so many steps, and keep the run there.

    Raises:
        TakenError: another process is writing into the folder.
    """
    for error in train_runs({folder: config}, tensorboard=tensorboard, until=until).values():
        raise error


def train_runs(
    runs: Runs, *, tensorboard: bool = False, until: int | None = None
) -> dict[RunFolder, Exception]:
    """Train runs that are alike in all but their rewards and seeds, as `train_run` does one.

    Returns:
        why those failed that did.
    """
    for config in runs.values():
        sb3_model.check_device(config.training)
    sb3_model.compute_with_one_thread()
    # Checks every action's distribution, at a twentieth of the training time; sampling from one
    # that is not a distribution fails by itself.
    torch.distributions.Distribution.set_default_validate_args(False)
    failures: dict[RunFolder, Exception] = {}
    records: dict[RunFolder, Memory] = {}
    kept: dict[RunFolder, list[Memory]] = {}
    with ExitStack() as leases:
        for folder, config in runs.items():
            try:
                leases.enter_context(_lease(folder))
                if not _is_done(folder, config):
                    records[folder] = _record(config)
                    kept[folder] = _kept(folder, records[folder])
            except Exception as error:
                failures[folder] = error
        train = partial(_train, runs, records, tensorboard, until)
        for group in _groups(runs, kept):
            failures |= train(group)
        anew = [folder for folder in kept if _must_begin_anew(folder, records, failures)]
        for group in _groups(runs, {folder: [] for folder in anew}):
            failures = {f: e for f, e in failures.items() if f not in group} | train(group)
    return failures


@contextmanager
def _lease(folder: RunFolder) -> Iterator[None]:
    """The right to write into a folder.

    Raises:
        TakenError: another process has it.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lease = Lease(folder.lease)
    if not lease.take():
        raise TakenError(f"another process is training in {folder.path}")
    try:
        yield
    finally:
        lease.release()


def _is_done(folder: RunFolder, config: RunConfig) -> bool:
    done = folder.identity() == config.identity and folder.is_done()
    if done:
        folder.tidy()
    return done


def _groups(
    runs: Runs, kept: dict[RunFolder, list[Memory]]
) -> list[dict[RunFolder, Memory | None]]:
    """Which runs are trained together, and from what: in lockstep those that are equally far.

    Two generations of checkpoints leave a choice; the groups are to be few.
    """
    nothing: dict[int, Memory | None] = {0: None}
    choices: dict[RunFolder, dict[int, Memory | None]] = {
        folder: {memory["timesteps"]: memory for memory in memories} or nothing
        for folder, memories in kept.items()
    }
    groups: list[dict[RunFolder, Memory | None]] = []
    while choices:
        counts = Counter(steps for memories in choices.values() for steps in memories)
        first = next(iter(choices))
        if runs[first].training.engine != "lockstep":
            group = {first: choices[first][max(choices[first])]}
        else:
            steps = max(counts, key=lambda steps: (counts[steps], steps))
            group = {f: memories[steps] for f, memories in choices.items() if steps in memories}
        groups.append(group)
        choices = {f: memories for f, memories in choices.items() if f not in group}
    return groups


def _train(
    runs: Runs,
    records: dict[RunFolder, Memory],
    tensorboard: bool,
    until: int | None,
    group: dict[RunFolder, Memory | None],
) -> dict[RunFolder, Exception]:
    """Train a group from where it is; why those failed that did."""
    failures: dict[RunFolder, Exception] = {}
    with ExitStack() as opened:
        trainees: dict[RunFolder, Trainee] = {}
        for folder, kept in group.items():
            try:
                if kept:
                    folder.go_on()
                else:
                    folder.begin(records[folder])
                trainees[folder] = run.begin(
                    folder, runs[folder], kept, tensorboard=tensorboard, together=len(group)
                )
                opened.callback(trainees[folder].close)
            except Exception as error:
                failures[folder] = error
        if trainees:
            engine = ENGINES[next(iter(runs.values())).training.engine]
            failed = engine(list(trainees.values()), until)
            failures |= {list(trainees)[place]: error for place, error in failed.items()}
    return failures


def _must_begin_anew(
    folder: RunFolder, records: dict[RunFolder, Memory], failures: dict[RunFolder, Exception]
) -> bool:
    """Whether a run could not go on from where it was; its record then says why."""
    error = failures.get(folder)
    if isinstance(error, NotTheSameError):
        why = "its environment cannot be restored"
    elif isinstance(error, DamagedError):
        why = "its checkpoint is damaged"
    else:
        return False
    records[folder]["resume"] = f"from the start, for {why}: {error}"
    return True


def _kept(folder: RunFolder, record: Memory) -> list[Memory]:
    """What an earlier process of this very run left; other versions would not go on as it did."""
    there = folder.read_record()
    usable = [
        memory
        for memory in checkpoint.load_all(folder.checkpoints)
        if all(memory["made_by"].get(key) == there.get(key) == record[key] for key in SAME)
        and folder.holds(record["identity"], memory["tables"])
        and _can_be_played(memory, record["config"]["training"]["total_timesteps"])
    ]
    if not usable and any(path.exists() for path in folder.checkpoints):
        record["resume"] = "from the start, for its checkpoint is damaged or was made elsewhere"
    return usable


def _can_be_played(memory: Memory, total_timesteps: int) -> bool:
    """Whether its time and the actions of its episodes are such, and no more than were taken."""
    steps = memory["timesteps"]
    try:
        times = [memory["recording"][name] for name in ("seconds", "core_seconds")]
        taken_so_long = all(map(math.isfinite, times))
        copies = memory["environments"]["copies"]
        finite = all(np.isfinite(copy["actions"]).all() for copy in copies)
        taken = sum(len(copy["actions"]) + max(0, copy.get("before", 0)) for copy in copies)
        begun = sum(copy.get("resets", 0) for copy in copies) <= steps + len(copies)
        return taken_so_long and finite and begun and taken <= steps < total_timesteps
    except (KeyError, TypeError):
        return False


def _record(config: RunConfig) -> dict[str, Any]:
    simulation = [config.environment.backend] if config.environment.backend != "gymnasium" else []
    packages = [*PACKAGES, *simulation]
    return {
        "identity": config.identity,
        "config": config.model_dump(mode="json"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "platform": platform.platform(),
        "git_revision": _git_revision(),
        "code": _code(config),
        "resume": "from the start" if config.training.algorithm == "DQN" else "exact",
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _code(config: RunConfig) -> dict[str, str]:
    """The code from outside that the run names: module -> SHA-256 of its file."""
    terms = config.reward.terms.values()
    named = [config.environment.id, *(t.python for t in terms if isinstance(t, PythonTerm))]
    modules = {name.rpartition(":")[0] for name in named if ":" in name}
    files = {module: importlib.import_module(module).__file__ for module in sorted(modules)}
    return {
        module: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for module, file in files.items()
        if file
    }


def _git_revision() -> str | None:
    """The revision of the folder that the command runs in, where there is one."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
