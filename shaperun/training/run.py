"""A run while it is trained: its environments, its learner, and its recorder."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from shaperun.common.errors import ForeignExitError, describe_exception
from shaperun.common.files import atomic_replace, refuse_hard_links
from shaperun.runs.run_folder import RunFolder, RunRemovedError
from shaperun.runs.train_options import TrainOptions
from shaperun.study.models import RunConfig
from shaperun.training import sb3_model
from shaperun.training.checkpoint import CorruptCheckpointError, StateDict
from shaperun.training.envs import TrainingEnvs, training_seeds
from shaperun.training.episode_recorder import Row
from shaperun.training.episodic_envs import EpisodicEnvs
from shaperun.training.evaluation import Evaluation
from shaperun.training.normalization import ObservationScaling
from shaperun.training.recorder import RunRecorder
from shaperun.training.start import load_start
from shaperun.training.vector_env import ReplayMismatchError


@dataclass
class TrainingRun:
    """One run while it is trained.

    Attributes:
        base_envs: its environments, which record every episode.
        envs: the same environments as the learner sees them.
        model: the learner, restored from the checkpoint if there is one.
        policy_seed: seed of the generator that actions are drawn from.
        batch_seed: seed of the generator that orders minibatches.
        checkpoint: state that the run resumes from; None if it starts from scratch.
        advanced: whether the run has completed a rollout and an update since then.
        evaluated: number of updates before the last evaluation, and its rows.
    """

    folder: RunFolder
    config: RunConfig
    options: TrainOptions
    base_envs: TrainingEnvs
    envs: VecEnv
    model: BaseAlgorithm
    recorder: RunRecorder
    evaluation: Evaluation
    policy_seed: int
    batch_seed: int
    checkpoint: StateDict | None
    advanced: bool
    log: TextIO
    evaluated: tuple[int, list[Row]] = (-1, [])

    @property
    def total_timesteps(self) -> int:
        """Environment steps of the whole training."""
        return self.config.training.total_timesteps

    @property
    def scaling(self) -> ObservationScaling | None:
        """Current normalization of observations; None without."""
        return ObservationScaling.from_envs(self.envs)

    def episodes(self, *, final: bool) -> int:
        """Return the number of episodes of an evaluation."""
        protocol = self.config.evaluation
        return protocol.final_episodes if final else protocol.episodes

    def known_evaluation(self, *, final: bool) -> list[Row] | None:
        """Return the rows of the next evaluation if they follow from the last one, else None.

        They do if the policy has not been updated since, sees observations in the same scale, and
        is paid by the same schedule.
        """
        updates, rows = self.evaluated
        changes = self.scaling is not None or self.evaluation.kernel.scheduled
        unchanged = updates == sb3_model.get_updates(self.model) and not changes
        episodes = self.episodes(final=final)
        return rows[:episodes] if unchanged and len(rows) >= episodes else None

    def record_evaluation(self, timesteps: int, rows: list[Row]) -> None:
        """Record the episodes of an evaluation."""
        self.evaluated = sb3_model.get_updates(self.model), rows
        self.recorder.on_evaluation(timesteps, rows)
        self.base_envs.on_evaluation(timesteps, rows)

    @contextmanager
    def redirect_output(self) -> Iterator[None]:
        """Redirect stdout and stderr to the run's log; raise what would end the process as errors.

        Raises:
            ForeignExitError: code of the user tried to end the process.
        """
        # Not with contextlib, which takes three times as long: this runs at every step.
        before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self.log
        try:
            yield
        except (Exception, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            raise ForeignExitError(describe_exception(error)) from error
        finally:
            sys.stdout, sys.stderr = before

    def cause(self, error: Exception) -> Exception:
        """Return the cause of an error: a corrupt checkpoint, unless the run has advanced since.

        Libraries raise all kinds of errors on numbers that a forged checkpoint may hold.
        """
        if self.advanced or isinstance(error, ReplayMismatchError | OSError | RunRemovedError):
            return error
        return CorruptCheckpointError(describe_exception(error))

    @contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Raise the cause of an error instead of it."""
        try:
            yield
        except Exception as error:
            cause = self.cause(error)
            if cause is error:
                raise
            raise cause from error

    def finish(self) -> None:
        """Write the policy, the normalization of its observations, and DONE.json.

        Raises:
            ArithmeticError: the recorded episodes do not add up to all steps.
        """
        self.base_envs.recorder.check()
        self.folder.ensure_present()
        with atomic_replace(self.folder.policy) as temporary:
            self.model.save(temporary)
        if self.scaling:
            self.scaling.save(self.folder)
        self.folder.finish()


@contextmanager
def open_run(
    folder: RunFolder,
    config: RunConfig,
    checkpoint: StateDict | None = None,
    options: TrainOptions = TrainOptions(),  # noqa: B008 (it is immutable)
    *,
    cohort_size: int = 1,
) -> Iterator[TrainingRun]:
    """Build everything that a run is trained with, at its start or at a checkpoint.

    The global generators are then in the state that stable-baselines3 needs at the start.

    Raises:
        CorruptCheckpointError: the checkpoint cannot be resumed from.
        ReplayMismatchError: the environments cannot be restored.
    """
    envs_stream, policy_stream, batch_stream = np.random.SeedSequence(config.seed).spawn(3)

    def emit(row: Row) -> None:
        recorder.on_episode(row)

    refuse_hard_links(folder.log)
    with ExitStack() as stack:
        log = stack.enter_context(folder.log.open("a"))
        with redirect_stdout(log), redirect_stderr(log):
            make = EpisodicEnvs if config.training.engine == "episodic" else TrainingEnvs
            seeds = training_seeds(envs_stream, config.training.n_envs)
            base_envs = stack.enter_context(closing(make(config, seeds, emit)))
            recorder = stack.enter_context(
                closing(RunRecorder(folder, config, base_envs, checkpoint, options, cohort_size))
            )
            evaluation = stack.enter_context(closing(Evaluation(config)))
            envs = _normalize(base_envs, config)
            # stable-baselines3 draws initial weights and all else from the global generators.
            policy_seed, batch_seed = _draw_seed(policy_stream), _draw_seed(batch_stream) % 2**32
            _seed_generators(policy_seed, batch_seed)
            model = sb3_model.build_algorithm(config.training, envs)
            model.action_space.seed(policy_seed % 2**32)
            run = TrainingRun(
                folder=folder,
                config=config,
                options=options,
                base_envs=base_envs,
                envs=envs,
                model=model,
                recorder=recorder,
                evaluation=evaluation,
                policy_seed=policy_seed,
                batch_seed=batch_seed,
                checkpoint=checkpoint,
                advanced=checkpoint is None,
                log=log,
            )
            _load_state(run)
        yield run


def _load_state(run: TrainingRun) -> None:
    """Load the checkpoint, or the policy that training starts from, if there is one."""
    config, checkpoint = run.config, run.checkpoint
    if checkpoint:
        with run.explaining_errors():
            run.base_envs.set_state(checkpoint["environments"])
            sb3_model.set_state(run.model, checkpoint["learner"], checkpoint["timesteps"])
    elif config.start:
        load_start(config, config.start, run.model, run.envs)


def train_sequentially(
    runs: Sequence[TrainingRun], learn: Callable[[TrainingRun], bool]
) -> dict[int, Exception]:
    """Train runs one after the other; return the exception of each failed run, by index.

    `learn` trains a run, and returns whether it reached its end rather than its pause.
    """
    failures: dict[int, Exception] = {}
    for index, run in enumerate(runs):
        try:
            with run.redirect_output(), run.explaining_errors():
                if learn(run):
                    run.finish()
        except Exception as error:
            failures[index] = error
    return failures


def divergence_error(timesteps: int) -> FloatingPointError:
    """Return the error of a run whose parameters or losses are no longer finite."""
    return FloatingPointError(
        "diverged: the policy's parameters are no longer finite numbers "
        f"(after {timesteps:,} steps); lower the learning rate or the rewards"
    )


def _normalize(envs: TrainingEnvs, config: RunConfig) -> VecEnv:
    normalize = config.training.normalize
    if not (normalize.observations or normalize.rewards):
        return envs
    return VecNormalize(
        envs,
        norm_obs=normalize.observations,
        norm_reward=normalize.rewards,
        gamma=config.training.gamma,
    )


def _seed_generators(policy_seed: int, batch_seed: int) -> None:
    torch.manual_seed(policy_seed)
    np.random.seed(batch_seed)
    random.seed(batch_seed)


def _draw_seed(stream: np.random.SeedSequence) -> int:
    return int(stream.generate_state(1, np.uint64)[0] >> np.uint64(1))
