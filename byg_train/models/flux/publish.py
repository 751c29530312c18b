"""What an exported LoRA of FLUX says: its licence, how to use it, and the workflow."""

from __future__ import annotations

import math
from pathlib import Path

from ...config import ConfigError
from ...family import Graph, is_embedded
from ..lora_file import COMFY_SAMPLERS, LoraInfo
from ..picture_graph import LEAST_MEGAPIXELS, NO_WORKFLOW, embedded, loader_file, megapixels, note
from .network import FLUX_DEV

FILE = "flux1-dev.safetensors"
LICENCE = "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"


def licence(base: str) -> tuple[dict[str, str], str] | None:
    """Front matter and a sentence; FLUX.1-dev's alone is known."""
    if not FLUX_DEV.search(base):
        return None
    front = {
        "license": "other",
        "license_name": "flux-1-dev-non-commercial-license",
        "license_link": LICENCE,
    }
    return front, f"The [FLUX.1-dev non-commercial licence]({LICENCE}) of the base model."


def usage(info: LoraInfo, name: str, has_workflow: bool) -> str:
    """How to go on once the file is in `models/loras`."""
    if has_workflow:
        return (
            f" and drag `{name}.workflow.json` onto the\ncanvas; no custom nodes are needed. "
            "The source enters through *ReferenceLatent*: without it the LoRA\n"
            "has nothing to edit."
        )
    if info.reference_mode == "shared":
        return ". No stock node can place its\nsource; it needs ByG's own."
    return NO_WORKFLOW


def graph(info: LoraInfo, name: str, files: list[str]) -> Graph | None:
    """The graph of stock nodes; None where they cannot load the base, or place the source."""
    if is_embedded(info.base):
        return embedded(info, name)
    base = loader_file(info.base, {FLUX_DEV: FILE})
    return _stock(info, name, base) if base and info.reference_mode == "index" else None


def _stock(info: LoraInfo, name: str, base: str) -> Graph:
    """FLUX with stock nodes.

    ReferenceLatent puts one source at first axis 1, as `reference_mode = index` trains it;
    ModelSamplingFlux with the scheduler `simple` gives the times of `schedule.time_grid`.
    """
    size, guided = megapixels(info), info.guidance_sample is not None
    max_shift, base_shift = _shifts(info)
    widgets = {
        "UNETLoader": {"unet_name": base},
        "LoraLoaderModelOnly": {"lora_name": f"{name}.safetensors"},
        "ModelSamplingFlux": {
            "max_shift": max_shift,
            "base_shift": base_shift,
            "width": info.resolution,
            "height": info.resolution,
        },
        "ImageScaleToTotalPixels": {"megapixels": max(size, LEAST_MEGAPIXELS)},
        "CLIPTextEncode": {"text": info.instruction},
        "FluxGuidance": {"guidance": info.guidance_sample or 0.0},
        "KSampler": {"steps": info.sample_steps, "sampler_name": COMFY_SAMPLERS[info.sampler]},
        "SaveImage": {"filename_prefix": name},
        "MarkdownNote": {"text": note(info, name, "Keep cfg at 1.")},
    }
    idle = {"ImageScaleToTotalPixels": size >= LEAST_MEGAPIXELS, "FluxGuidance": guided}
    bypassed = tuple(node for node, used in idle.items() if not used)
    return Graph(Path(__file__).parent / "workflow.json", widgets, bypassed)


def _shifts(info: LoraInfo) -> tuple[float, float]:
    """ModelSamplingFlux's max_shift and base_shift; they are logarithms of the shift."""
    if isinstance(info.sample_shift, str):
        return 1.15, 0.5
    mu = math.log(info.sample_shift)
    if mu < 0:
        raise ConfigError(f"sample.shift {info.sample_shift}: ComfyUI's FLUX nodes take 1 or more")
    return mu, mu
