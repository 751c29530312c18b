"""What an exported LoRA of Wan says: its licence, how to use it, and the workflow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...family import Graph, family_of, is_embedded
from ..locate import public_name
from ..lora_file import AS_TRAINED, COMFY_SAMPLERS, LoraInfo
from .files import A14B, FILE_1_3B, FREE, MULTIPLE_5B, PAIR, T2V_1_3B, TI2V_5B, expert_names

HERE = Path(__file__).parent
# What the graphs that are filled in call their films.
FILMS = re.compile(r"ByG/(?:tiny_)?clip")


def licence(base: str) -> tuple[dict[str, str], str] | None:
    """Front matter and a sentence; those of Wan 2.1 and 2.2 are known."""
    if not FREE.search(base):
        return None
    return {"license": "apache-2.0"}, "Apache 2.0, as the base model."


def usage(info: LoraInfo, name: str, has_workflow: bool) -> str:
    """How to go on once the files are in `models/loras`."""
    if has_workflow:
        return (
            f" and drag `{name}.workflow.json`\nonto the canvas; it needs the ByG nodes, which"
            " put the source beside the target."
        )
    return (
        " and use the nodes *ByG Loader*,\n*ByG Video Edit* and *ByG Finish* around your samplers."
    )


def graph(info: LoraInfo, name: str, files: list[str]) -> Graph | None:
    """The graph with ByG's nodes; None for a base that no node loads."""
    alone, few = info.boundary is None, info.sampler == "renoise"
    if is_embedded(info.base):
        own, loaders = family_of(info.family).embedded, {}
        template = own.few_steps if few else own.example
    else:
        kind = f"{'_5b' if alone else ''}{'_few_steps' if few else ''}"
        template, loaders = HERE / f"workflow{kind}.json", _base_files(info)
    if loaders is None:
        return None
    widgets: dict[str, dict[str, Any]] = {
        "ByG_Loader": {"lora_name": files[0]},
        "Instruction": {"text": info.instruction},
        "Negative (for cfg above 1)": {"text": info.negative or ""},
        "ByG_VideoEdit": {"fps": info.fps or 16.0},
        "Note": {"text": _note(info, name, files)},
        "SaveVideo": {"filename_prefix": lambda old: FILMS.sub(lambda _: f"ByG/{name}", old)},
        **_sampling(info),
    }
    if alone and info.multiple != MULTIPLE_5B and not is_embedded(info.base):
        widgets["VAELoader"] = {"vae_name": "wan_2.1_vae.safetensors"}
    if info.expert is not None and len(files) == 1:
        widgets["ByG_Loader"]["lora_low_name"] = "single expert"
    for expert, file in loaders.items():
        title = "UNETLoader" if alone else f"{expert.title()}-noise model"
        widgets[title] = {"unet_name": file}
    return Graph(template, widgets)


def _base_files(info: LoraInfo) -> dict[str, str] | None:
    """Expert -> the base's file for ComfyUI's loader; {}: those of the template.

    None for folders in diffusers' layout, which no node loads, and for any Wan that is not known.
    """
    last = public_name(info.base)[0].rsplit("/", 1)[-1]
    names, alone = expert_names(last), info.boundary is None
    small = alone and info.multiple != MULTIPLE_5B
    if small and not T2V_1_3B.search(last):
        return None
    if last.endswith(".safetensors"):
        return names if (names.keys() != PAIR.keys()) == alone else None
    if small:
        return {"transformer": FILE_1_3B}
    return {} if (TI2V_5B if alone else A14B).search(last) else None


def _sampling(info: LoraInfo) -> dict[str, dict[str, Any]]:
    """The widgets of the samplers; of few steps `ByG Few Steps` takes the LoRA's own."""
    (cfg, low), sampler = info.cfg_pair, COMFY_SAMPLERS[info.sampler]
    if info.sampler == "renoise":
        both = {"High noise": {"cfg": cfg}, "Low noise": {"cfg": low}}
        guiders = {"CFGGuider": {"cfg": cfg}} if info.boundary is None else both
        return {"ByG_FewSteps": {"steps": AS_TRAINED}, **guiders}
    if info.boundary is None:
        return {"KSampler": {"steps": info.sample_steps, "cfg": cfg, "sampler_name": sampler}}
    return {
        "Steps of both together": {"value": info.sample_steps},
        "ByG_ExpertSplit": {"boundary": info.boundary, "sampler_name": sampler},
        "High noise": {"cfg": cfg, "sampler_name": sampler},
        "Low noise": {"cfg": low, "sampler_name": sampler},
    }


def _note(info: LoraInfo, name: str, files: list[str]) -> str:
    known = "\n".join(f"- {text}" for text in info.instructions[:8])
    both = " and ".join(f"`{file}`" for file in files)
    base = f"**{public_name(info.base)[0]}**"
    if is_embedded(info.base):
        base = "the small base that ships with ByG"
    return (
        f"# {name}\n\nA video-editing LoRA for {base}, trained with ByG "
        f"from unpaired clips. It needs the ByG nodes.\n\n1. Put {both} into `models/loras`.\n"
        "2. Choose a clip.\n3. Write what to change.\n4. Run.\n\n"
        f"Instructions it knows:\n{known}\n\nSize, length, rate and sound come back as they were. "
        f"{_second(info, files)}Strength 1 is as trained; less keeps more of the source."
    )


def _second(info: LoraInfo, files: list[str]) -> str:
    """What the other network of a pair gets."""
    if info.expert is None:
        return ""
    if len(files) > 1:
        return "*ByG Loader* finds the file of the second network beside the first. "
    return f"Only the {info.expert}-noise network has a LoRA: `lora_low_name` is *single expert*. "
