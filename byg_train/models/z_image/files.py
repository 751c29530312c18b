"""The parts of a Z-Image."""

from __future__ import annotations

from ..picture_files import PictureFiles

FILES = PictureFiles(
    {"vae": True, "text_encoder": True, "tokenizer": False}, example="Tongyi-MAI/Z-Image"
)
