"""ByG Video Edit: prepare a clip and an instruction for stock samplers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..byg_train.family import usual_family
from ..byg_train.media.fit import Frames, Size
from ..byg_train.models.lora_file import LoraInfo
from .edit import AROUND, EXACT, TRAINED, both_with_source, shown, working
from .host import sampling as host
from .host.source import Conditioning
from .pixels import checked_images, checked_mask, fitted, fitted_mask
from .sockets import FIT, INFO, ClipTiming, Restore, advanced, reporting, schema

NAME, SAME_AREA = "ByG Video Edit", "same area"
# Frames of a latent frame behind the first.
GROUP = usual_family(is_video=True).frame_group


class VideoEdit(io.ComfyNode):
    """Turns a source clip and an instruction into the inputs of stock samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_VideoEdit",
            "ByG/video",
            inputs=[
                io.Conditioning.Input("positive"),
                io.Vae.Input("vae"),
                io.Conditioning.Input("negative", optional=True),
                io.Video.Input("video", optional=True),
                io.Image.Input("frames", optional=True),
                io.Audio.Input("audio", optional=True),
                io.Mask.Input("mask", optional=True),
                INFO.Input("info", optional=True),
                io.Combo.Input(
                    "size_mode", options=[TRAINED, SAME_AREA, EXACT, AROUND], default=TRAINED
                ),
                io.Int.Input("width", default=832, min=16, max=8192, step=8),
                io.Int.Input("height", default=480, min=16, max=8192, step=8),
                io.Int.Input("length", default=81, min=0, max=8192),
                io.Int.Input("start_frame", default=0, min=0, max=1000000),
                io.Float.Input("fps", default=16.0, min=1.0, max=120.0, step=0.01),
                io.Boolean.Input("resample", default=True),
                advanced(io.Float.Input("source_fps", default=0.0, min=0.0, max=1000.0, step=0.01)),
                advanced(io.Boolean.Input("tiled_vae", default=False)),
                advanced(io.Float.Input("context", default=1.5, min=1.0, max=10.0, step=0.1)),
            ],
            outputs=[
                io.Conditioning.Output("edit_positive"),
                io.Conditioning.Output("edit_negative"),
                io.Latent.Output("latent"),
                io.Image.Output("seen"),
                FIT.Output("fit"),
                io.Float.Output("out_fps"),
                io.Audio.Output("out_audio"),
            ],
            found_by=["video to video", "v2v", "restyle video", "edit video", "wan edit"],
        )

    @classmethod
    def execute(
        cls,
        positive: Conditioning,
        vae: Any,
        negative: Conditioning | None = None,
        video: Any = None,
        frames: Tensor | None = None,
        audio: dict[str, Any] | None = None,
        mask: Tensor | None = None,
        info: LoraInfo | None = None,
        size_mode: str = TRAINED,
        width: int = 832,
        height: int = 480,
        length: int = 81,
        start_frame: int = 0,
        fps: float = 16.0,
        resample: bool = True,
        source_fps: float = 0.0,
        tiled_vae: bool = False,
        context: float = 1.5,
    ) -> io.NodeOutput:
        with reporting(NAME):
            host.checked_vae(vae, frames=True)
            fps = fps if info is None or info.fps is None else info.fps
            whole = _source_clip(video, frames, audio, mask, source_fps or fps)
            five_b = host.of_wan_5b(vae)
            if whole.mask is not None and five_b and size_mode != AROUND:
                raise ValueError(
                    "mask: Wan 2.2 5B would give the source's tokens wrong noise levels; connect "
                    "the mask to ByG Finish instead, which keeps the black parts exactly"
                )
            model_fps = fps if resample else float(whole.rate)
            images, rate, audio, mask = whole.part(start_frame, length, model_fps)
            plan = Frames.of(len(images), float(rate), model_fps, group=GROUP)
            at = working(
                images, mask, vae, info, size_mode, context=context,
                resolution=math.sqrt(width * height), size=Size(width, height),
            )  # fmt: skip
            seen = fitted(at.fit, at.part(images)[list(plan.seen)])
            source = host.encode(vae, seen, tiled_vae)
            latent = {"samples": source}
            if mask is not None and not five_b:
                each = at.part(mask).expand(len(images), -1, -1)[list(plan.seen)]
                latent["noise_mask"] = _per_latent_frame(fitted_mask(at.fit, each))
            both = both_with_source(positive, negative, source, info)
            length_note = f"{len(plan.seen)} frames at {model_fps:g} a second"
            notes = [*_frame_notes(plan), f"{at.note}; {length_note}"]
        clip = ClipTiming(plan, rate, model_fps, audio)
        restore = Restore(at.fit, images, mask, clip=clip, box=at.box)
        outputs = (*both, latent, seen, restore, float(rate), audio)
        return io.NodeOutput(*outputs, ui=shown(NAME, notes, at.fit.outer))


# ---------------------------------------------------------------- clips


class ConnectedClip(NamedTuple):
    """The clip that is connected to the node."""

    images: Tensor  # (F, H, W, 3) in [0, 1]
    rate: Fraction  # frames per second
    audio: dict[str, Any] | None
    mask: Tensor | None  # (1, H, W) or (F, H, W), 1 = may change

    def part(self, start: int, length: int, model_fps: float) -> ConnectedClip:
        """Cut out what is edited; `length` counts frames at the model's rate, 0 = all."""
        frames = _range(len(self.images), start, length, float(self.rate), model_fps)
        mask = self.mask
        if mask is not None and len(mask) > 1:
            mask = mask[frames]
            if not mask.any():
                raise ValueError(
                    f"mask: all black in the frames {frames.start} to {frames.stop - 1} that "
                    "start_frame and length choose, so nothing may change; white marks what to edit"
                )
        audio = _cut(self.audio, frames, self.rate)
        return ConnectedClip(self.images[frames], self.rate, audio, mask)


def _source_clip(
    video: Any,
    frames: Tensor | None,
    audio: dict[str, Any] | None,
    mask: Tensor | None,
    fps: float,
) -> ConnectedClip:
    """Read the one of the inputs `video` and `frames` that is connected."""
    if (video is None) == (frames is None):
        connected = "neither" if video is None else "both"
        raise ValueError(f"video, frames: {connected} connected; connect one of them")
    if video is None:
        images, rate = checked_images(frames, "frames"), Fraction(fps).limit_denominator(1001)
    else:
        parts = video.get_components()
        images, rate = checked_images(parts.images, "video"), Fraction(parts.frame_rate)
        audio = parts.audio if audio is None else audio
    return ConnectedClip(images, rate, audio, checked_mask(mask, images, "frame"))


def _range(count: int, start: int, length: int, rate: float, model_fps: float) -> slice:
    if start >= count:
        raise ValueError(f"start_frame: {start}, the clip has {count} frames (0 to {count - 1})")
    wanted = count if not length else max(1, math.floor(length * rate / model_fps + 0.5))
    return slice(start, min(count, start + wanted))


def _cut(audio: dict[str, Any] | None, part: slice, rate: Fraction) -> dict[str, Any] | None:
    """Cut the sound of a range of frames; None where there is none, which cannot be saved."""
    if audio is None:
        return None
    hertz = audio["sample_rate"]
    first, last = (math.floor(at * hertz / rate) for at in (part.start, part.stop))
    waveform = audio["waveform"][..., first:last]
    return {**audio, "waveform": waveform} if waveform.shape[-1] else None


def _per_latent_frame(mask: Tensor) -> Tensor:
    """Masks (4k + 1, H, W) -> (1, 1, k + 1, H, W), the maximum within each latent frame."""
    groups = mask[1:].unflatten(0, (-1, GROUP)).amax(1) if len(mask) > 1 else mask[:0]
    return torch.cat([mask[:1], groups])[None, None]


def _frame_notes(plan: Frames) -> list[str]:
    """Warn about a clip that is too short to hold motion."""
    if plan.count > GROUP:
        return []
    frames = "1 frame is" if plan.count == 1 else f"{plan.count} frames are"
    padded = "" if len(plan.seen) == plan.count else f", padded to {len(plan.seen)} and cut back"
    return [
        f"{frames} hardly a video{padded}; for stills use ByG Image Edit with a FLUX LoRA, for "
        f"motion give 5 frames or more"
    ]


NODE = VideoEdit
