"""What an exported LoRA of FLUX says: its licence, how to use it, and the workflow."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ...config import ConfigError
from ...family import Graph, family_of, is_embedded
from ..locate import public_name
from ..lora_file import LoraInfo
from .network import FLUX_DEV

FILE = "flux1-dev.safetensors"
LICENCE = "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"
# ComfyUI's limit of the widget.
LEAST_MEGAPIXELS = 0.01
# An instruction that says how its source is drawn, as the embedded world words it.
DRAWN = re.compile(r"turn the (3d render|flat icon|ink drawing) into ")


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
    return (
        ". There is no workflow: the base is a\nfolder in diffusers' layout, which stock nodes do "
        "not load."
    )


def graph(info: LoraInfo, name: str, files: list[str]) -> Graph | None:
    """With stock nodes; None where they cannot load the base, or place the source."""
    if is_embedded(info.base):
        return _embedded(info, name)
    base = _loader_file(info)
    return _stock(info, name, base) if base and info.reference_mode == "index" else None


def _loader_file(info: LoraInfo) -> str | None:
    """The base's file for ComfyUI's UNETLoader; None for a base that no stock loader opens."""
    base, hub = public_name(info.base)
    last = base.rsplit("/", 1)[-1]
    if last.endswith(".safetensors"):
        return last
    if FLUX_DEV.search(last):
        return FILE
    return f"{last}.safetensors" if hub else None


def _embedded(info: LoraInfo, name: str) -> Graph:
    """The embedded base with ByG's nodes; its example is drawn as the instruction says, if it does.

    `ByG Loader` takes guidance and shift from the LoRA.
    """
    note = (
        f"## {name}\n\nAn image-editing LoRA for the small base that ships with ByG. It needs the "
        f"ByG nodes. Put `{name}.safetensors` into `models/loras`, choose an example, write what "
        f"to change, press Run.\n\nInstructions it knows:\n{_known(info)}"
    )
    widgets = {
        "ByG_Loader": {"lora_name": f"{name}.safetensors"},
        "Instruction": {"text": info.instruction},
        "KSampler": {"steps": info.sample_steps},
        "SaveImage": {"filename_prefix": f"ByG/{name}"},
        "Note": {"text": note},
    }
    if drawn := DRAWN.match(info.instruction):
        widgets["ByG_TinyWorld"] = {"style": drawn[1]}
    return Graph(family_of(info.family).embedded.example, widgets)


def _stock(info: LoraInfo, name: str, base: str) -> Graph:
    """FLUX with stock nodes.

    ReferenceLatent puts one source at first axis 1, as `reference_mode = index` trains it;
    ModelSamplingFlux with the scheduler `simple` gives the times of `schedule.time_grid`.
    """
    megapixels = round(info.resolution**2 / 1024**2, 2)
    scaled, guided = megapixels >= LEAST_MEGAPIXELS, info.guidance_sample is not None
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
        "ImageScaleToTotalPixels": {"megapixels": max(megapixels, LEAST_MEGAPIXELS)},
        "CLIPTextEncode": {"text": info.instruction},
        "FluxGuidance": {"guidance": info.guidance_sample or 0.0},
        "KSampler": {"steps": info.sample_steps},
        "SaveImage": {"filename_prefix": name},
        "MarkdownNote": {"text": _note(info, name, scaled=scaled)},
    }
    idle = {"ImageScaleToTotalPixels": scaled, "FluxGuidance": guided}
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


def _known(info: LoraInfo) -> str:
    return "\n".join(f"- {text}" for text in info.instructions[:8])


def _note(info: LoraInfo, name: str, *, scaled: bool) -> str:
    size = (
        f"The result has about {info.resolution} x {info.resolution} pixels in the source's "
        "proportions, not the source's size: ImageScaleToTotalPixels brings the source to what the "
        "LoRA was trained on. "
    )
    return (
        f"## {name}\n\nAn image-editing LoRA for **{public_name(info.base)[0]}**, trained with ByG "
        f"from unpaired pictures. Put `{name}.safetensors` into `models/loras`, choose a picture, "
        f"write what to change.\n\nInstructions it knows:\n{_known(info)}\n\nThe picture enters "
        f"through ReferenceLatent: without it, the LoRA has nothing to edit. "
        f"{size if scaled else ''}Keep cfg at 1. Strength 1 is as trained; less keeps more of the "
        f"source. Removing things and changing written text work worst."
    )
