"""What goes beside an exported LoRA: a card for people, a workflow of stock nodes for ComfyUI."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from .backbones.locate import HUB_ID
from .config import ConfigError
from .cost import FLUX_DEV
from .lora_file import LoraInfo

TEMPLATES = Path(__file__).parent / "templates"
# ComfyUI's limits and steps of the widgets that are filled in.
LEAST_MEGAPIXELS, BYPASS = 0.01, 4
FLUX_FILE = "flux1-dev.safetensors"
FLUX_LICENCE = "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md"


def _loader_file(info: LoraInfo) -> str | None:
    """The base's file for ComfyUI's UNETLoader; None for a base that no stock loader opens."""
    base, hub = public_name(info.base)
    last = base.rsplit("/", 1)[-1]
    if last.endswith(".safetensors"):
        return last
    if FLUX_DEV.search(last):
        return FLUX_FILE
    return f"{last}.safetensors" if hub else None


def has_workflow(info: LoraInfo) -> bool:
    """Whether stock nodes can load the base and put the source where training had it."""
    return info.reference_mode == "index" and _loader_file(info) is not None


def workflow(info: LoraInfo, name: str) -> dict[str, Any]:
    """The stock-node graph with this LoRA's file name, instruction and settings.

    ReferenceLatent puts one source at first axis 1, as `reference_mode = index` trains it;
    ModelSamplingFlux with the scheduler `simple` gives the times of `schedule.time_grid`.
    """
    graph = json.loads((TEMPLATES / "flux.workflow.json").read_text(encoding="utf-8"))
    nodes = {node["type"]: node for node in graph["nodes"]}
    megapixels = round(info.resolution**2 / 1024**2, 2)
    if megapixels < LEAST_MEGAPIXELS:
        nodes["ImageScaleToTotalPixels"]["mode"] = BYPASS
    if (base := _loader_file(info)) != FLUX_FILE:
        del nodes["UNETLoader"]["properties"]["models"]  # where to download another base
    if info.guidance_sample is None:
        nodes["FluxGuidance"]["mode"] = BYPASS
    size = [info.resolution, info.resolution]
    filled = {
        "UNETLoader": [base, "default"],
        "LoraLoaderModelOnly": [f"{name}.safetensors", 1.0],
        "ModelSamplingFlux": [*_shifts(info), *size],
        "ImageScaleToTotalPixels": ["lanczos", max(megapixels, LEAST_MEGAPIXELS)],
        "CLIPTextEncode": [info.instructions[0] if info.instructions else ""],
        "FluxGuidance": [info.guidance_sample or 0.0],
        "KSampler": [0, "randomize", info.sample_steps, 1.0, "euler", "simple", 1.0],
        "SaveImage": [name],
        "MarkdownNote": [_note(info, name, scaled=megapixels >= LEAST_MEGAPIXELS)],
    }
    for kind, values in filled.items():
        nodes[kind]["widgets_values"] = values
    return graph


def _shifts(info: LoraInfo) -> tuple[float, float]:
    """ModelSamplingFlux's max_shift and base_shift; they are logarithms of the shift."""
    if info.sample_shift == "flux":
        return 1.15, 0.5
    mu = math.log(float(info.sample_shift))
    if mu < 0:
        raise ConfigError(f"sample.shift {info.sample_shift}: ComfyUI's FLUX nodes take 1 or more")
    return mu, mu


def _note(info: LoraInfo, name: str, *, scaled: bool) -> str:
    known = "\n".join(f"- {text}" for text in info.instructions[:8])
    size = (
        f"The result has about {info.resolution} x {info.resolution} pixels in the source's "
        "proportions, not the source's size: ImageScaleToTotalPixels brings the source to what the "
        "LoRA was trained on. "
    )
    return (
        f"## {name}\n\nAn image-editing LoRA for **{public_name(info.base)[0]}**, trained with ByG "
        f"from unpaired pictures. Put `{name}.safetensors` into `models/loras`, choose a picture, "
        f"write what to change.\n\nInstructions it knows:\n{known}\n\nThe picture enters through "
        f"ReferenceLatent: without it, the LoRA has nothing to edit. {size if scaled else ''}"
        "Keep cfg at 1. Strength 1 is as trained; less keeps more of the source. Removing things "
        "and changing written text work worst."
    )


def public_name(base: str) -> tuple[str, bool]:
    """A base's name as others may know it, and whether it is a model on the hub.

    Of a local path only the last part: the rest is nobody's business.
    """
    if HUB_ID.fullmatch(base) and not Path(base).exists():
        return base, True
    return Path(base).name, False


def card(info: LoraInfo, name: str, *, has_preview: bool) -> str:
    """The README of a model page, with front matter for the Hugging Face hub."""
    base, hub = public_name(info.base)
    licence, licence_words = _licence(base)
    tags = ["lora", "image-to-image", "image-editing", info.family, "byg", "comfyui"]
    matter: dict[str, Any] = {
        **({"base_model": base, "base_model_relation": "adapter"} if hub else {}),
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": tags,
        **licence,
    }
    preview = f"\n![source, edit, edited back, one-step prediction]({quote(name)}.png)\n"
    example = info.instructions[0] if info.instructions else "what to change"
    return Template((TEMPLATES / "card.md").read_text(encoding="utf-8")).substitute(
        # JSON values are YAML values, whatever characters they hold.
        front_matter="\n".join(f"{k}: {json.dumps(v)}" for k, v in matter.items()),
        name=name,
        base=f"[{base}](https://huggingface.co/{base})" if hub else f"`{base}`",
        preview=preview if has_preview else "",
        instructions="\n".join(f"- {text}" for text in info.instructions) or "- (none recorded)",
        file=shlex.quote(f"{name}.safetensors"),
        instruction=shlex.quote(example),
        licence=licence_words,
        **_settings(info, name),
    )


def _settings(info: LoraInfo, name: str) -> dict[str, object]:
    """The card's table of settings."""
    positions = {"index": "index 1, as in FLUX.1 Kontext", "shared": "the target's"}
    return {
        "comfyui": _comfyui(info, name),
        "reference": positions[info.reference_mode],
        "steps": info.sample_steps,
        "shift": "FLUX.1-dev's own" if info.sample_shift == "flux" else info.sample_shift,
        "guidance": "none" if info.guidance_sample is None else f"{info.guidance_sample:g} (cfg 1)",
        "resolution": info.resolution,
        "rank": info.rank,
        "trained": info.steps,
        "weights": {"edit": "live", "ema": "EMA"}[info.weights],
    }


def _comfyui(info: LoraInfo, name: str) -> str:
    """How to use the LoRA there."""
    if info.base == "world":
        return (
            f"put `{name}.safetensors` into `models/loras` and use the nodes *ByG Tiny World*,\n"
            "*ByG Loader* and *ByG Image Edit* of the ByG pack."
        )
    put = f"put `{name}.safetensors` into `models/loras`"
    if has_workflow(info):
        return (
            f"{put} and drag `{name}.workflow.json` onto the\ncanvas; no custom nodes are needed. "
            "The source enters through *ReferenceLatent*: without it the LoRA\n"
            "has nothing to edit."
        )
    if info.reference_mode == "shared":
        return f"{put}. No stock node can place its\nsource; it needs ByG's own."
    return (
        f"{put}. There is no workflow: the base is a\nfolder in diffusers' layout, which stock "
        "nodes do not load."
    )


def _licence(base: str) -> tuple[dict[str, str], str]:
    """Front matter and a sentence; of all bases only FLUX.1-dev's licence is known here."""
    if not FLUX_DEV.search(base):
        return {}, f"State yours here; the licence of the base model ({base}) binds it too."
    front = {
        "license": "other",
        "license_name": "flux-1-dev-non-commercial-license",
        "license_link": FLUX_LICENCE,
    }
    return front, f"The [FLUX.1-dev non-commercial licence]({FLUX_LICENCE}) of the base model."
