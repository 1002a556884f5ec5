"""Train with SBX's PPO and write how long it learns; run by SBX's Python.

python -m benchmarks.speed.sbx_clock OUT ROLLOUTS SEED
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

from sbx import PPO  # type: ignore[import-not-found]
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.speed.study import HYPERPARAMETERS, N_ENVS, ROLLOUT

WARM_UP = 2  # rollouts: the optimizer's state has another structure in the second update


def main() -> None:
    """Compile first, then learn with a clock."""
    out, rollouts, seed = sys.argv[1:]
    # With the render mode that make_vec_env would choose, LunarLander steps half as fast.
    envs = make_vec_env("LunarLander-v3", N_ENVS, int(seed), env_kwargs={"render_mode": None})
    model = PPO("MlpPolicy", envs, seed=int(seed), **HYPERPARAMETERS)
    # JAX compiles a function at its first call, which takes as long as a rollout and is not
    # counted: everything is called once, then the initial policy is restored. A new model would
    # be compiled again.
    policy = model.policy
    untrained = policy.actor_state, policy.vf_state
    model.learn(WARM_UP * ROLLOUT)
    policy.actor_state, policy.vf_state = untrained
    start = perf_counter()
    model.learn(int(rollouts) * ROLLOUT)
    timing = {"seconds": perf_counter() - start, "steps": model.num_timesteps}
    Path(out).write_text(json.dumps(timing), encoding="utf-8")


if __name__ == "__main__":
    main()
