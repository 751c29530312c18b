"""A ComfyUI workflow, filled in by the names of its nodes and widgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..family import Graph

TEMPLATES = Path(__file__).parent / "templates"
# Kind of node -> its widgets in the order of a file's values; null: one that the frontend adds.
# Written by tools.build_workflows, which asks a ComfyUI: the files themselves hold values alone.
WIDGETS: dict[str, list[str | None]] = json.loads((TEMPLATES / "widgets.json").read_text())
BYPASS = 4


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
