"""What one optimiser step takes its gradient from: the objectives, by `method.objective`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .byg import BYG
from .npedit import NPEDIT
from .objective import Objective
from .supervised import SUPERVISED

if TYPE_CHECKING:
    from ..config import TrainConfig

OBJECTIVES = {"byg": BYG, "supervised": SUPERVISED, "npedit": NPEDIT}


def objective_of(config: TrainConfig) -> Objective:
    """The objective of a run."""
    return OBJECTIVES[config.method.objective]
