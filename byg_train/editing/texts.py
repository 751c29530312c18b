"""Prompt embeddings of many texts, each encoded once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..models.backbone import Backbone, Text

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
