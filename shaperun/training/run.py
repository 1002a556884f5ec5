"""A run while it is trained: its environments, its learner, what is recorded of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from shaperun.common.files import replaced
from shaperun.runs.run_folder import RunFolder
from shaperun.study.models import RunConfig
from shaperun.training import sb3_model
from shaperun.training.checkpoint import DamagedError, Memory
from shaperun.training.envs import TrainingEnvs, training_seeds
from shaperun.training.episode_recorder import Row
from shaperun.training.episodic_envs import EpisodicEnvs
from shaperun.training.evaluation import Evaluation
from shaperun.training.normalization import ObservationScaling
from shaperun.training.recorder import Recording
from shaperun.training.vector_env import NotTheSameError


@dataclass
class Trainee:
    """One run of a cohort.

    Attributes:
        copies: its environments, which record every episode.
        envs: the same as its learner sees them.
        model: the learner; where there is something to go on from, as it was then.
        policy_seed: of the actions that are drawn.
        batch_seed: of the order of minibatches.
        kept: what the run goes on from, if it does.
        on_its_way: whether it came a rollout and an update further than that.
    """

    folder: RunFolder
    config: RunConfig
    copies: TrainingEnvs
    envs: VecEnv
    model: BaseAlgorithm
    recording: Recording
    evaluation: Evaluation
    policy_seed: int
    batch_seed: int
    kept: Memory | None
    on_its_way: bool
    _log: TextIO
    _opened: ExitStack

    @property
    def total_timesteps(self) -> int:
        """Environment steps of the whole training."""
        return self.config.training.total_timesteps

    @property
    def scaling(self) -> ObservationScaling | None:
        """How observations are normalised at this moment, if they are."""
        return ObservationScaling.of(self.envs)

    def episodes(self, *, final: bool) -> int:
        """How many episodes an evaluation has."""
        protocol = self.config.evaluation
        return protocol.final_episodes if final else protocol.episodes

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Whatever is printed meanwhile goes into the run's log."""
        # By hand: it is done for every run at every step, and contextlib's two cost three times it.
        before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self._log
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before

    def cause(self, error: Exception) -> Exception:
        """What an error comes from: a damaged checkpoint, where the run was not on its way again.

        Libraries say this and that of numbers that anybody may have written.
        """
        if self.on_its_way or isinstance(error, NotTheSameError | OSError):
            return error
        return DamagedError(f"{type(error).__name__}: {error}")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Raise the cause of whatever is raised meanwhile."""
        try:
            yield
        except Exception as error:
            cause = self.cause(error)
            if cause is error:
                raise
            raise cause from error

    def finish(self) -> None:
        """Write the policy, and what it needs of its observations.

        Raises:
            ArithmeticError: the recorded episodes do not add up to the steps that were taken.
        """
        self.copies.recorder.check()
        with replaced(self.folder.policy) as temporary:
            self.model.save(temporary)
        if self.scaling:
            self.scaling.save(self.folder)
        self.folder.finish()

    def close(self) -> None:
        """Close all that is open."""
        self._opened.close()


def begin(
    folder: RunFolder,
    config: RunConfig,
    kept: Memory | None,
    *,
    tensorboard: bool = False,
    together: int = 1,
) -> Trainee:
    """Build all that a run is trained with, as for its start or as it was kept.

    Leaves the global generators as stable-baselines3 is to find them at the start.

    Args:
        folder: where the run is recorded; it is begun there.
        config: the run.
        kept: what it goes on from.
        tensorboard: whether to write event files.
        together: how many runs this process trains at the same time.

    Raises:
        DamagedError: the run cannot go on from what was kept.
        NotTheSameError: its environments cannot be brought back.
    """
    envs_stream, policy_stream, batch_stream = np.random.SeedSequence(config.seed).spawn(3)

    def emit(row: Row) -> None:
        recording.episode(row)

    with ExitStack() as opened:
        log = opened.enter_context(folder.log.open("a"))
        with redirect_stdout(log), redirect_stderr(log):
            whole = config.training.engine == "episodic"
            make = EpisodicEnvs if whole else TrainingEnvs
            copies = make(config, training_seeds(envs_stream, config.training.n_envs), emit)
            opened.callback(copies.close)
            recording = Recording(
                folder, config, copies, kept, tensorboard=tensorboard, together=together
            )
            opened.callback(recording.close)
            evaluation = Evaluation(config)
            opened.callback(evaluation.close)
            envs = _normalized(copies, config)
            # Initial weights are drawn from torch's global generator. stable-baselines3 draws all
            # else from the global ones too: the process is then the run's own.
            policy_seed, batch_seed = _word(policy_stream), _word(batch_stream) % 2**32
            torch.manual_seed(policy_seed)
            np.random.seed(batch_seed)
            random.seed(batch_seed)
            model = sb3_model.build(config.training, envs)
            model.action_space.seed(policy_seed % 2**32)
            trainee = Trainee(
                folder,
                config,
                copies,
                envs,
                model,
                recording,
                evaluation,
                policy_seed,
                batch_seed,
                kept,
                kept is None,
                log,
                opened,
            )
            if kept:
                with trainee.going_on():
                    copies.restore(kept["environments"])
                    sb3_model.restore(model, kept["learner"], kept["timesteps"])
        trainee._opened = opened.pop_all()
    return trainee


def one_after_another(
    trainees: Sequence[Trainee], learn: Callable[[Trainee], bool]
) -> dict[int, Exception]:
    """Train runs, and write those that come to their end.

    Args:
        trainees: the runs.
        learn: trains one; whether it came to its end.

    Returns:
        what became of those that failed, by their place.
    """
    failures: dict[int, Exception] = {}
    for place, trainee in enumerate(trainees):
        try:
            with trainee.speaking(), trainee.going_on():
                if learn(trainee):
                    trainee.finish()
        except Exception as error:
            failures[place] = error
    return failures


def diverged(timesteps: int) -> FloatingPointError:
    """What to say of a run whose parameters or losses are no longer finite numbers."""
    return FloatingPointError(
        "diverged: the policy's parameters are no longer finite numbers "
        f"(after {timesteps:,} steps); lower the learning rate or the rewards"
    )


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


def _word(stream: np.random.SeedSequence) -> int:
    return int(stream.generate_state(1, np.uint64)[0] >> np.uint64(1))
