"""ByG Tiny World: the embedded small pipelines, to try ByG without large downloads."""

from __future__ import annotations

import torch
from comfy_api.v0_0_2 import io

from ..byg_train.family import usual_family
from ..byg_train.media.pixels import to_unit
from ..byg_train.world import clips, names, scenes
from .host.families import open_embedded
from .sockets import found_by, named

NAME = "ByG Tiny World"
PICTURE, CLIP = "picture", "clip"
STYLES = {phrase: style for style, phrase in names.STYLE_PHRASE.items()}
GROUND, MOTION = "blue", "right"  # of the examples


class TinyWorld(io.ComfyNode):
    """Loads MODEL, CLIP, VAE and something to edit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="ByG_TinyWorld",
            display_name=NAME,
            category="ByG/examples",
            description="The small FLUX model and the small Wan pair that ship with ByG, 48 pixels "
            "wide and at home in small scenes of emoji. They run the example workflows on a CPU, "
            "before you download a large model. Swap this node for the stock loaders.",
            inputs=[
                io.Combo.Input(
                    "media",
                    options=[PICTURE, CLIP],
                    tooltip="Picture: the FLUX model. Clip: the Wan pair, of high and low noise.",
                ),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    tooltip="How the example is drawn: the three styles the models know.",
                ),
                io.Combo.Input(
                    "subject",
                    options=sorted({*names.KNOWN, *names.HELD_OUT}),
                    default="fox",
                    tooltip="Which emoji the example shows. The Wan pair knows a few of them, such "
                    "as fox, penguin and rabbit.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="MODEL"),
                io.Clip.Output("clip", display_name="CLIP"),
                io.Vae.Output("vae", display_name="VAE"),
                io.Image.Output(
                    "image",
                    display_name="image",
                    tooltip="An example on a blue ground: a picture, or the frames of a clip.",
                ),
                io.Model.Output(
                    "model_low",
                    display_name="model_low",
                    tooltip="The low-noise model of the Wan pair; empty for pictures.",
                ),
            ],
        )
        return found_by(schema, "example", "demo", "emoji", "tiny model", "no download")

    @classmethod
    def execute(cls, media: str, style: str, subject: str) -> io.NodeOutput:
        with named(NAME):
            parts = open_embedded(usual_family(is_video=media == CLIP).name)
        picture = example(media, style, subject)
        return io.NodeOutput(parts.model, parts.clip, parts.vae, picture, parts.model_low)


def example(media: str, style: str, subject: str) -> torch.Tensor:
    """Draw one subject on a blue ground; a clip as its frames."""
    if media == PICTURE:
        frames = scenes.draw(scenes.Scene(subject, STYLES[style], GROUND, "plain"))[None]
    else:
        frames = clips.draw(clips.Clip(subject, STYLES[style], GROUND, MOTION))
    return torch.from_numpy(to_unit(frames))


NODES = [TinyWorld]
