"""`--vram`: the GPU that settings are chosen for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..config import TrainConfig
from ..progress import CONSOLE

if TYPE_CHECKING:
    from ..data.items import Dataset


class Card(NamedTuple):
    """The GPU that settings are chosen for, and what else was typed."""

    vram: str | None
    assignments: Sequence[str]

    def fitted(
        self, config: TrainConfig, data: Dataset | None, device: str, run: Path | None = None
    ) -> TrainConfig:
        """The settings with which it fits; says which. A run that goes on keeps its own."""
        from ..models.backbone import pixel_multiple
        from ..training.plan import shapes
        from ..training.run_folder import read_config
        from ..training.vram import as_before, choose, room_of, said, set_by_hand

        if self.vram is None:
            return config
        by_hand = set_by_hand(config, self.assignments)
        if run:
            return as_before(config, read_config(run), by_hand)
        room = room_of(self.vram, device)
        fit = choose(config, shapes(config, pixel_multiple(config.model), data), room, by_hand)
        CONSOLE.print(said(fit, room), markup=False, highlight=False, soft_wrap=True)
        return fit.config
