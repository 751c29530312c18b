"""ByG Image Edit: prepare pictures and an instruction for stock samplers."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..byg_train.media.fit import Size
from ..byg_train.models.lora_file import LoraInfo
from .edit import (
    EXACT,
    INFO_IN,
    NEGATIVE,
    POSITIVE,
    TRAINED,
    both_with_source,
    height_input,
    shown,
    text_note,
    width_input,
    working_fit,
)
from .host import sampling as host
from .host.source import Conditioning
from .pixels import checked_images, checked_mask, fitted, fitted_mask
from .sockets import FIT, Restore, found_by, named

NAME, AREA = "ByG Image Edit", "megapixels"


class ImageEdit(io.ComfyNode):
    """Turns source pictures and an instruction into the inputs of a stock sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="ByG_ImageEdit",
            display_name=NAME,
            category="ByG/image",
            description="Gives FLUX or Z-Image the picture to edit. Nothing is cut off: the "
            "picture is scaled, and its border repeated up to whole tokens. ByG Finish takes that "
            "back.",
            inputs=[
                POSITIVE,
                io.Vae.Input(
                    "vae", tooltip="The VAE of the base model (FLUX.1 and Z-Image: ae.safetensors)."
                ),
                io.Image.Input(
                    "image", tooltip="The picture to edit. Of a batch each is edited on its own."
                ),
                NEGATIVE,
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White may change, black is kept. One mask, or one for each picture.",
                ),
                INFO_IN,
                io.Combo.Input(
                    "size_mode",
                    options=[TRAINED, AREA, EXACT],
                    default=TRAINED,
                    tooltip="The size to work at. As trained: about the area the LoRA was trained "
                    "on (needs info, else megapixels). The result gets its own size in ByG Finish.",
                ),
                io.Float.Input(
                    "megapixels",
                    default=1.0,
                    min=0.01,
                    max=8.0,
                    step=0.01,
                    tooltip="Working area in units of 1024 x 1024 pixels, for 'megapixels'.",
                ),
                width_input(1024),
                height_input(1024),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Variations of every picture.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("edit_positive", display_name="positive"),
                io.Conditioning.Output("edit_negative", display_name="negative"),
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The source, with the mask: for latent_image of the sampler.",
                ),
                io.Image.Output("seen", display_name="image", tooltip="What the model sees."),
                FIT.Output("fit", display_name="fit", tooltip="For ByG Finish."),
            ],
        )
        return found_by(
            schema, "edit conditioning", "reference latent", "kontext", "instruct", "image to image"
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
    ) -> io.NodeOutput:
        with named(NAME):
            host.checked_vae(vae, frames=False)
            images = checked_images(image, "image")
            mask = checked_mask(mask, images, "picture")
            fit = working_fit(
                images, vae, info, size_mode,
                resolution=math.sqrt(megapixels) * 1024, size=Size(width, height),
            )  # fmt: skip
            seen = fitted(fit, images)
            source = host.encode(vae, seen).repeat_interleave(batch_size, dim=0)
            latent = {"samples": source}
            if mask is not None:
                soft = fitted_mask(fit, mask).expand(len(images), -1, -1)
                latent["noise_mask"] = soft.repeat_interleave(batch_size, dim=0)[:, None]
            both = both_with_source(positive, negative, source, info)
            notes = text_note(positive, info)
        restore = Restore(fit, images, mask, variations=batch_size)
        return io.NodeOutput(*both, latent, seen, restore, ui=shown(NAME, notes))


NODES = [ImageEdit]
