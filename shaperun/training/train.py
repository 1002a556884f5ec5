"""Train a cohort of runs from the start, or from their checkpoints, to the end."""

from __future__ import annotations

import math
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # here once; the first optimizer of every worker would take a second for it

from shaperun.common.errors import UserError, exits_as_errors, format_traceback
from shaperun.common.files import Lock, explain_disk_error
from shaperun.runs.code_files import hash_code
from shaperun.runs.run_folder import RunFolder, RunRemovedError
from shaperun.runs.train_options import TrainOptions
from shaperun.study.models import RunConfig
from shaperun.training import checkpoint, sb3_model
from shaperun.training.checkpoint import CorruptCheckpointError, StateDict
from shaperun.training.engines import episodic, lockstep, sb3
from shaperun.training.recorder import MUST_MATCH
from shaperun.training.run import TrainingRun, open_run
from shaperun.training.vector_env import ReplayMismatchError

PACKAGES = ("shaperun", "gymnasium", "stable-baselines3", "sb3-contrib", "torch", "numpy")
ENGINES = {"sb3": sb3.train, "lockstep": lockstep.train, "episodic": episodic.train}

Runs = dict[RunFolder, RunConfig]


def train_cohort(
    members: list[tuple[str, str]],
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
) -> None:
    """Train runs, given as folders and configurations in JSON; called by workers.

    Runs that another process is training are skipped. If one of several runs fails, its traceback
    is written into its folder; the error of a single run is raised.

    Raises:
        UserError: the disk is full, or a folder is not writable.
    """
    runs = {
        RunFolder(Path(path)): RunConfig.model_validate_json(config) for path, config in members
    }
    try:
        failures = train_runs(runs, options)
    except OSError as lock_error:
        failures = {next(iter(runs)): lock_error}
    # The driver waits for runs of other processes.
    failures = {f: e for f, e in failures.items() if not isinstance(e, RunLockedError)}
    for folder, error in failures.items():
        if len(runs) > 1 and not isinstance(error, OSError | RunRemovedError):
            folder.write_failure(format_traceback(error))
    for folder, error in failures.items():
        advised = explain_disk_error(error, folder.path) if isinstance(error, OSError) else None
        if advised:
            raise UserError(advised) from error
        if len(runs) == 1 or isinstance(error, OSError | RunRemovedError):
            raise error


class RunLockedError(RuntimeError):
    """Another process is training this run."""


def train_run(
    folder: RunFolder,
    config: RunConfig,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
) -> None:
    """Train one run to its DONE.json, from the start or from its checkpoint.

    A finished run is unchanged.

    Raises:
        RunLockedError: another process is writing into the folder.
    """
    for error in train_runs({folder: config}, options).values():
        raise error


def train_runs(
    runs: Runs,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
) -> dict[RunFolder, Exception]:
    """Train runs that differ only in rewards and seeds; return the exception of each failed run."""
    for config in runs.values():
        sb3_model.check_device(config.training)
    sb3_model.use_one_thread()
    # Validation would take a twentieth of the training time; sampling from an invalid
    # distribution fails anyway.
    torch.distributions.Distribution.set_default_validate_args(False)
    failures: dict[RunFolder, Exception] = {}
    records: dict[RunFolder, StateDict] = {}
    checkpoints: dict[RunFolder, list[StateDict]] = {}
    with ExitStack() as locks:
        for folder, config in runs.items():
            try:
                locks.enter_context(_locked(folder))
                if not _is_done(folder, config):
                    records[folder] = _record(config)
                    checkpoints[folder] = _usable_checkpoints(folder, records[folder])
            except Exception as error:
                failures[folder] = error
        train = partial(_train_group, runs, records, options)
        for group in _group_by_progress(runs, checkpoints):
            failures |= train(group)
        again = [folder for folder in checkpoints if _must_restart(folder, records, failures)]
        for group in _group_by_progress(runs, {folder: [] for folder in again}):
            failures = {f: e for f, e in failures.items() if f not in group} | train(group)
    return failures


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Hold the lock of a run folder.

    Raises:
        RunLockedError: another process holds it.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder.lock)
    if not lock.acquire():
        raise RunLockedError(f"another process is training in {folder.path}")
    try:
        yield
    finally:
        lock.release()


def _is_done(folder: RunFolder, config: RunConfig) -> bool:
    done = folder.read_identity() == config.identity and folder.is_done()
    if done:
        folder.remove_leftovers()
    return done


def _group_by_progress(
    runs: Runs, checkpoints: dict[RunFolder, list[StateDict]]
) -> list[dict[RunFolder, StateDict | None]]:
    """Group runs that are trained together, each with its checkpoint.

    Runs in lockstep must be equally far. Two generations of checkpoints leave a choice, which is
    made so that there are few groups.
    """
    start: dict[int, StateDict | None] = {0: None}
    choices: dict[RunFolder, dict[int, StateDict | None]] = {
        folder: {state["timesteps"]: state for state in states} or start
        for folder, states in checkpoints.items()
    }
    groups: list[dict[RunFolder, StateDict | None]] = []
    while choices:
        counts = Counter(steps for states in choices.values() for steps in states)
        first = next(iter(choices))
        if runs[first].training.engine != "lockstep":
            group = {first: choices[first][max(choices[first])]}
        else:
            steps = max(counts, key=lambda steps: (counts[steps], steps))
            group = {f: states[steps] for f, states in choices.items() if steps in states}
        groups.append(group)
        choices = {f: states for f, states in choices.items() if f not in group}
    return groups


def _train_group(
    runs: Runs,
    records: dict[RunFolder, StateDict],
    options: TrainOptions,
    group: dict[RunFolder, StateDict | None],
) -> dict[RunFolder, Exception]:
    """Train a group of runs; return the exception of each failed run."""
    failures: dict[RunFolder, Exception] = {}
    with ExitStack() as stack:
        opened: dict[RunFolder, TrainingRun] = {}
        for folder, state in group.items():
            try:
                if state:
                    folder.mark_resumed()
                else:
                    folder.start(records[folder])
                with exits_as_errors():
                    opened[folder] = stack.enter_context(
                        open_run(folder, runs[folder], state, options, cohort_size=len(group))
                    )
            except Exception as error:
                failures[folder] = error
        if opened:
            engine = ENGINES[next(iter(runs.values())).training.engine]
            failed = engine(list(opened.values()))
            failures |= {list(opened)[index]: error for index, error in failed.items()}
    return failures


def _must_restart(
    folder: RunFolder, records: dict[RunFolder, StateDict], failures: dict[RunFolder, Exception]
) -> bool:
    """Return whether a run failed to resume; its record then says why."""
    error = failures.get(folder)
    if isinstance(error, ReplayMismatchError):
        why = "its environment cannot be restored"
    elif isinstance(error, CorruptCheckpointError):
        why = "its checkpoint is damaged"
    else:
        return False
    records[folder]["resume"] = f"from the start ({why}: {error})"
    return True


def _usable_checkpoints(folder: RunFolder, record: StateDict) -> list[StateDict]:
    """Return the checkpoints of this configuration, code and versions, which resume exactly."""
    written = folder.read_record()
    usable = [
        state
        for state in checkpoint.load_all(folder.checkpoints)
        if all(state["made_by"].get(key) == written.get(key) == record[key] for key in MUST_MATCH)
        and folder.has_tables(record["identity"], state["tables"])
        and _is_replayable(state, record["config"]["training"]["total_timesteps"])
    ]
    if not usable and any(path.exists() for path in folder.checkpoints):
        changed = written.get("code") != record["code"]
        why = (
            "its code has changed" if changed else "its checkpoint is damaged or was made elsewhere"
        )
        record["resume"] = f"from the start ({why})"
    return usable


def _is_replayable(state: StateDict, total_timesteps: int) -> bool:
    """Return whether times, actions and numbers of steps and resets are possible."""
    timesteps = state["timesteps"]
    try:
        times = [state["recording"][name] for name in ("seconds", "core_seconds")]
        envs = state["environments"]["copies"]
        actions = [env["actions"] for env in envs]
        steps = sum(map(len, actions)) + sum(max(0, env.get("before", 0)) for env in envs)
        resets = sum(env.get("resets", 0) for env in envs)
        finite = all(map(math.isfinite, times)) and all(np.isfinite(a).all() for a in actions)
        return finite and steps <= timesteps < total_timesteps and resets <= timesteps + len(envs)
    except (KeyError, TypeError):
        return False


def _record(config: RunConfig) -> dict[str, Any]:
    simulation = [config.environment.backend] if config.environment.backend != "gymnasium" else []
    packages = [*PACKAGES, *simulation]
    observations = config.environment.composite_observations
    return {
        "identity": config.identity,
        "config": config.model_dump(mode="json"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "platform": platform.platform(),
        "git_revision": _git_revision(),
        "code": hash_code(config),
        **({"observations": observations} if observations else {}),
        "resume": "exact" if config.training.learner.exact_resume else "from the start",
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _git_revision() -> str | None:
    """Return the git revision of the working directory, if there is one."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
