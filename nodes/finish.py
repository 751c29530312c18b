"""ByG Finish: restore the source's size, length, rate and sound for the result of an edit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from comfy_api.v0_0_2 import InputImpl, Types, io
from torch import Tensor

from .pixels import (
    checked_images,
    checked_mask,
    colour_matched,
    even_sized,
    feathered,
    fitted,
    fitted_mask,
    restored,
)
from .sockets import FIT, Restore, advanced, named, schema

NAME = "ByG Finish"
OFF, MEAN_STD = "off", "mean/std"


class Finish(io.ComfyNode):
    """Turns decoded pictures into the final result."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_Finish",
            "ByG/util",
            inputs=[
                io.Image.Input("images"),
                FIT.Input("fit"),
                io.Mask.Input("mask", optional=True),
                io.Boolean.Input("match_size", default=True),
                io.Boolean.Input("match_length", default=True),
                io.Boolean.Input("keep_outside_mask", default=True),
                io.Int.Input("feather", default=8, min=0, max=256),
                advanced(io.Combo.Input("color_match", options=[OFF, MEAN_STD], default=OFF)),
            ],
            outputs=[io.Image.Output("finished"), io.Video.Output("video")],
            found_by=["restore size", "uncrop", "composite", "undo padding", "audio back"],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        fit: Restore,
        mask: Tensor | None = None,
        match_size: bool = True,
        match_length: bool = True,
        keep_outside_mask: bool = True,
        feather: int = 8,
        color_match: str = OFF,
    ) -> io.NodeOutput:
        with named(NAME):
            images = checked_images(images, "images")
            what = "picture" if fit.clip is None else "frame"
            mask = checked_mask(mask, fit.source, what) if mask is not None else fit.mask
            images, source, mask = _paired(images, fit, mask, match_length)
            whole = source
            if fit.box is not None:
                source = fit.box.of(source)
                mask = None if mask is None else fit.box.of(mask)
            if match_size:
                images = restored(fit.fit, images)
            else:
                source = fitted(fit.fit, source)
                mask = None if mask is None else fitted_mask(fit.fit, mask)
            if color_match == MEAN_STD:
                images = colour_matched(images, source)
            if keep_outside_mask and mask is not None:
                soft = feathered(mask, feather)[..., None].to(images)
                images = torch.where(soft > 0, torch.lerp(source.to(images), images, soft), source)
            if fit.box is not None and match_size:
                images = fit.box.into(whole, images)
            return io.NodeOutput(images, _video(images, fit, match_length))


def _paired(
    images: Tensor, fit: Restore, mask: Tensor | None, match_length: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pair each result with its source and its mask."""
    source, mask = fit.source, None if mask is None else mask.expand(len(fit.source), -1, -1)
    if fit.clip is None:
        expected = len(source) * fit.variations
        order = [i // fit.variations for i in range(expected)]
        if len(images) != expected:
            times = len(images) * fit.variations / expected
            cure = "connect the whole batch"
            if len(images) > expected and times.is_integer():
                cure = (
                    f"in place of Repeat Latent Batch set batch_size of the Edit node to "
                    f"{times:g}, in place of Latent Batch batch the pictures in front of it"
                )
            raise ValueError(
                f"images: {len(images)}, wanted {expected} ({len(source)} sources, "
                f"{fit.variations} variations of each); {cure}"
            )
        return images, source[order], None if mask is None else mask[order]
    plan = fit.clip.frames
    if len(images) > len(plan.seen) and not len(images) % len(plan.seen):
        raise ValueError(
            f"images: {len(images)} frames are {len(images) // len(plan.seen)} clips one behind "
            f"the other, and a fit is of one; take Repeat Latent Batch out, and queue the graph "
            f"again with another seed"
        )
    if len(images) != len(plan.seen):
        raise ValueError(
            f"images: {len(images)} frames, the edit worked on {len(plan.seen)}; connect VAE "
            f"Decode directly, and cut or interpolate after this node"
        )
    if match_length:
        return images[list(plan.back)], source, mask
    seen = list(plan.seen[: plan.count])
    return images[: plan.count], source[seen], None if mask is None else mask[seen]


def _video(images: Tensor, fit: Restore, match_length: bool) -> Any | None:
    """Make a VIDEO of a clip; None for pictures."""
    if fit.clip is None:
        return None
    rate = fit.clip.fps if match_length else Fraction(fit.clip.model_fps).limit_denominator(1001)
    images = even_sized(images)
    parts = Types.VideoComponents(images=images, audio=fit.clip.audio, frame_rate=rate)
    return InputImpl.VideoFromComponents(parts)


NODE = Finish
