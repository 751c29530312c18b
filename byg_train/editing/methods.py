"""Many edits with one LoRA, and the baselines on the same base: what evaluations compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.backbone import Text, load_backbone
from ..models.sampler import sampling_grid
from .editor import AS_TRAINED, Editor, Wishes, attach
from .flowedit import flowedit

# Texts encoded at once.
AT_ONCE = 16


class FlowEditSettings(NamedTuple):
    """FlowEdit's numbers; the defaults are those published for FLUX.1-dev."""

    steps: int = 28
    n_max: int = 24
    guidance_src: float = 1.5  # of the guidance embedding
    guidance_tgt: float = 5.5

    @classmethod
    def of_steps(cls, steps: int | None) -> FlowEditSettings:
        """So many steps, the published share of which counts; None: those published."""
        published = cls()
        if steps is None:
            return published
        n_max = round(steps * published.n_max / published.steps)
        return published._replace(steps=steps, n_max=n_max)


class Methods:
    """A LoRA on its base, or a bare base, loaded once; latents in and out, of one size per call.

    Texts are encoded once each, ahead by `learn`, so that encoders need not come back for every
    edit. Noise is drawn on the CPU from a seed, the same for every item of a call's shape.
    """

    def __init__(self, editor: Editor, device: str, wishes: Wishes = AS_TRAINED) -> None:
        self.editor, self.info, self.sampling = editor, editor.info, wishes.sampling(editor.info)
        self.backbone = load_backbone(editor.model, device)
        self.bank = attach(editor, self.backbone, strength=1.0)
        self._texts: dict[str, Text] = {}

    def learn(self, texts: Iterable[str]) -> None:
        """Encode texts, and free the device of the encoders."""
        new = [t for t in dict.fromkeys((*texts, self.sampling.negative)) if t not in self._texts]
        for i in range(0, len(new), AT_ONCE):
            batch = new[i : i + AT_ONCE]
            encoded = self.backbone.encode_text(batch)
            for row, text in enumerate(batch):
                self._texts[text] = {name: e[row].cpu() for name, e in encoded.items()}
        self.backbone.drop_encoders()

    def edit(self, x: Tensor, instructions: Sequence[str], seed: int = 0) -> Tensor:
        """Edits of the sources x (B, C, F, h, w), like x, as the LoRA's metadata says."""
        return self._sampled(x, instructions, x, seed)

    def text_to_image(self, like: Tensor, captions: Sequence[str], seed: int = 0) -> Tensor:
        """The base alone, from the target captions: it never sees the source."""
        with self.bank.using("base"):
            return self._sampled(like, captions, None, seed)

    def flowedit(
        self,
        x: Tensor,
        src: Sequence[str],
        tgt: Sequence[str],
        seed: int = 0,
        settings: FlowEditSettings | None = None,
    ) -> Tensor:
        """FlowEdit on the base, from captions to captions."""
        s = settings or FlowEditSettings()
        grid = sampling_grid(s.steps, self.sampling.shift, x)
        guided = self.info.guidance_sample is not None

        def velocity(y: Tensor, t: Tensor, said: tuple[Text, float]) -> Tensor:
            text, w = said
            return self.backbone.velocity(y, t, text, guidance=w if guided else None)

        with self.bank.using("base"):
            return flowedit(
                velocity,
                x,
                grid.to(x),
                (self._batch(src, x), s.guidance_src),
                (self._batch(tgt, x), s.guidance_tgt),
                torch.Generator().manual_seed(seed),
                n_max=s.n_max,
            )

    def _sampled(
        self, like: Tensor, texts: Sequence[str], source: Tensor | None, seed: int
    ) -> Tensor:
        velocity = partial(self.backbone.velocity, guidance=self.info.guidance_sample)
        negative = None
        if self.sampling.guided:
            negative = self._batch([self.sampling.negative] * len(like), like)
        field = self.sampling.field(
            velocity, self._batch(texts, like), source, negative, self.info.boundary or 0.0
        )
        eps = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return self.sampling.solve(field, eps.to(like))

    def _batch(self, texts: Sequence[str], like: Tensor) -> Text:
        self.learn(texts)
        rows = [self._texts[text] for text in texts]
        return {name: torch.stack([row[name] for row in rows]).to(like.device) for name in rows[0]}
