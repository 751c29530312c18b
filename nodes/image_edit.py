"""ByG Image Edit: prepare pictures and an instruction for stock samplers."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..byg_train.media.fit import Size
from ..byg_train.models.lora_file import LoraInfo
from .edit import AROUND, EXACT, TRAINED, both_with_source, shown, text_note, working
from .host import sampling as host
from .host.source import Conditioning
from .pixels import checked_images, checked_mask, fitted, fitted_mask
from .sockets import FIT, INFO, Restore, advanced, reporting, schema

NAME, AREA = "ByG Image Edit", "megapixels"


class ImageEdit(io.ComfyNode):
    """Turns source pictures and an instruction into the inputs of a stock sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_ImageEdit",
            "ByG/image",
            inputs=[
                io.Conditioning.Input("positive"),
                io.Vae.Input("vae"),
                io.Image.Input("image"),
                io.Conditioning.Input("negative", optional=True),
                io.Mask.Input("mask", optional=True),
                INFO.Input("info", optional=True),
                io.Combo.Input(
                    "size_mode", options=[TRAINED, AREA, EXACT, AROUND], default=TRAINED
                ),
                io.Float.Input("megapixels", default=1.0, min=0.01, max=8.0, step=0.01),
                io.Int.Input("width", default=1024, min=16, max=8192, step=8),
                io.Int.Input("height", default=1024, min=16, max=8192, step=8),
                io.Int.Input("batch_size", default=1, min=1, max=64),
                advanced(io.Float.Input("context", default=1.5, min=1.0, max=10.0, step=0.1)),
            ],
            outputs=[
                io.Conditioning.Output("edit_positive"),
                io.Conditioning.Output("edit_negative"),
                io.Latent.Output("latent"),
                io.Image.Output("seen"),
                FIT.Output("fit"),
            ],
            found_by=[
                "edit conditioning",
                "reference latent",
                "kontext",
                "instruct",
                "image to image",
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: Conditioning,
        vae: Any,
        image: Tensor,
        negative: Conditioning | None = None,
        mask: Tensor | None = None,
        info: LoraInfo | None = None,
        size_mode: str = TRAINED,
        megapixels: float = 1.0,
        width: int = 1024,
        height: int = 1024,
        batch_size: int = 1,
        context: float = 1.5,
    ) -> io.NodeOutput:
        with reporting(NAME):
            host.checked_vae(vae, frames=False)
            images = checked_images(image, "image")
            mask = checked_mask(mask, images, "picture")
            at = working(
                images, mask, vae, info, size_mode, context=context,
                resolution=math.sqrt(megapixels) * 1024, size=Size(width, height),
            )  # fmt: skip
            seen = fitted(at.fit, at.part(images))
            source = host.encode(vae, seen).repeat_interleave(batch_size, dim=0)
            latent = {"samples": source}
            if mask is not None:
                soft = fitted_mask(at.fit, at.part(mask)).expand(len(images), -1, -1)
                latent["noise_mask"] = soft.repeat_interleave(batch_size, dim=0)[:, None]
            both = both_with_source(positive, negative, source, info)
            notes = [*text_note(positive, info), at.note]
        restore = Restore(at.fit, images, mask, variations=batch_size, box=at.box)
        return io.NodeOutput(*both, latent, seen, restore, ui=shown(NAME, notes, at.fit.outer))


NODE = ImageEdit
