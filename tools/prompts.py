"""The shipped workflows as prompts, as the frontend makes them, and with the tiny world's models.

The official files of FLUX.1-dev and Wan 2.2 14B are 24 GB and more. Where a workflow is run to be
tested or shown, its loaders are replaced by ByG Tiny World; the rest is the workflow's own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .canvas import Info, default_of, inputs_of, widgets_of

Prompt = dict[str, dict[str, Any]]

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
NOTES = ("Note", "MarkdownNote")
ENDS = (-10, -20)  # ids of a subgraph's inputs and outputs
BYPASSED = 4

# Loader -> output of ByG Tiny World; of Wan's two networks the name tells which.
LOADERS = {"UNETLoader": 0, "DualCLIPLoader": 1, "CLIPLoader": 1, "VAELoader": 2}
LOW = 4
TINY = "tiny"  # the id of that node in a prompt


def read(path: Path) -> dict[str, Any]:
    """A workflow or blueprint."""
    return json.loads(path.read_text(encoding="utf-8"))


def shipped(name: str, infos: dict[str, Info]) -> Prompt:
    """A workflow of `workflows/` as a prompt."""
    return prompt_of(read(ROOT / "workflows" / f"{name}.json"), infos)


# ---------------------------------------------------------------- what the frontend posts


def prompt_of(workflow: dict[str, Any], infos: dict[str, Info]) -> Prompt:
    """What the frontend would post for it: nodes of subgraphs among the others, notes left out."""
    links = {number: (source, slot) for number, source, slot, *_ in workflow["links"]}
    links = _around_bypassed(workflow["nodes"], links)
    inside = {d["id"]: d for d in workflow.get("definitions", {}).get("subgraphs", [])}
    prompt: Prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in inside:
            prompt |= _opened(node, inside[node["type"]], infos)
        elif node["type"] not in NOTES and node["mode"] != BYPASSED:
            prompt[str(node["id"])] = _entry(node, links, infos, "")
    return prompt


def _around_bypassed(nodes: list[dict], links: dict) -> dict:
    """A bypassed node hands on its input of the output's type."""
    through = {}
    for node in nodes:
        if node["mode"] == BYPASSED:
            for slot, output in enumerate(node["outputs"]):
                same = (i for i in node["inputs"] if i["type"] == output["type"] and i.get("link"))
                through[node["id"], slot] = links[next(same)["link"]]
    return {number: through.get(source, source) for number, source in links.items()}


def _opened(node: dict, definition: dict, infos: dict[str, Info]) -> Prompt:
    """The nodes inside of a box whose own inputs are not linked."""
    names = ("id", "origin_id", "origin_slot")
    rows = [tuple(link[name] for name in names) for link in definition["links"]]
    links = {number: (source, slot) for number, source, slot in rows if source not in ENDS}
    prefix = f"{node['id']}:"
    return {
        f"{prefix}{inner['id']}": _entry(inner, links, infos, prefix)
        for inner in definition["nodes"]
    }


def _entry(node: dict, links: dict, infos: dict[str, Info], prefix: str) -> dict[str, Any]:
    inputs = _widgets(node, infos[node["type"]])
    for entry in node["inputs"]:
        if entry.get("link") in links:
            source, slot = links[entry["link"]]
            inputs[entry["name"]] = [f"{prefix}{source}", slot]
    return {"class_type": node["type"], "inputs": inputs}


def _widgets(node: dict, info: Info) -> dict[str, Any]:
    """Its values by name; what the node has got since the file was written has its default."""
    names, values, known = widgets_of(info), node["widgets_values"], inputs_of(info)
    assert len(values) <= len(names), f"{node['type']}: {values} for {names}"
    later = (default_of(*known[name]) if name else None for name in names[len(values) :])
    pairs = zip(names, (*values, *later), strict=True)
    return {name: value for name, value in pairs if name is not None}


# ---------------------------------------------------------------- changes


def on_tiny_world(prompt: Prompt, lora: str, words: dict[str, str], world: dict) -> Prompt:
    """The same graph with ByG Tiny World for its loaders, another LoRA, and words that it knows.

    Args:
        prompt: with the loaders of the official files.
        lora: its name in ByG Loader.
        words: text in the prompt -> text of the tiny world.
        world: the node in place of the loaders, as it stands in a prompt.
    """
    slots = {
        name: LOW if "low_noise" in str(node["inputs"]) else LOADERS[node["class_type"]]
        for name, node in prompt.items()
        if node["class_type"] in LOADERS
    }
    assert slots, "a graph without loaders"
    found: Prompt = {TINY: world}
    for name, node in prompt.items():
        if name in slots:
            continue
        inputs = {key: _moved(value, slots) for key, value in node["inputs"].items()}
        inputs |= {"lora_name": lora} if "lora_name" in inputs else {}
        if inputs.get("text"):
            inputs["text"] = words[inputs["text"]]
        found[name] = {**node, "inputs": inputs}
    return found


def _moved(value: Any, slots: dict[str, int]) -> Any:
    return [TINY, slots[value[0]]] if isinstance(value, list) and value[0] in slots else value


def tiny_world(media: str) -> dict[str, Any]:
    """The node with an ink drawing of a fox."""
    inputs = {"media": media, "style": "ink drawing", "subject": "fox"}
    return {"class_type": "ByG_TinyWorld", "inputs": inputs}


def of_class(prompt: Prompt, kind: str) -> list[str]:
    """The nodes of a class, in the order of the graph."""
    return [name for name, node in prompt.items() if node["class_type"] == kind]


def without(prompt: Prompt, *kinds: str) -> Prompt:
    """The same without the nodes of some classes."""
    return {name: node for name, node in prompt.items() if node["class_type"] not in kinds}


def with_inputs(prompt: Prompt, kind: str, **inputs: Any) -> Prompt:
    """The same with inputs of all nodes of a class changed."""
    changed = dict(prompt)
    for name in of_class(prompt, kind):
        node = prompt[name]
        changed[name] = {**node, "inputs": {**node["inputs"], **inputs}}
    return changed
