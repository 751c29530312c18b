"""What reports compare: an editor, and the baselines on its base, over the world's edits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..editing.flowedit import FlowEditSettings, edit_by_flowedit
from ..editing.opening import open_lora
from ..media.pixels import to_batch
from .judge import PICTURES, Frames, Judge

# FLUX.1-dev's numbers, but for the guidance, which suits the tiny base: the best of eight settings
# on known names (benchmarks/flowedit_settings.py).
FLOWEDIT = FlowEditSettings(guidance_src=1.0, guidance_tgt=2.0)


class Methods:
    """Methods (label, edits) -> frames of each edit, by one LoRA and its base."""

    def __init__(
        self, lora: Path, judge: Judge = PICTURES, device: str = "cpu", seed: int = 0
    ) -> None:
        """Load the LoRA on its base; `seed` draws the noise that every method starts from."""
        self.editor, self.judge, self.seed = open_lora(lora, None).load(device), judge, seed

    def edit(self, label: str, edits: Sequence[Any]) -> list[Frames]:
        """Edit the sources by their instructions."""
        x = self.latents([e.source for e in edits])
        texts = [e.instruction for e in edits]
        return self._results(self.editor.sample(x, texts, x, seed=self.seed))

    def text_to_image(self, label: str, edits: Sequence[Any]) -> list[Frames]:
        """Draw, or film, the target's caption with the base alone, which never sees the source."""
        like, texts = self.latents([e.source for e in edits]), self._captions(edits, "target")
        return self._results(self.editor.sample(like, texts, seed=self.seed, role="base"))

    def flowedit(
        self, label: str, edits: Sequence[Any], settings: FlowEditSettings = FLOWEDIT
    ) -> list[Frames]:
        """FlowEdit on the base, from the source's caption to the target's."""
        x = self.latents([e.source for e in edits])
        texts = (self._captions(edits, side) for side in ("source", "target"))
        y = edit_by_flowedit(self.editor, x, *texts, seed=self.seed, settings=settings)
        return self._results(y)

    def reconstruct(self, label: str, edits: Sequence[Any]) -> list[Frames]:
        """The true targets through the VAE: the best that any edit of latents could reach."""
        return self._results(self.latents([e.target for e in edits]))

    def latents(self, drawn: Sequence[Any]) -> Tensor:
        """What the VAE makes of scenes or clips: (B, C, F, h, w)."""
        return self.editor.backbone.encode_pixels(to_batch(map(self.judge.levels, drawn)))

    def _captions(self, edits: Sequence[Any], side: str) -> list[str]:
        return [self.judge.caption(getattr(e, side)) for e in edits]

    def _results(self, latents: Tensor) -> list[Frames]:
        pixels = self.editor.decoded(latents)
        return list(((pixels + 1) / 2).permute(0, 2, 3, 4, 1).numpy())
