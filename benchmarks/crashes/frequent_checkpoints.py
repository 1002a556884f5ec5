"""python -m benchmarks.crashes.frequent_checkpoints: shaperun, with frequent checkpoints.

Jobs name their function by text, so that here workers call this module in place of the real one.
"""

from __future__ import annotations

from typing import Any

SECONDS = 0.3  # between checkpoints: short, so that many are interrupted

if __name__ == "__main__":  # the driver, which imports no learner
    from shaperun.__main__ import main
    from shaperun.runs import driver

    driver.TRAINING = "benchmarks.crashes.frequent_checkpoints"
    main()
else:
    from shaperun.training import recorder, train


def train_cohort(*arguments: Any) -> None:
    """Train a cohort as `shaperun.training.train` does."""
    recorder.CHECKPOINT_SECONDS = SECONDS
    train.train_cohort(*arguments)
