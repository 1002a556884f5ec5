"""The study of the training rows."""

from __future__ import annotations

import json
from pathlib import Path

N_ENVS = 16
HYPERPARAMETERS = {
    "n_steps": 1024,
    "batch_size": 64,
    "n_epochs": 4,
    "gamma": 0.999,
    "gae_lambda": 0.98,
    "ent_coef": 0.01,
}
ROLLOUT = N_ENVS * HYPERPARAMETERS["n_steps"]

WEIGHTS = {
    "distance": 200,
    "velocity": 50,
    "angle": 50,
    "legs": 10,
    "main_engine": 0.3,
    "side_engine": 0.03,
}


def write_study(
    folder: Path,
    *,
    rollouts: int,
    seeds: list[int],
    engine: str = "auto",
    backend: str = "gymnasium",
) -> Path:
    """Write a study of one shaped arm with the tuned hyperparameters of LunarLander.

    Shaping is computed, added and recorded as usual, but its scale is so small that it is lost in
    the rounding of the sum. The policy is, to the byte, the policy without shaping, so both sides
    of a comparison fly, crash and restart alike: a policy that crashes restarts far more often
    than one that lands, and restarts take time.
    """
    document = {
        "study": "benchmark",
        "environment": {"id": "LunarLander-v3", "backend": backend},
        "training": {
            "algorithm": "PPO",
            "engine": engine,
            "total_timesteps": int(rollouts * ROLLOUT),
            "n_envs": N_ENVS,
            "hyperparameters": HYPERPARAMETERS,
        },
        "seeds": seeds,
        # The minimum: one episode before training and one after it.
        "evaluation": {"every": 1_000_000_000, "episodes": 1, "final_episodes": 1},
        "arms": {"shaped": {"mode": "add", "weights": WEIGHTS, "scale": 1e-30}},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML
    return path
