"""What goes beside an exported LoRA of Wan: its settings for the card, and a ComfyUI workflow."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..models.lora_file import LoraInfo, expert_path
from ..models.wan.files import PAIR, expert_names
from .naming import public_name

TEMPLATES = Path(__file__).parent / "templates"
# The node pack's example of the embedded pair, which is there wherever its nodes are.
TINY_CLIP = Path(__file__).parents[2] / "workflows" / "byg_tiny_video_edit.json"
# Wan2.2-T2V-A14B and TI2V-5B in the names of hub repositories and folders.
WAN_A14B = re.compile(r"wan[._-]?2[._-]?2[._-]t2v[._-]a?14b", re.IGNORECASE)
WAN_5B = re.compile(r"wan[._-]?2[._-]?2[._-]ti2v[._-]5b", re.IGNORECASE)
MULTIPLE_5B = 32  # pixels of a token with the 5B's VAE; with Wan 2.1's they are 16
WAN22 = re.compile(r"wan[._-]?2[._-]?2", re.IGNORECASE)
APACHE = {"license": "apache-2.0"}
# What the graphs that are filled in call their films.
FILMS = re.compile(r"ByG/(?:tiny_)?clip")
# The samplers by ComfyUI's names.
SAMPLERS = {None: "euler", "euler": "euler", "unipc": "uni_pc"}


def lora_files(name: str, experts: Collection[str]) -> list[str]:
    """The names of a LoRA's files."""
    return [expert_path(Path(f"{name}.safetensors"), expert).name for expert in experts]


def base_files(info: LoraInfo) -> dict[str, str] | None:
    """Expert -> the base's file for ComfyUI's loader; {}: those of the template.

    None for folders in diffusers' layout, which no node loads, and for any other Wan.
    """
    last = public_name(info.base)[0].rsplit("/", 1)[-1]
    names, alone = expert_names(last), info.boundary is None
    if alone and info.multiple != MULTIPLE_5B:
        return None
    if last.endswith(".safetensors"):
        return names if (names.keys() != PAIR.keys()) == alone else None
    return {} if (WAN_5B if alone else WAN_A14B).search(last) else None


def wan_workflow(info: LoraInfo, name: str, experts: Collection[str]) -> dict[str, Any]:
    """The graph of ByG's nodes with this LoRA's files, instruction and settings."""
    kind = "wan_5b" if info.boundary is None else "wan"
    file = TINY_CLIP if info.base == "world" else TEMPLATES / f"{kind}.workflow.json"
    graph = json.loads(file.read_text(encoding="utf-8"))
    nodes = {node.get("title") or node["type"]: node for node in graph["nodes"]}
    for expert, file in (base_files(info) or {}).items():
        loader = nodes["UNETLoader" if kind == "wan_5b" else f"{expert.title()}-noise model"]
        if loader["widgets_values"][0] != file:
            loader["widgets_values"][0] = file
            del loader["properties"]["models"]  # where to download another one
    files = lora_files(name, experts)
    filled: dict[str, dict[int, Any]] = {
        "ByG_Loader": {0: files[0]},
        "Instruction": {0: info.instructions[0] if info.instructions else ""},
        "Negative (for cfg above 1)": {0: info.negative or ""},
        "ByG_VideoEdit": {5: info.fps or 16.0},
        "Note": {0: _note(info, name, files)},
        **_sampling(info),
    }
    if info.expert is not None and len(files) == 1:
        filled["ByG_Loader"][2] = "single expert"
    for title, values in filled.items():
        for place, value in values.items():
            nodes[title]["widgets_values"][place] = value
    for node in graph["nodes"]:
        if node["type"] == "SaveVideo":
            prefix = node["widgets_values"][0]
            node["widgets_values"][0] = FILMS.sub(lambda _: f"ByG/{name}", prefix)
    return graph


def _sampling(info: LoraInfo) -> dict[str, dict[int, Any]]:
    """The values of the samplers' widgets, by title and place."""
    cfg, sampler = 1.0 if info.cfg is None else info.cfg, SAMPLERS[info.sampler]
    if info.boundary is None:
        return {"KSampler": {2: info.sample_steps, 3: cfg, 4: sampler}}
    return {
        "Steps of both together": {0: info.sample_steps},
        "ByG_ExpertSplit": {2: info.boundary},
        "High noise": {4: cfg, 5: sampler},
        "Low noise": {4: cfg if info.cfg_low is None else info.cfg_low, 5: sampler},
    }


def _note(info: LoraInfo, name: str, files: list[str]) -> str:
    known = "\n".join(f"- {text}" for text in info.instructions[:8])
    both = " and ".join(f"`{file}`" for file in files)
    base = f"**{public_name(info.base)[0]}**"
    if info.base == "world":
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


def wan_settings(info: LoraInfo, name: str, experts: Collection[str]) -> dict[str, object]:
    """What the card says of Wan alone."""
    cfg = 1.0 if info.cfg is None else info.cfg
    low = cfg if info.cfg_low is None else info.cfg_low
    both = f"{cfg:g}" if low == cfg else f"{cfg:g} at high noise, {low:g} at low"
    against = f', against "{info.negative}"' if info.negative and max(cfg, low) > 1 else ""
    pair = "one network" if info.boundary is None else f"two, meeting at t = {info.boundary:g}"
    single = f" Only the {info.expert}-noise expert has a LoRA: add `--single-expert`."
    return {
        "files": " and ".join(f"`{file}`" for file in lora_files(name, experts)),
        "single": single if set(experts) < set(PAIR) else "",
        "sampler": {"unipc": "UniPC"}.get(info.sampler or "euler", "Euler"),
        "cfg": both + against,
        "experts": pair,
        "clips": f"{info.frames} frames at {info.fps:g} a second",
    }
