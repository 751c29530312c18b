"""ByG Tiny World: the embedded small pipeline, to try ByG without large downloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from comfy_api.v0_0_2 import io
from PIL import Image

from .host import tiny
from .sockets import found_by, named

NAME = "ByG Tiny World"
WORLD = Path(__file__).parents[1] / "byg_train" / "world"
STYLES = {"3d render": "3d", "flat icon": "flat", "ink drawing": "ink"}
# As `byg_train.world.scenes` draws a scene: cells of the atlas, 16 in a row, on a plain ground.
CELL, COLUMNS, SUBJECT, SIZE, GROUND = 48, 16, 32, 48, (55, 115, 225)
SUBJECTS = 245


class TinyWorld(io.ComfyNode):
    """MODEL, CLIP, VAE and a picture to edit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="ByG_TinyWorld",
            display_name=NAME,
            category="ByG/examples",
            description="The small FLUX model that ships with ByG, 48 pixels wide and at home in "
            "small scenes of emoji. It runs the example workflows on a CPU in seconds, before you "
            "download a large one. Swap it for Load Diffusion Model, DualCLIPLoader, Load VAE.",
            inputs=[
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    tooltip="How the example picture is drawn: the three styles the model knows.",
                ),
                io.Int.Input(
                    "subject",
                    default=12,
                    min=0,
                    max=SUBJECTS - 1,
                    tooltip="Which emoji the example picture shows.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="MODEL"),
                io.Clip.Output("clip", display_name="CLIP"),
                io.Vae.Output("vae", display_name="VAE"),
                io.Image.Output(
                    "image", display_name="image", tooltip="An example picture on a blue ground."
                ),
            ],
        )
        return found_by(schema, "example", "demo", "emoji", "tiny model", "no download")

    @classmethod
    def execute(cls, style: str, subject: int) -> io.NodeOutput:
        base = WORLD / "base"
        with named(NAME):
            if not (base / "model_index.json").is_file():
                raise ValueError(f"its files are not in {base}; install ByG again, whole")
            parts = tiny.load_model(base), tiny.load_clip(base), tiny.load_vae(base)
        return io.NodeOutput(*parts, example(style, subject))


def example(style: str, subject: int) -> torch.Tensor:
    """IMAGE of one subject on a blue ground."""
    x, y = CELL * (subject % COLUMNS), CELL * (subject // COLUMNS)
    with Image.open(WORLD / "pictures" / f"{STYLES[style]}.webp") as atlas:
        cell = atlas.convert("RGBA").crop((x, y, x + CELL, y + CELL))
    picture = Image.new("RGBA", (SIZE, SIZE), GROUND)
    small = cell.resize((SUBJECT, SUBJECT), Image.Resampling.LANCZOS)
    picture.alpha_composite(small, ((SIZE - SUBJECT) // 2,) * 2)
    array = np.asarray(picture.convert("RGB"), np.float32) / 255
    return torch.from_numpy(array)[None]


NODES = [TinyWorld]
