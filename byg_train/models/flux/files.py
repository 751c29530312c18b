"""The parts of a FLUX."""

from __future__ import annotations

from ..picture_files import PictureFiles

FILES = PictureFiles(
    {
        "vae": True,
        "text_encoder": True,
        "text_encoder_2": True,
        "tokenizer": False,
        "tokenizer_2": False,
    },
    example="black-forest-labs/FLUX.1-dev",
)
