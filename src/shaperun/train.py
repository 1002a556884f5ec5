"""The whole life of one cohort of runs: environments, learner, recording, evaluation, the end."""

from __future__ import annotations

import hashlib
import importlib
import math
import platform
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from shaperun import checkpoint, evaluate, faults, learner
from shaperun.arm import PythonTerm
from shaperun.checkpoint import Memory
from shaperun.errors import UserError
from shaperun.files import AppendedTable, Lease, advice, read_json, replaced
from shaperun.learner import ObservationScaling, actor, build
from shaperun.rollout import TrainingEnvs, episode_columns
from shaperun.store import RunFolder
from shaperun.study import RunConfig
from shaperun.wrapper import NotTheSameError

if TYPE_CHECKING:
    from shaperun.tensorboard import EventFile

PACKAGES = ("shaperun", "gymnasium", "stable-baselines3", "sb3-contrib", "torch", "numpy")
PROGRESS_SECONDS = 0.5
# Between checkpoints: what a killed run loses at most, and a rollout.
KEEP_SECONDS = faults.keep_seconds(10.0)
UPDATE_ROWS = 1000  # a learner that updates at every step would fill the disk; points likewise

# Column -> the names under which the learners report it; what a learner lacks stays empty.
UPDATE_COLUMNS = {
    "approx_kl": ("train/approx_kl", "train/kl_divergence_loss"),
    "clip_fraction": ("train/clip_fraction",),
    "entropy_loss": ("train/entropy_loss",),
    "explained_variance": ("train/explained_variance",),
    "policy_loss": ("train/policy_gradient_loss", "train/policy_loss"),
    "value_loss": ("train/value_loss",),
    "loss": ("train/loss",),
    "learning_rate": ("train/learning_rate",),
    "std": ("train/std",),
}


class _StopError(Exception):
    """Training has come as far as it was to come for now."""


def train_cohort(
    members: list[tuple[str, str]], tensorboard: bool = False, until: int | None = None
) -> None:
    """Train runs, each given as its folder and its configuration in JSON: what a worker calls.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    for path, config in members:
        run = RunConfig.model_validate_json(config)
        try:
            train_run(RunFolder(Path(path)), run, tensorboard=tensorboard, until=until)
        except OSError as error:
            advised = advice(error, Path(path))
            if advised is None:
                raise
            raise UserError(advised) from error


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
        RuntimeError: another process is writing into the folder.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lease = Lease(folder.lease)
    if not lease.take():
        raise RuntimeError(f"another process is training in {folder.path}")
    try:
        if folder.identity() != config.identity or not folder.is_done():
            _train_from(folder, config, tensorboard, until)
        else:
            folder.tidy()
    finally:
        lease.release()


def _train_from(folder: RunFolder, config: RunConfig, tensorboard: bool, until: int | None) -> None:
    record = _record(config)
    train = partial(_train_logged, folder, config, record, tensorboard=tensorboard, until=until)
    try:
        finished = train(_kept(folder, record))
    except NotTheSameError as error:
        record["resume"] = f"from the start, for its environment cannot be restored: {error}"
        finished = train(None)
    except checkpoint.DamagedError as error:
        record["resume"] = f"from the start, for its checkpoint is damaged: {error}"
        finished = train(None)
    if finished:
        folder.finish()


def _train_logged(
    folder: RunFolder,
    config: RunConfig,
    record: Memory,
    kept: Memory | None,
    *,
    tensorboard: bool,
    until: int | None,
) -> bool:
    if kept:
        folder.go_on()
    else:
        folder.begin(record)
    with folder.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
        events = _event_file(folder, config) if tensorboard else None
        return _train(folder, config, events, kept, until)


def _event_file(folder: RunFolder, config: RunConfig) -> EventFile:
    from shaperun.tensorboard import EventFile  # an extra, which need not be installed

    return EventFile(folder.tensorboard, list(config.environment.describe().outcomes))


def _kept(folder: RunFolder, record: Memory) -> Memory | None:
    """What an earlier process of this very run left; other versions would not go on as it did."""
    memory, there = checkpoint.latest(folder.checkpoints), folder.read_record()
    same = ("identity", "versions", "platform", "code")
    if (
        memory
        and all(memory["made_by"].get(key) == there.get(key) == record[key] for key in same)
        and folder.holds(record["identity"], memory["tables"])
        and _can_be_played(memory, record["config"]["training"]["total_timesteps"])
    ):
        return memory
    if any(path.exists() for path in folder.checkpoints):
        record["resume"] = "from the start, for its checkpoint is damaged or was made elsewhere"
    return None


def _can_be_played(memory: Memory, total_timesteps: int) -> bool:
    """Whether its time and the actions of its episodes are such, and no more than were taken."""
    steps = memory["timesteps"]
    try:
        taken_so_long = math.isfinite(memory["recording"]["seconds"])
        actions = [copy["actions"] for copy in memory["environments"]["copies"]]
        finite = all(np.isfinite(some).all() for some in actions)
        return taken_so_long and finite and sum(map(len, actions)) <= steps < total_timesteps
    except (KeyError, TypeError):
        return False


def _train(
    folder: RunFolder,
    config: RunConfig,
    events: EventFile | None,
    kept: Memory | None,
    until: int | None,
) -> bool:
    """Whether it came to its end."""
    torch.set_num_threads(1)
    # Checks every action's distribution, at a twentieth of the training time; sampling from one
    # that is not a distribution fails by itself.
    torch.distributions.Distribution.set_default_validate_args(False)
    envs_stream, policy_stream, batch_stream = np.random.SeedSequence(config.seed).spawn(3)

    def emit(row: dict[str, object]) -> None:
        episodes.append([row])
        if events:
            events.episode(row)

    training_envs = TrainingEnvs(config, _env_seeds(envs_stream, config.training.n_envs), emit)
    tables = kept["tables"] if kept else {}
    columns = episode_columns(training_envs.kernel)
    episodes = AppendedTable(folder.episodes, columns, tables.get("episodes"))
    envs = _normalized(training_envs, config)
    # stable-baselines3 draws from the global generators: actions and initial weights from torch's,
    # minibatches from numpy's. The process is the run's own, so they are its streams.
    torch.manual_seed(_word(policy_stream))
    np.random.seed(_word(batch_stream) % 2**32)
    random.seed(_word(batch_stream))
    model = build(config.training, envs)
    model.action_space.seed(_word(policy_stream) % 2**32)
    recording = Recording(folder, config, training_envs, episodes, events, kept, until)
    try:
        with _going_on(recording):
            if kept:
                training_envs.restore(kept["environments"])
                learner.restore(model, kept["learner"], kept["timesteps"])
            if not _learn(model, recording, config.training.total_timesteps):
                return False
        training_envs.recorder.check()
        with replaced(folder.policy) as temporary:
            model.save(temporary)
        scaling = ObservationScaling.of(envs)
        if scaling:
            scaling.save(folder)
        return True
    finally:
        recording.close()
        episodes.close()
        if events:
            events.close()
        envs.close()


@contextmanager
def _going_on(recording: Recording) -> Iterator[None]:
    """Tell what a damaged checkpoint leads to from what a run does.

    Raises:
        checkpoint.DamagedError: something went wrong before the run was on its way again.
    """
    try:
        yield
    except (NotTheSameError, OSError):
        raise
    except Exception as error:  # whatever libraries say of numbers that anybody may have written
        if recording.on_its_way:
            raise
        raise checkpoint.DamagedError(f"{type(error).__name__}: {error}") from error


def _learn(model: BaseAlgorithm, recording: Recording, total_timesteps: int) -> bool:
    """Train and evaluate; what comes of parameters that are not finite is no result.

    Returns:
        whether it came to its end.

    Raises:
        FloatingPointError: the training diverged.
    """
    trouble, finished = None, True
    try:
        # Never dumping the log keeps its latest values in memory, where the recording reads them.
        model.learn(
            total_timesteps - model.num_timesteps,  # it adds those that were done before
            recording,
            log_interval=None,  # type: ignore[arg-type]
            reset_num_timesteps=not model.num_timesteps,
        )
        recording.evaluate(final=True)
    except _StopError:
        finished = False
    except Exception as error:  # whatever a library says of actions that are not numbers
        trouble = error
    if not all(bool(torch.isfinite(p).all()) for p in model.policy.parameters()):
        raise FloatingPointError(
            "diverged: the policy's parameters are no longer finite numbers "
            f"(after {model.num_timesteps:,} steps); lower the learning rate or the rewards"
        ) from trouble
    if trouble:
        raise trouble
    return finished


def _normalized(envs: TrainingEnvs, config: RunConfig) -> VecEnv:
    normalize = config.training.normalize
    if not (normalize.observations or normalize.rewards):
        return envs
    return VecNormalize(
        envs,
        norm_obs=normalize.observations,
        norm_reward=normalize.rewards,
        gamma=config.training.gamma,
    )


def _env_seeds(stream: np.random.SeedSequence, copies: int) -> list[int]:
    # Above 2³², where no evaluation episode is seeded; 63 bits, so that no two runs share a copy.
    words = stream.generate_state(copies, np.uint64)
    return [int(word >> np.uint64(2)) + 2**62 for word in words]


def _word(stream: np.random.SeedSequence) -> int:
    return int(stream.generate_state(1, np.uint64)[0] >> np.uint64(1))


class Recording(BaseCallback):
    """What happens beside the learning: progress, update statistics, evaluations on their steps."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        envs: TrainingEnvs,
        episodes: AppendedTable,
        events: EventFile | None,
        kept: Memory | None,
        until: int | None,
    ) -> None:
        super().__init__()
        self._folder, self._config, self._envs, self._events = folder, config, envs, events
        self._evaluation = evaluate.Evaluation(config)
        columns = ["timesteps", *evaluate.columns(self._evaluation.kernel)]
        tables = kept["tables"] if kept else {}
        updates = ["timesteps", *UPDATE_COLUMNS]
        self._episodes = episodes
        self._evaluations = AppendedTable(folder.evaluations, columns, tables.get("evaluations"))
        self._updates = AppendedTable(folder.updates, updates, tables.get("updates"))
        self._kept = kept  # as long as training has not gone on from it
        self.on_its_way = kept is None  # or a rollout and its update later
        self._until = until
        own = kept["recording"] if kept else {}
        self._next_evaluation = own.get("next_evaluation", 0)
        self._next_update = self._next_point = own.get("next_update", 0)
        self._evaluated_return: float | None = own.get("evaluated_return")
        self._next_progress = self._last_kept = time.monotonic()
        self._started = time.monotonic() - own.get("seconds", 0.0)

    def close(self) -> None:
        """Close the evaluation environments and the tables."""
        self._evaluation.close()
        self._evaluations.close()
        self._updates.close()

    def _on_training_start(self) -> None:
        self._on_step()  # the untrained policy is the first point of every curve

    def _on_step(self) -> bool:
        total, every = self._config.training.total_timesteps, self._config.evaluation.every or 1
        if self._next_evaluation <= self.num_timesteps < total:
            self._next_evaluation = (self.num_timesteps // every + 1) * every
            self.evaluate()
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + PROGRESS_SECONDS
            self._write_progress("training")
        return True

    def _on_rollout_start(self) -> None:
        if self._kept:  # this very moment is where it was kept
            learner.restore_streams(self.model, self._kept["learner"])
            self._kept = None
        else:
            self.on_its_way = True
            self._log_update()
            self._write_point()
        enough = self._until is not None and self.num_timesteps >= self._until
        due = time.monotonic() - self._last_kept >= KEEP_SECONDS and self.num_timesteps
        if due or enough:
            self._keep()
        if enough:
            self._write_progress("")
            raise _StopError

    def _keep(self) -> None:
        """Keep all that the run needs to go on from here. Off-policy learners begin anew."""
        if not isinstance(self.model, OnPolicyAlgorithm):
            return
        record = read_json(self._folder.config)
        same = ("identity", "versions", "platform", "code")
        memory = {
            "timesteps": self.num_timesteps,
            "made_by": {key: record[key] for key in same},
            "learner": learner.memory(self.model),
            "environments": self._envs.memory(),
            "tables": {
                "episodes": self._episodes.settle(),
                "evaluations": self._evaluations.settle(),
                "updates": self._updates.settle(),
            },
            "recording": {
                "next_evaluation": self._next_evaluation,
                "next_update": self._next_update,
                "evaluated_return": self._evaluated_return,
                "seconds": time.monotonic() - self._started,
            },
        }
        checkpoint.save(memory, self._folder.checkpoints)
        self._last_kept = time.monotonic()

    def _on_training_end(self) -> None:
        self._next_update = self._next_point = 0
        self._log_update()
        self._write_point()

    def evaluate(self, *, final: bool = False) -> None:
        """Evaluate the policy as it is now and record every episode."""
        self._write_progress("evaluating")
        protocol = self._config.evaluation
        act = actor(self.model, ObservationScaling.of(self.model.get_env() or self._envs))
        episodes = protocol.final_episodes if final else protocol.episodes
        progress = min(1.0, self.num_timesteps / self._config.training.total_timesteps)
        rows = self._evaluation(act, episodes, progress)
        self._evaluations.append([{"timesteps": self.num_timesteps, **row} for row in rows])
        if self._events:
            self._events.write_evaluation(self.num_timesteps, rows)
        self._evaluated_return = float(np.mean([float(str(row["return"])) for row in rows]))
        self._write_progress("training")

    def _log_update(self) -> None:
        values = self.logger.name_to_value
        if self.num_timesteps < self._next_update or "train/n_updates" not in values:
            return
        self._next_update = self.num_timesteps + self._gap
        row = {
            column: next((values[name] for name in names if name in values), "")
            for column, names in UPDATE_COLUMNS.items()
        }
        self._updates.append([{"timesteps": self.num_timesteps, **row}])
        if self._events:
            self._events.write_update(self.num_timesteps, row)

    def _write_point(self) -> None:
        if self._events and self.num_timesteps >= self._next_point:
            self._next_point = self.num_timesteps + self._gap
            self._events.write_episodes(self.num_timesteps)

    @property
    def _gap(self) -> int:
        return self._config.training.total_timesteps // UPDATE_ROWS

    def _write_progress(self, phase: str) -> None:
        recent = self._envs.recorder.recent_returns
        self._folder.write_progress(
            {
                "phase": phase,
                "timesteps": self.num_timesteps,
                "total_timesteps": self._config.training.total_timesteps,
                "seconds": round(time.monotonic() - self._started, 3),
                "training_return": sum(recent) / len(recent) if recent else None,
                "evaluated_return": self._evaluated_return,
            }
        )


def _record(config: RunConfig) -> dict[str, Any]:
    return {
        "identity": config.identity,
        "config": config.model_dump(mode="json"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
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
