"""How far a run is: its counters, and what follows from them and the configuration alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from ..config import TrainConfig
from ..progress import Phase

# So many gradients in a row that cannot be used are no accident.
SKIPS = 20


class TrainingError(RuntimeError):
    """The run cannot go on; what was saved before stays valid."""


@dataclass
class State:
    """Counters of a run, in optimiser steps."""

    step: int = 0  # all steps taken, warm-up included
    warmup: int | None = None  # how many of them were warm-up; None while it lasts
    identity: dict[str, float] = field(default_factory=dict)  # the warm-up's running loss by expert
    # The identity loss of every expert on held-out items when the warm-up had ended.
    copied: dict[str, float] = field(default_factory=dict)
    checked: int | None = None  # the method's own step of the last gradient check
    helped: int = 0  # updates of the network beside the editor since its last step
    skipped: int = 0  # updates in a row whose gradient was not used

    @classmethod
    def of(cls, counters: dict[str, Any]) -> State:
        """Read a state as it was saved, by an older version too, which counted more."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in counters.items() if name in known})

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
        """Whether the check that is made once in `every` steps is due, or was missed."""
        return self.checked is None or self.main_step // every > self.checked // every

    def note_skip(self, *, skipped: bool) -> None:
        """Count an update; TrainingError where none was usable for a long time."""
        self.skipped = self.skipped + 1 if skipped else 0
        if self.skipped == SKIPS:
            raise TrainingError(
                f"{SKIPS} updates in a row had gradients above optimizer.skip_above, or none that "
                "are numbers; the last checkpoint is intact: lower optimizer.lr and resume from it"
            )

    def note_identity(self, expert: str, loss: float) -> None:
        """Take an expert's loss of a warm-up step into its running one."""
        self.identity[expert] = 0.9 * self.identity.get(expert, loss) + 0.1 * loss

    def still_warming_up(self, config: TrainConfig, experts: Iterable[str]) -> list[str]:
        """The experts whose warm-up must go on; once it is measured, `identity` must have all."""
        w = config.warmup
        if self.step >= w.max_steps:
            return []
        if self.step < w.min_steps:
            return list(experts)
        return [] if w.until is None else [e for e in experts if not self.identity[e] < w.until]
