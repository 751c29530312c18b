"""How far a run is: its counters, and what follows from them and the configuration alone."""

from __future__ import annotations

from dataclasses import dataclass

from .config import TrainConfig
from .progress import Phase


@dataclass
class State:
    """Counters of a run; all in optimiser steps but `micro`."""

    step: int = 0  # all steps taken, warm-up included
    warmup: int | None = None  # how many of them were warm-up; None while it lasts
    micro: int = 0  # micro-batches taken: the position in the data order
    identity: float | None = None  # running identity loss of the warm-up
    checked: int | None = None  # the method's own step of the last gradient check

    @property
    def warming_up(self) -> bool:
        """Whether the method itself has not begun."""
        return self.warmup is None

    @property
    def main_step(self) -> int:
        """Steps of the method itself."""
        return 0 if self.warmup is None else self.step - self.warmup

    def finished(self, config: TrainConfig) -> bool:
        """Whether all steps are taken."""
        return self.main_step >= config.train.steps

    def phase(self, config: TrainConfig) -> Phase:
        """What is being done, how far, and of how many steps; of a measured warm-up, at most."""
        w = config.warmup
        most = w.min_steps if w.until is None else w.max_steps
        if self.warming_up and most:
            return Phase(most, "warm-up", self.step)
        return Phase(config.train.steps, "training", self.main_step)

    def check_is_due(self, every: int) -> bool:
        """Once in `every` steps: where one is missed, at the next that asks."""
        return self.checked is None or self.main_step // every > self.checked // every

    def note_identity(self, loss: float) -> None:
        """Take the loss of a warm-up step into the running one."""
        before = loss if self.identity is None else self.identity
        self.identity = 0.9 * before + 0.1 * loss
