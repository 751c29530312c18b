"""Processors of vision-language models that are shown pictures alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import ProcessorMixin


def load_processor(name: str) -> ProcessorMixin:
    """Load the model's processor; without torchvision, one that accepts only pictures."""
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    try:
        return AutoProcessor.from_pretrained(name)
    except ImportError:
        # Qwen's processors want torchvision for videos, which we show as pictures. Its builds must
        # match those of torch, so no extra of ours brings it.
        base = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(name))]

    return pictures_only(base).from_pretrained(name)


def pictures_only(base: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return a processor without its part for videos."""

    class PicturesOnly(base):
        def __init__(
            self,
            image_processor: object = None,
            tokenizer: object = None,
            chat_template: str | None = None,
        ) -> None:
            super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    return PicturesOnly
