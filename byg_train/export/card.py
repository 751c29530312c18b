"""What goes beside an exported LoRA: a card for people, a filled-in workflow for ComfyUI."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from ..config import ConfigError
from ..models.lora_file import LoraInfo
from ..models.networks import FLUX_DEV
from .card_wan import APACHE, TINY_CLIP, WAN22, base_files, lora_files, wan_settings, wan_workflow
from .naming import public_name

TEMPLATES = Path(__file__).parent / "templates"
# The node pack's example of the embedded base, which is there wherever its nodes are.
TINY = Path(__file__).parents[2] / "workflows" / "byg_tiny_image_edit.json"
LOCAL = {"world": "`world`, the small base that ships with ByG"}
# An instruction that says how its source is drawn, as the embedded world words it.
DRAWN = re.compile(r"turn the (3d render|flat icon|ink drawing) into ")
# ComfyUI's limits and steps of the widgets that are filled in.
LEAST_MEGAPIXELS, BYPASS = 0.01, 4
FLUX_FILE = "flux1-dev.safetensors"
ALONE, BOTH = ("transformer",), ("high", "low")
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
    """Whether ComfyUI can load the base, and nodes put the source where training had it.

    For FLUX those are stock nodes; for Wan they are ByG's, and the base is Wan 2.2. The embedded
    base comes with ByG's nodes alone, and so does the example that is filled in for it.
    """
    if info.base == "world":
        return (TINY_CLIP if info.family == "wan" else TINY).is_file()
    if info.family == "wan":
        return base_files(info) is not None
    return info.reference_mode == "index" and _loader_file(info) is not None


def workflow(info: LoraInfo, name: str, experts: Collection[str] = ALONE) -> dict[str, Any]:
    """The graph with this LoRA's file name, instruction and settings."""
    if info.family == "wan":
        return wan_workflow(info, name, experts)
    return _tiny(info, name) if info.base == "world" else _stock(info, name)


def _tiny(info: LoraInfo, name: str) -> dict[str, Any]:
    """The embedded base with ByG's nodes; its example is drawn as the instruction says, if it does.

    `ByG Loader` takes guidance and shift from the LoRA.
    """
    graph = json.loads(TINY.read_text(encoding="utf-8"))
    nodes = {node["type"]: node["widgets_values"] for node in graph["nodes"]}
    told = info.instructions[0] if info.instructions else ""
    nodes["ByG_Loader"][0] = f"{name}.safetensors"
    nodes["CLIPTextEncode"][0] = told
    nodes["KSampler"][2] = info.sample_steps
    nodes["SaveImage"][0] = f"ByG/{name}"
    known = "\n".join(f"- {text}" for text in info.instructions[:8])
    nodes["MarkdownNote"][0] = (
        f"## {name}\n\nAn image-editing LoRA for the small base that ships with ByG. It needs the "
        f"ByG nodes. Put `{name}.safetensors` into `models/loras`, choose an example, write what "
        f"to change, press Run.\n\nInstructions it knows:\n{known}"
    )
    if drawn := DRAWN.match(told):
        nodes["ByG_TinyWorld"][1] = drawn[1]
    return graph


def _stock(info: LoraInfo, name: str) -> dict[str, Any]:
    """FLUX with stock nodes.

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


def card(
    info: LoraInfo,
    name: str,
    *,
    has_preview: bool,
    has_film: bool = False,
    experts: Collection[str] = ALONE,
) -> str:
    """The README of a model page, with front matter for the Hugging Face hub."""
    base, hub = public_name(info.base)
    licence, licence_words = _licence(base)
    files = lora_files(name, experts)
    task = "video-to-video" if info.family == "wan" else "image-to-image"
    kind = "video-editing" if info.family == "wan" else "image-editing"
    matter: dict[str, Any] = {
        **({"base_model": base, "base_model_relation": "adapter"} if hub else {}),
        "library_name": "diffusers",
        "pipeline_tag": task,
        "tags": ["lora", task, kind, info.family, "byg", "comfyui"],
        **licence,
    }
    preview = f"\n![source, edit, edited back, one-step prediction]({quote(name)}.png)\n"
    preview += f"\n[The same as a film]({quote(name)}.mp4)\n" if has_film else ""
    example = info.instructions[0] if info.instructions else "what to change"
    template = TEMPLATES / ("card.wan.md" if info.family == "wan" else "card.md")
    return Template(template.read_text(encoding="utf-8")).substitute(
        # JSON values are YAML values, whatever characters they hold.
        front_matter="\n".join(f"{k}: {json.dumps(v)}" for k, v in matter.items()),
        name=name,
        base=f"[{base}](https://huggingface.co/{base})" if hub else LOCAL.get(base, f"`{base}`"),
        preview=preview if has_preview else "",
        instructions="\n".join(f"- {text}" for text in info.instructions) or "- (none recorded)",
        file=shlex.quote(files[0]),
        instruction=shlex.quote(example),
        licence=licence_words,
        **_settings(info, name, experts),
    )


def _settings(info: LoraInfo, name: str, experts: Collection[str]) -> dict[str, object]:
    """The card's table of settings."""
    positions = {"index": "index 1, as in FLUX.1 Kontext", "shared": "the target's"}
    family = wan_settings(info, name, experts) if info.family == "wan" else {}
    return {
        "comfyui": _comfyui(info, name, experts),
        "reference": positions[info.reference_mode],
        "steps": info.sample_steps,
        "shift": "FLUX.1-dev's own" if info.sample_shift == "flux" else info.sample_shift,
        "guidance": "none" if info.guidance_sample is None else f"{info.guidance_sample:g} (cfg 1)",
        "resolution": info.resolution,
        "rank": info.rank,
        "trained": info.steps,
        "weights": {"edit": "live", "ema": "EMA"}[info.weights],
        **family,
    }


def _comfyui(info: LoraInfo, name: str, experts: Collection[str]) -> str:
    """How to use the LoRA there."""
    files = " and ".join(f"`{file}`" for file in lora_files(name, experts))
    put = f"put {files} into `models/loras`"
    node = "ByG Video Edit" if info.family == "wan" else "ByG Image Edit"
    if info.base == "world" and has_workflow(info):
        return (
            f"{put} and drag `{name}.workflow.json`\nonto the canvas; it needs the ByG nodes, which"
            " bring the base along."
        )
    if info.base == "world":
        return (
            f"{put} and use the nodes *ByG Tiny World*,\n*ByG Loader* and *{node}* of the ByG pack."
        )
    if info.family == "wan" and has_workflow(info):
        return (
            f"{put} and drag `{name}.workflow.json`\nonto the canvas; it needs the ByG nodes, which"
            " put the source beside the target."
        )
    if info.family == "wan":
        return (
            f"{put} and use the nodes *ByG Loader*,\n*ByG Video Edit* and *ByG Finish* around your "
            "samplers."
        )
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
    """Front matter and a sentence; only the licences of FLUX.1-dev and Wan 2.2 are known here."""
    if WAN22.search(base):
        return APACHE, "Apache 2.0, as the base model."
    if not FLUX_DEV.search(base):
        return {}, f"State yours here; the licence of the base model ({base}) binds it too."
    front = {
        "license": "other",
        "license_name": "flux-1-dev-non-commercial-license",
        "license_link": FLUX_LICENCE,
    }
    return front, f"The [FLUX.1-dev non-commercial licence]({FLUX_LICENCE}) of the base model."
