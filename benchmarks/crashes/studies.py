"""The runs that are interrupted."""

from __future__ import annotations

import yaml

from shaperun.study.models import RunConfig, parse_study

# A tenth of a second: four rollouts; evaluations before, within and after training.
TINY = """
study: tiny
environment: {id: CartPole-v1}
training:
  total_timesteps: 256
  n_envs: 2
  normalize: {observations: true}
  hyperparameters: {n_steps: 32, batch_size: 64, n_epochs: 2, policy_kwargs: {net_arch: [8]}}
evaluation: {every: 100, episodes: 2, final_episodes: 3}
arms: {arm: {}}
"""
# With shaping, normalization and several checkpoints.
SHORT = """
study: short
environment: {id: ENVIRONMENT}
training:
  total_timesteps: 1000
  n_envs: 4
  normalize: {observations: true, rewards: true}
  hyperparameters: {n_steps: 50, batch_size: 50, n_epochs: 2}
evaluation: {every: 400, episodes: 1, final_episodes: 2}
arms: {arm: {mode: add, weights: {environment: 0.1}}}
"""


def tiny_run() -> RunConfig:
    """Return the run with seed 1 of the tiny study."""
    return _parse_run(TINY, 1)


def short_run(env_id: str) -> RunConfig:
    """Return the run with seed 0 of the short study."""
    return _parse_run(SHORT.replace("ENVIRONMENT", env_id), 0)


def _parse_run(text: str, seed: int) -> RunConfig:
    study = parse_study(yaml.safe_load(text))
    return study.run_config(study.arms["arm"], seed)
