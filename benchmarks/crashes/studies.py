"""The runs that are killed."""

from __future__ import annotations

from shaperun.study.models import RunConfig, parse_study


def tiny() -> RunConfig:
    """A run of a tenth of a second: four rollouts, and evaluations before, between and after."""
    study = parse_study(
        {
            "study": "tiny",
            "environment": {"id": "CartPole-v1"},
            "training": {
                "total_timesteps": 256,
                "n_envs": 2,
                "normalize": {"observations": True},
                "hyperparameters": {
                    "n_steps": 32,
                    "batch_size": 64,
                    "n_epochs": 2,
                    "policy_kwargs": {"net_arch": [8]},
                },
            },
            "evaluation": {"every": 100, "episodes": 2, "final_episodes": 3},
            "arms": {"arm": {}},
        }
    )
    return study.run_config(study.arms["arm"], 1)


def run_of(env_id: str) -> RunConfig:
    """A short run with shaping, normalisation and several checkpoints."""
    study = parse_study(
        {
            "study": "moments",
            "environment": {"id": env_id},
            "training": {
                "total_timesteps": 1_000,
                "n_envs": 4,
                "normalize": {"observations": True, "rewards": True},
                "hyperparameters": {"n_steps": 50, "batch_size": 50, "n_epochs": 2},
            },
            "evaluation": {"every": 400, "episodes": 1, "final_episodes": 2},
            "arms": {"arm": {"mode": "add", "weights": {"environment": 0.1}}},
        }
    )
    return study.run_config(study.arms["arm"], 0)
