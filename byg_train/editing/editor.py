"""The one way to edit: a base with a LoRA in memory, and how the two sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..config import ConfigError
from ..core.flow import noises
from ..core.roles import Velocity
from ..models.backbone import Backbone, Text, sent
from ..models.lora import LoraBank, Role
from ..models.lora_file import LoraInfo
from ..models.sampler import Each, Sampling

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Editable(Protocol[R_co]):
    """What is to be edited: a picture or a clip."""

    pixels: Tensor  # what the model sees: (1, 3, F, H, W) in [-1, 1], of a size that it takes

    def result(self, pixels: Tensor) -> R_co:
        """The edit in the source's own size, from pixels like those that the model saw."""


class Editor:
    """A base with a LoRA, or a bare one; files, live trainings and baselines sample with it.

    Guidance, the experts of a pair, shifts, negative texts, samplers, seeds and texts are dealt
    with here. Latents are (B, C, F, h, w). Noise is drawn on the CPU, so that a seed gives the same
    on every device.
    """

    def __init__(
        self,
        backbone: Backbone,
        bank: LoraBank | None,
        info: LoraInfo,
        *,
        texts: Texts | None = None,
        one_by_one: bool = False,
    ) -> None:
        """Wrap what is loaded.

        Args:
            backbone: the base; `info` says how it is sampled.
            bank: the LoRA in it, which may be in training; None: there is none.
            texts: where embeddings come from, such as a run's cache; None: the backbone's encoders.
            one_by_one: evaluate the items of a batch one after the other, at the memory of one.
        """
        self.backbone, self.bank, self.info = backbone, bank, info
        self.sampling = Sampling.of(info)
        self.texts = EncodedTexts(backbone) if texts is None else texts
        self.one_by_one = one_by_one

    # ------------------------------------------------------------ latents

    def sample(
        self,
        like: Tensor,
        texts: Sequence[str],
        source: Tensor | None = None,
        *,
        seed: int = 0,
        role: Role = "edit",
        each: Each = lambda done, of: None,
    ) -> Tensor:
        """Latents y_0 from the noise of a seed; role `base` without a source is text-to-image.

        Args:
            like: latents of whose shape, type and device the result is.
            texts: B instructions, or captions.
            source: clean latents like `like`; None: the model sees none.
            seed: draws the noise of the whole batch.
            role: which weights sample.
            each: called with (done, of) after every evaluation.
        """
        self.learn(texts)
        eps, text = next(noises(like, seed)), self.embedded(texts, like)
        return self.solve(eps, text, source, seed=seed, role=role, each=each)

    @torch.no_grad()
    def solve(
        self,
        eps: Tensor,
        text: Text,
        source: Tensor | None = None,
        *,
        seed: int = 0,
        role: Role = "edit",
        each: Each = lambda done, of: None,
        fresh: Iterator[Tensor] | None = None,
    ) -> Tensor:
        """Sample as `sample` does, from noise eps (B, C, F, h, w) and the embeddings of B texts.

        Where they are noised anew, by `fresh`, such as a part of what a larger batch would get.
        """
        negative = None
        if self.sampling.guided:
            negative = self.embedded([self.sampling.negative] * len(eps), eps)
        boundary = max((start for start, _ in self.backbone.spans.values()), default=0.0)
        velocity = self.in_turn(partial(self.backbone.velocity, guidance=self.sampling.guidance))
        field = self.sampling.guided_field(velocity, text, source, negative, boundary)
        with self.using(role):
            return self.sampling.solve(field, eps, each, seed, fresh)

    def using(self, role: Role) -> AbstractContextManager[None]:
        """Switch the backbone to a role inside the context; a bare base has only one."""
        return nullcontext() if self.bank is None else self.bank.using(role)

    def in_turn(self, velocity: Velocity) -> Velocity:
        """Return the same velocity, evaluated as `one_by_one` says."""
        return one_by_one(velocity) if self.one_by_one else velocity

    # ------------------------------------------------------------ texts

    def learn(self, texts: Iterable[str]) -> None:
        """Encode texts ahead, and the negative one if it counts; frees the device of encoders."""
        self.texts.learn((*texts, self.sampling.negative) if self.sampling.guided else texts)
        self.backbone.drop_encoders()

    def embedded(self, texts: Sequence[str], like: Tensor) -> Text:
        """The embeddings (B, ...) of B texts that were learned, on the device of `like`."""
        rows = [self.texts.text(text) for text in texts]
        whole = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {name: sent(part, like.device) for name, part in whole.items()}

    # ------------------------------------------------------------ pictures and clips

    def edit(
        self,
        source: Editable[R],
        instruction: str,
        seeds: Sequence[int] = (0,),
        on_progress: Each = lambda done, of: None,
    ) -> Iterator[R]:
        """Edit a picture or a clip once per seed; each result comes as soon as it is finished.

        `on_progress(done, of)` follows every evaluation, and counts those of all seeds.
        """
        x = self.backbone.encode_pixels(source.pixels)
        for i, seed in enumerate(seeds):

            def each(done: int, of: int, i: int = i) -> None:
                on_progress(i * of + done, len(seeds) * of)

            y_0 = self.sample(x, [instruction], x, seed=seed, each=each)
            if not y_0.isfinite().all():
                raise ConfigError(
                    "the edit came out as NaN or infinity, which no picture can show: lower "
                    "strength, cfg and guidance; if they are usual, the LoRA or base is broken"
                )
            yield source.result(self.decoded(y_0))

    def decoded(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, F, H, W) in [-1, 1], on the CPU."""
        return self.backbone.decode_latents(latents).cpu().clamp(-1, 1)


def one_by_one(velocity: Velocity) -> Velocity:
    """Ask for one item at a time: a batch of clips would need a batch's memory."""

    def alone(x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        parts = [slice(i, i + 1) for i in range(len(x_t))]
        v = [
            velocity(
                x_t[one],
                t[one],
                {name: part[one] for name, part in text.items()},
                None if source is None else source[one],
            )
            for one in parts
        ]
        return torch.cat(v)

    return alone


# Texts that are encoded at once.
AT_ONCE = 16


class Texts(Protocol):
    """The source of an editor's embeddings: `EncodedTexts`, or the cache of a run."""

    def learn(self, texts: Iterable[str]) -> None:
        """Encode what is not there yet."""

    def text(self, text: str) -> Text:
        """The embeddings of a text that was learned, without a batch axis."""


class EncodedTexts:
    """Embeddings in main memory."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._known: dict[str, Text] = {}

    def learn(self, texts: Iterable[str]) -> None:
        """Encode what is not there yet."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for i in range(0, len(new), AT_ONCE):
            batch = new[i : i + AT_ONCE]
            encoded = self._backbone.encode_text(batch)
            for row, text in enumerate(batch):
                self._known[text] = {name: e[row].cpu() for name, e in encoded.items()}

    def text(self, text: str) -> Text:
        """The embeddings of a text that was learned, without a batch axis."""
        return self._known[text]
