"""Run a program as `python -m` does, and write how long its PPO learns: one clock for all sides.

python -m benchmarks.speed.ppo_clock OUT MODULE ARGUMENTS…

Imports, the creation of environments and what follows the last update are not counted. The other
side's Python runs this file too, so it needs nothing but stable-baselines3.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from stable_baselines3 import PPO


def main() -> None:
    """Run the module with a clock around `PPO.learn`."""
    out, module, *arguments = sys.argv[1:]
    learn = PPO.learn

    def clocked(self: PPO, *args: Any, **kwargs: Any) -> PPO:
        start = perf_counter()
        model = learn(self, *args, **kwargs)
        timing = {"seconds": perf_counter() - start, "steps": self.num_timesteps}
        Path(out).write_text(json.dumps(timing), encoding="utf-8")
        return model

    PPO.learn = clocked  # type: ignore[method-assign,assignment]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
