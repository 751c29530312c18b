"""What the workflows of families for pictures have in common."""

from __future__ import annotations

import re

from ..family import Graph, family_of
from .locate import public_name
from .lora_file import AS_TRAINED, COMFY_SAMPLERS, LoraInfo

# What a card says of a base that stock nodes do not open.
NO_WORKFLOW = (
    ". There is no workflow: the base is a\nfolder in diffusers' layout, which stock nodes do not "
    "load."
)
# ComfyUI's limit of the widget.
LEAST_MEGAPIXELS = 0.01
# An instruction that says how its source is drawn, as the embedded world words it.
DRAWN = re.compile(r"turn the (3d render|flat icon|ink drawing) into ")


def loader_file(base: str, known: dict[re.Pattern[str], str]) -> str | None:
    """A base's file for ComfyUI's UNETLoader; None for a base that no stock loader opens.

    `known` are models by name, and what their files are called.
    """
    name, hub = public_name(base)
    last = name.rsplit("/", 1)[-1]
    if last.endswith(".safetensors"):
        return last
    file_name = next((file for names, file in known.items() if names.search(last)), None)
    return file_name or (f"{last}.safetensors" if hub else None)


def megapixels(info: LoraInfo) -> float:
    """ComfyUI's megapixels, of 1024 x 1024 pixels, that a source is brought to."""
    return round(info.resolution**2 / 1024**2, 2)


def embedded(info: LoraInfo, name: str) -> Graph:
    """The embedded base with ByG's nodes; its example is drawn as the instruction says, if it does.

    `ByG Loader` takes guidance and shift from the LoRA, `ByG Few Steps` its number of steps.
    """
    note = (
        f"## {name}\n\nAn image-editing LoRA for the small base that ships with ByG. It needs the "
        f"ByG nodes. Put `{name}.safetensors` into `models/loras`, choose an example, write what "
        f"to change, press Run.\n\nInstructions it knows:\n{known_instructions(info)}"
    )
    base = family_of(info.family).embedded
    widgets = {
        "ByG_TinyWorld": {"media": base.media},
        "ByG_Loader": {"lora_name": f"{name}.safetensors"},
        "Instruction": {"text": info.instruction},
        "SaveImage": {"filename_prefix": f"ByG/{name}"},
        "Note": {"text": note},
    }
    if drawn := DRAWN.match(info.instruction):
        widgets["ByG_TinyWorld"]["style"] = drawn[1]
    if info.sampler == "renoise":
        return Graph(base.few_steps, {**widgets, "ByG_FewSteps": {"steps": AS_TRAINED}})
    sampler = {"steps": info.sample_steps, "sampler_name": COMFY_SAMPLERS[info.sampler]}
    return Graph(base.example, {**widgets, "KSampler": sampler})


def note(info: LoraInfo, name: str, guidance: str) -> str:
    """The note of a graph of stock nodes; `guidance` is a sentence about cfg."""
    size = ""
    if megapixels(info) >= LEAST_MEGAPIXELS:
        size = (
            f"The result has about {info.resolution} x {info.resolution} pixels in the source's "
            "proportions, not the source's size: ImageScaleToTotalPixels brings the source to what "
            "the LoRA was trained on. "
        )
    return (
        f"## {name}\n\nAn image-editing LoRA for **{public_name(info.base)[0]}**, trained with ByG "
        f"from unpaired pictures. Put `{name}.safetensors` into `models/loras`, choose a picture, "
        f"write what to change.\n\nInstructions it knows:\n{known_instructions(info)}\n\nThe "
        f"picture enters through ReferenceLatent: without it, the LoRA has nothing to edit. "
        f"{size}{guidance} Strength 1 is as trained; less keeps more of the "
        f"source. Removing things and changing written text work worst."
    )


def known_instructions(info: LoraInfo) -> str:
    """The first of them, as a list."""
    return "\n".join(f"- {text}" for text in info.instructions[:8])
