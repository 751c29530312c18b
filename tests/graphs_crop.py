"""Graphs that edit a part of a picture or clip, and lists of instructions (see graphs.py)."""

from __future__ import annotations

import torch
from comfy_host import call
from graphs import SMALL, image_edit, pack
from graphs_wan import video_edit, wan
from torch import Tensor

AROUND = {"size_mode": "around the mask"}


def box(mask: Tensor, context: float, least: float) -> tuple[int, int, int, int]:
    """left, top, width, height of the part around a mask."""
    return tuple(pack("pixels").box_around(mask, context, least))


def mask(given: Tensor, images: Tensor) -> Tensor:
    """A mask as the nodes take it."""
    return pack("pixels").checked_mask(given, images, "picture")


def sizes(image: Tensor, mask: Tensor, info: object, **widgets: object) -> tuple:
    """What the model sees of a picture, its latent, and the mask of the latent."""
    found = image_edit(image, {**AROUND, "mask": mask, **widgets}, info)
    latent = found["latent"]
    return found["image"], latent["samples"].shape, latent["noise_mask"]


def stitched(image: Tensor, mask: Tensor, info: object, edit: dict, finish: dict) -> Tensor:
    """A red result of the part, back in its place."""
    found = image_edit(image, {**AROUND, "mask": mask, **edit}, info)
    red = torch.zeros_like(found["image"]).repeat_interleave(edit.get("batch_size", 1), 0)
    red[..., 0] = 1
    return call("ByG_Finish", images=red, fit=found["fit"], **finish)[0]


def stitched_clip(frames: Tensor, mask: Tensor, finish: dict, **edit: object) -> Tensor:
    """The same with a clip."""
    found = video_edit(frames, **{**AROUND, "mask": mask, **edit})
    red = torch.zeros_like(found["frames"])
    red[..., 0] = 1
    return call("ByG_Finish", images=red, fit=found["fit"], **finish)[0]


def seen(image: Tensor) -> Tensor:
    """What the model sees of a picture with other channels than RGB."""
    return image_edit(image, SMALL)["image"]


def patched(lora: str, **widgets: float) -> list[float]:
    """The strengths of the patches of both models."""
    models = call("ByG_Loader", model=wan(0), model_low=wan(1), lora_name=lora, **widgets)[:2]
    return [next(iter(model.patches.values()))[0][0] for model in models]


def instructions() -> list[str]:
    """The choices of ByG Instruction."""
    import nodes

    info = nodes.NODE_CLASS_MAPPINGS["ByG_Instruction"].GET_NODE_INFO_V1()
    kind, options = info["input"]["required"]["instruction"]
    return options.get("options", kind)


def said(**widgets: object) -> tuple[str, str]:
    """STRING of ByG Instruction, and what it says."""
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS["ByG_Instruction"].PREPARE_CLASS_CLONE({})
    found = kind.EXECUTE_NORMALIZED(**widgets)
    return found.args[0], found.ui.as_dict()["text"][0]
