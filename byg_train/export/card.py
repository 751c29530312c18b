"""What goes beside an exported LoRA: a card for people, a filled-in workflow for ComfyUI."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from ..family import ALONE, EMBEDDED, Family, Graph, family_of, is_embedded
from ..models.locate import public_name
from ..models.lora_file import LoraInfo, expert_path

TEMPLATES = Path(__file__).parent / "templates"
# Kind of node -> its widgets in the order of a file's values; null: one that the frontend adds.
# Written by tools.build_workflows, which asks a ComfyUI: the files themselves hold values alone.
WIDGETS: dict[str, list[str | None]] = json.loads((TEMPLATES / "widgets.json").read_text())
BYPASS = 4
LOCAL = {EMBEDDED: f"`{EMBEDDED}`, the small base that ships with ByG"}


def has_workflow(info: LoraInfo) -> bool:
    """Whether ComfyUI can load the base, and nodes put the source where training had it."""
    return _graph(info, "", (ALONE,)) is not None


def workflow(info: LoraInfo, name: str, experts: Collection[str] = (ALONE,)) -> dict[str, Any]:
    """The graph with this LoRA's file name, instruction and settings."""
    return filled(_graph(info, name, experts))


def _graph(info: LoraInfo, name: str, experts: Collection[str]) -> Graph | None:
    """The embedded base comes with ByG's nodes alone, and so does the example to fill in for it."""
    graph = family_of(info.family).publishing.graph(info, name, _files(name, experts))
    return graph if graph and graph.template.is_file() else None


def _files(name: str, experts: Collection[str]) -> list[str]:
    """The names of a LoRA's files."""
    return [expert_path(Path(f"{name}.safetensors"), expert).name for expert in experts]


def card(
    info: LoraInfo,
    name: str,
    *,
    has_preview: bool,
    has_video: bool = False,
    experts: Collection[str] = (ALONE,),
) -> str:
    """The README of a model page, with front matter for the Hugging Face hub."""
    family, (base, hub) = family_of(info.family), public_name(info.base)
    licence, licence_words = family.publishing.licence(base) or (
        {},
        f"State yours here; the licence of the base model ({base}) binds it too.",
    )
    files = _files(name, experts)
    kind = "video" if family.is_video else "image"
    task = f"{kind}-to-{kind}"
    matter: dict[str, Any] = {
        **({"base_model": base, "base_model_relation": "adapter"} if hub else {}),
        "library_name": "diffusers",
        "pipeline_tag": task,
        "tags": ["lora", task, f"{kind}-editing", info.family, "byg", "comfyui"],
        **licence,
    }
    preview = f"\n![source, edit, edited back, one-step prediction]({quote(name)}.png)\n"
    preview += f"\n[The same as a video]({quote(name)}.mp4)\n" if has_video else ""
    single = Template((TEMPLATES / "single.md").read_text(encoding="utf-8")).substitute(vars(info))
    template = TEMPLATES / ("clip.md" if family.is_video else "picture.md")
    return Template(template.read_text(encoding="utf-8")).substitute(
        # JSON values are YAML values, whatever characters they hold.
        front_matter="\n".join(f"{k}: {json.dumps(v)}" for k, v in matter.items()),
        name=name,
        base=f"[{base}](https://huggingface.co/{base})" if hub else LOCAL.get(base, f"`{base}`"),
        preview=preview if has_preview else "",
        instructions="\n".join(f"- {text}" for text in info.instructions) or "- (none recorded)",
        files=_listed(files),
        comfyui=_comfyui(info, name, experts),
        file=shlex.quote(files[0]),
        instruction=shlex.quote(info.instruction or "what to change"),
        single=single if set(experts) < set(family.experts) else "",
        pipeline=family.publishing.pipeline,
        settings="\n".join(f"| {name} | {value} |" for name, value in _settings(info, family)),
        licence=licence_words,
    )


def said_of_steps(info: LoraInfo) -> str:
    """What is to be said of a LoRA that edits in few steps; nothing of others."""
    if info.sampler != "renoise":
        return ""
    return (
        f"An editor of {info.sample_steps} steps, noised anew between them (*ByG Few Steps* or "
        "`lcm` in ComfyUI); "
        "more steps are not better"
    )


def _settings(info: LoraInfo, family: Family) -> list[tuple[str, object]]:
    """The card's table."""
    names = {"unipc": "UniPC", "renoise": "LCM (noised anew between the steps)"}
    sampler = names.get(info.sampler or "euler", "Euler")
    rows = [
        ("strength", "1.0 as trained; less keeps more of the source, more edits further"),
        ("steps, sampler", f"{info.sample_steps}, {sampler}"),
        *([("few steps", said_of_steps(info))] if said_of_steps(info) else []),
        ("shift", _shift(info)),
        _guidance(info, family),
        ("size", f"about {info.resolution} x {info.resolution} pixels, any aspect ratio"),
    ]
    if family.is_video:
        clips = f"{info.frames} frames at {info.fps:g} a second"
        rows.append(("clips it was trained on", clips))
    if len(family.experts) > 1:
        pair = "one network" if info.boundary is None else f"two, meeting at t = {info.boundary:g}"
        rows.append(("networks", pair))
    weights = {"edit": "live", "ema": "EMA"}[info.weights]
    return [
        *rows,
        ("source positions", family.reference_modes[info.reference_mode]),
        ("rank, training steps, weights", f"{info.rank}, {info.steps}, {weights}"),
    ]


def _shift(info: LoraInfo) -> float | str:
    shift = info.sample_shift
    return family_of(shift).own_shift if isinstance(shift, str) else shift


def _guidance(info: LoraInfo, family: Family) -> tuple[str, str]:
    """A row: of distilled models their guidance input, of others that of the sampler."""
    cfg, low = info.cfg_pair
    if family.has_guidance:
        guidance = info.guidance_sample
        return "guidance", "none" if guidance is None else f"{guidance:g} (cfg {cfg:g})"
    both = f"{cfg:g}" if low == cfg else f"{cfg:g} at high noise, {low:g} at low"
    against = f', against "{info.negative}"' if info.negative and max(cfg, low) > 1 else ""
    return "classifier-free guidance", both + against


def _comfyui(info: LoraInfo, name: str, experts: Collection[str]) -> str:
    """How to use the LoRA there."""
    family, there = family_of(info.family), has_workflow(info)
    put = f"put {_listed(_files(name, experts))} into `models/loras`"
    if not is_embedded(info.base):
        return put + family.publishing.usage(info, name, there)
    if there:
        return (
            f"{put} and drag `{name}.workflow.json`\nonto the canvas; it needs the ByG nodes, which"
            " bring the base along."
        )
    node = f"ByG {'Video' if family.is_video else 'Image'} Edit"
    return f"{put} and use the nodes *ByG Tiny World*,\n*ByG Loader* and *{node}* of the ByG pack."


def _listed(files: list[str]) -> str:
    return " and ".join(f"`{file}`" for file in files)


def filled(graph: Graph) -> dict[str, Any]:
    """The template with all that `graph` says in it; ValueError for a name that it does not have.

    A loader that opens another file than the template's loses the note where to download that one.
    """
    content = json.loads(graph.template.read_text(encoding="utf-8"))
    nodes: dict[str, list[dict[str, Any]]] = {}
    for node in content["nodes"]:
        nodes.setdefault(node.get("title") or node["type"], []).append(node)
    if unknown := (graph.widgets.keys() | set(graph.bypassed)) - nodes.keys():
        raise ValueError(f"{graph.template.name} has no node {', '.join(sorted(unknown))}")
    for name in graph.bypassed:
        for node in nodes[name]:
            node["mode"] = BYPASS
    for name, values in graph.widgets.items():
        for node in nodes[name]:
            before = list(node["widgets_values"])
            for widget, value in values.items():
                place = _place(node, widget)
                node["widgets_values"][place] = value(before[place]) if callable(value) else value
            if node["widgets_values"] != before:
                node["properties"].pop("models", None)
    return content


def widget_names(node: dict[str, Any]) -> list[str | None]:
    """The widgets of a node: as itself says, where it names them all, or as they are known.

    A later ComfyUI may have more of them.
    """
    own = [socket["widget"]["name"] for socket in node.get("inputs", []) if "widget" in socket]
    whole = len(own) == len(node["widgets_values"])
    return own if whole else WIDGETS.get(node["type"], [])


def _place(node: dict[str, Any], widget: str) -> int:
    names = widget_names(node)
    if len(names) != len(node["widgets_values"]) or widget not in names:
        raise ValueError(
            f"{node['type']} has {len(node['widgets_values'])} widgets and was known with "
            f"{', '.join(map(str, names))}; wanted {widget!r}: run tools.build_workflows again"
        )
    return names.index(widget)
