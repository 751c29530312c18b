"""ByG Tiny World: the embedded small pipelines, to try ByG without large downloads."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io

from ..byg_train.family import registry
from ..byg_train.media.pixels import to_unit
from ..byg_train.world import clips, names, scenes
from .host.families import open_embedded
from .sockets import named, schema

NAME = "ByG Tiny World"
# What it opens -> the model family.
MEDIA = {family.embedded.media: family for family in registry().values() if family.embedded}
STYLES = {phrase: style for style, phrase in names.STYLE_PHRASE.items()}
GROUND, MOTION = "blue", "right"  # of the examples


class TinyWorld(io.ComfyNode):
    """Loads MODEL, CLIP, VAE and something to edit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_TinyWorld",
            "ByG/examples",
            inputs=[
                io.Combo.Input("media", options=list(MEDIA)),
                io.Combo.Input("style", options=list(STYLES)),
                io.Combo.Input(
                    "subject", options=sorted({*names.KNOWN, *names.HELD_OUT}), default="fox"
                ),
            ],
            outputs=[
                io.Model.Output("model"),
                io.Clip.Output("clip"),
                io.Vae.Output("vae"),
                io.Image.Output("image"),
                io.Model.Output("model_low"),
            ],
            found_by=["example", "demo", "emoji", "tiny model", "no download"],
        )

    @classmethod
    def execute(cls, media: str, style: str, subject: str) -> io.NodeOutput:
        with named(NAME):
            parts = open_embedded(MEDIA[media].name)
        picture = example(media, style, subject)
        return io.NodeOutput(parts.model, parts.clip, parts.vae, picture, parts.model_low)


def example(media: str, style: str, subject: str) -> torch.Tensor:
    """Draw one subject on a blue ground; a clip as its frames."""
    if MEDIA[media].is_video:
        frames = clips.draw(clips.Clip(subject, STYLES[style], GROUND, MOTION))
    else:
        frames = scenes.draw(scenes.Scene(subject, STYLES[style], GROUND, "plain"))[None]
    return torch.from_numpy(to_unit(frames))


NODE = TinyWorld
