"""What a whole run will take on this machine, said once, from its first timed steps."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from ..config import TrainConfig
from ..progress import rough
from .cost import StepCost, validation_cost

# Full steps that are timed, after the slower first; fewer where they take so many seconds.
TIMED, ENOUGH = 8, 60.0


class Forecast:
    """Times full steps until it can say how long the rest of a run takes."""

    def __init__(self, config: TrainConfig, step: StepCost, later: float = 0.0) -> None:
        """`later`: what follows on the training, in F of one item (`StepCost`'s unit)."""
        self.config, self.step, self.later = config, step, later
        self.seconds: list[float] = []
        self.said = False

    def note(self, record: dict, done: int) -> str | None:
        """Take in a step's record when `done` steps of the method are done; a sentence, once."""
        if self.said or record["kind"] != "full":
            return None
        self.seconds.append(record["seconds"])
        timed = self.seconds[1:]
        if not timed or (len(timed) < TIMED and sum(timed) < ENOUGH):
            return None
        self.said = True
        left = dict(self._left(median(timed), done))
        parts = ", ".join(f"{what} {rough(seconds)}" for what, seconds in left.items())
        return (
            f"A full step takes {median(timed):.2f} s on this machine. To come: {parts}; "
            f"{rough(sum(left.values()))} in all"
        )

    def _left(self, full: float, done: int) -> Iterator[tuple[str, float]]:
        """Seconds of all that is left."""
        train, cost = self.config.train, self.step
        forward = full / (cost.full * train.global_batch)  # of one item
        yield "training", (train.steps - done) * full * cost.mean / cost.full
        validations = 1  # the last one
        if train.sample_every:
            validations += (train.steps - 1) // train.sample_every - done // train.sample_every
        validation = validation_cost(self.config) * self.config.sample.count * forward
        yield "samples", validations * validation
        if self.later:
            yield "measuring", self.later * forward
