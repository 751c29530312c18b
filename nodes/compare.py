"""ByG Compare: a slider between two pictures or clips, and both in one picture."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..byg_train.media.grid import labelled_grid
from .host.previews import save_clip, save_pictures
from .pixels import checked_images, even_sized, to_image, to_picture
from .sockets import named, schema

NAME = "ByG Compare"
SIDE, WIPE, DIFFERENCE = "side by side", "wipe", "difference x4"
# Below this many pixels a picture is enlarged, so that its label can be read.
READABLE = 192
SWEEP = 25  # frames of a wipe over a still
LINE = 2  # half the width of its edge, pixels of 512
# The slider's file: pixels of a longer side, and from how many pictures on they are a clip.
LONGEST, CLIP = 2048, 17
USUAL_FPS = 16.0
FILE = "byg_compare"


class Compare(io.ComfyNode):
    """Shows what an edit changed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_Compare",
            "ByG/util",
            inputs=[
                io.Image.Input("a"),
                io.Image.Input("b"),
                io.Combo.Input("mode", options=[SIDE, WIPE, DIFFERENCE], default=SIDE),
                io.String.Input("label_a", default="source"),
                io.String.Input("label_b", default="edit"),
                io.Float.Input("fps", default=0.0, min=0.0, max=1000.0, step=0.01),
            ],
            outputs=[io.Image.Output("image")],
            is_output_node=True,
            found_by=["before after", "slider", "side by side", "wipe", "difference", "diff"],
        )

    @classmethod
    def execute(
        cls, a: Tensor, b: Tensor, mode: str, label_a: str, label_b: str, fps: float = 0.0
    ) -> io.NodeOutput:
        with named(NAME):
            a, b = _paired(checked_images(a, "a"), checked_images(b, "b"))
        if mode == DIFFERENCE:
            compared = ((a - b).abs() * 4).clamp(0, 1)
        elif mode == WIPE:
            compared = _wipe(a, b)
        else:
            compared = _side_by_side(a, b, [label_a, label_b])
        slider = {"before_after": _halves(a, b, fps), "labels": [label_a, label_b]}
        return io.NodeOutput(even_sized(compared), ui=slider)


def _halves(a: Tensor, b: Tensor, fps: float) -> list[dict[str, Any]]:
    """Save a and b in the halves of a picture or clip, for web/compare.js."""
    longer = max(a.shape[1:3])
    if longer > LONGEST:
        size = [max(1, round(side * LONGEST / longer)) for side in a.shape[1:3]]
        a, b = _at(a, size), _at(b, size)
    both = torch.cat([even_sized(a), even_sized(b)], dim=2)
    if fps or len(both) >= CLIP:
        return [{**save_clip(both, FILE, fps or USUAL_FPS), "clip": True}]
    return [{**file, "clip": False} for file in save_pictures(both, FILE)]


def _at(images: Tensor, size: list[int]) -> Tensor:
    pixels = F.interpolate(images.movedim(-1, 1), size, mode="bilinear", antialias=True)
    return pixels.movedim(1, -1).clamp(0, 1)


def _side_by_side(a: Tensor, b: Tensor, labels: list[str]) -> Tensor:
    cell = max(READABLE, *a.shape[1:3])
    sheets = [
        labelled_grid([[to_picture(x), to_picture(y)]], labels, None, cell)
        for x, y in zip(a, b, strict=True)
    ]
    return torch.cat([to_image(sheet) for sheet in sheets])


def _paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Pair the frames of a and b, with b at a's size; a single one is paired with all."""
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(
            f"a has {len(a)} pictures and b {len(b)}; wanted as many, or one. Of a clip compare "
            f"what ByG Finish returns, which has the source's length"
        )
    if b.shape[1:3] != a.shape[1:3]:
        b = _at(b, list(a.shape[1:3]))
    n = max(len(a), len(b))
    return a.expand(n, -1, -1, -1), b.to(a).expand(n, -1, -1, -1)


def _wipe(a: Tensor, b: Tensor) -> Tensor:
    """Move a vertical edge between a and b from left to right over the frames."""
    if len(a) == 1:
        a, b = a.expand(SWEEP, -1, -1, -1), b.expand(SWEEP, -1, -1, -1)
    width = a.shape[2]
    edges = torch.linspace(0, width, len(a))[:, None, None, None]
    x = (torch.arange(width) + 0.5)[None, None, :, None]
    wiped = torch.where(x < edges, a, b)
    return torch.where((x - edges).abs() < max(1.0, LINE * width / 512), 1.0, wiped)


NODE = Compare
