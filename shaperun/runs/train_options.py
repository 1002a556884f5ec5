"""Options of training that do not affect the results of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainOptions:
    """Options of training besides the configuration of a run.

    Training pauses at the first rollout that starts after `until` environment steps, if given.
    """

    tensorboard: bool = False
    until: int | None = None

    def pauses_at(self, timesteps: int) -> bool:
        """Return whether training pauses at a rollout that starts after this many steps."""
        return self.until is not None and timesteps >= self.until
