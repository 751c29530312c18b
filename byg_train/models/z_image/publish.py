"""What an exported LoRA of Z-Image says: its licence, how to use it, and the workflow."""

from __future__ import annotations

import re
from pathlib import Path

from ...family import Graph, is_embedded
from ..lora_file import COMFY_SAMPLERS, LoraInfo
from ..picture_graph import LEAST_MEGAPIXELS, NO_WORKFLOW, embedded, loader_file, megapixels, note
from .network import Z_IMAGE

FILES = {
    re.compile(r"z[._-]?image[._-]?turbo", re.IGNORECASE): "z_image_turbo_bf16.safetensors",
    Z_IMAGE: "z_image_bf16.safetensors",
}


def licence(base: str) -> tuple[dict[str, str], str] | None:
    """Front matter and a sentence; Z-Image's alone is known."""
    if not Z_IMAGE.search(base):
        return None
    return {"license": "apache-2.0"}, "Apache 2.0, as the base model."


def usage(info: LoraInfo, name: str, has_workflow: bool) -> str:
    """How to go on once the file is in `models/loras`."""
    if has_workflow:
        return (
            f" and drag `{name}.workflow.json` onto the\ncanvas; no custom nodes are needed, but a "
            "ComfyUI of 0.11 or later: older ones leave the source of\nZ-Image out and say nothing."
        )
    return NO_WORKFLOW


def graph(info: LoraInfo, name: str, files: list[str]) -> Graph | None:
    """The graph of stock nodes; None where they cannot load the base.

    ReferenceLatent stands on both sides of the guidance, as in training. The scheduler `simple`
    over ModelSamplingAuraFlow gives the times of `schedule.time_grid`.
    """
    if is_embedded(info.base):
        return embedded(info, name)
    base = loader_file(info.base, FILES)
    if base is None:
        return None
    (cfg, _), size = info.cfg_pair, megapixels(info)
    guidance = f"It was sampled with cfg {cfg:g}; the source belongs on both sides of it."
    widgets = {
        "UNETLoader": {"unet_name": base},
        "LoraLoaderModelOnly": {"lora_name": f"{name}.safetensors"},
        "ModelSamplingAuraFlow": {"shift": info.shift},
        "ImageScaleToTotalPixels": {"megapixels": max(size, LEAST_MEGAPIXELS)},
        "Instruction": {"text": info.instruction},
        "Negative (for cfg above 1)": {"text": info.negative or ""},
        "KSampler": {
            "steps": info.sample_steps,
            "cfg": cfg,
            "sampler_name": COMFY_SAMPLERS[info.sampler],
        },
        "SaveImage": {"filename_prefix": name},
        "MarkdownNote": {"text": note(info, name, guidance)},
    }
    bypassed = () if size >= LEAST_MEGAPIXELS else ("ImageScaleToTotalPixels",)
    return Graph(Path(__file__).parent / "workflow.json", widgets, bypassed)
