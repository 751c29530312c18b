"""ComfyUI graphs in the frontend's file format, from a few lines for each node.

`infos` is what a ComfyUI answers at /object_info: the sockets and widgets of every node. So a graph
cannot name one that does not exist, and widget values stand in the order the frontend reads them.
Stages are columns from left to right, each with its own frame; nodes stand under each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

Info = dict[str, Any]
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
GROUPS = ("required", "optional")
UPLOADS = ("image_upload", "video_upload")
RESULTS = ("PreviewImage", "SaveImage", "SaveVideo")  # which show what comes out
# Pixels of the frontend's drawing: a row of sockets, of widgets, a title bar.
ROW, WIDGET_ROW, TITLE = 20, 24, 30
# The same in Nodes 2.0, and what it leaves free in a node.
ROW_2, WIDGET_ROW_2, TEXT_2, FREE_2 = 24, 34, 60, 24
NOTE_2 = 2.25  # a note's text is so many times as high
TOP, GAP, MARGIN, BETWEEN, LETTER = 50, 40, 24, 40, 14
# Pixels of a screen for a graph, which Nodes 2.0 enlarge by a fifth; of the bars left and above.
VIEW, BARS = 1500, (80, 90)
OURS = {"color": "#323", "bgcolor": "#535"}
NOTE = {"color": "#432", "bgcolor": "#653"}
FRAME, FRAME_TO_SET = "#3f789e", "#8A8"
PROJECT = "byg-train"  # the pack's name in the registry


@dataclass(frozen=True)
class Model:
    """A file that a loader opens, and where it comes from."""

    name: str
    url: str
    directory: str


@dataclass(frozen=True)
class Socket:
    """An output of a node on the canvas."""

    node: dict[str, Any]
    slot: int

    @property
    def kind(self) -> str:
        return self.node["outputs"][self.slot]["type"]


class Placed:
    """A node on the canvas; `placed["MODEL"]` is its output of that name."""

    def __init__(self, node: dict[str, Any]) -> None:
        self.node = node

    def __getitem__(self, name: str) -> Socket:
        names = [output["name"] for output in self.node["outputs"]]
        return Socket(self.node, names.index(name))


# ---------------------------------------------------------------- what a node has


def inputs_of(info: Info) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> (type, options), required ones first."""
    return dict(_listed(info["input"], ""))


def _listed(inputs: dict[str, Any], prefix: str) -> Iterator[tuple[str, tuple[Any, dict]]]:
    """A choice that brings inputs of its own is listed with those of its first option behind it."""
    for name, spec in (i for group in GROUPS for i in inputs.get(group, {}).items()):
        kind, options = spec[0], spec[1] if len(spec) > 1 else {}
        if kind != DYNAMIC:
            yield prefix + name, (kind, options)
            continue
        choices = options["options"]
        yield prefix + name, ("COMBO", {**options, "options": [c["key"] for c in choices]})
        yield from _listed(choices[0]["inputs"], f"{prefix}{name}.")


def is_widget(kind: Any, options: dict[str, Any]) -> bool:
    """Whether an input is set in the node, unless a link takes its place."""
    return (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput")


def widgets_of(info: Info) -> list[str | None]:
    """The widgets in the order of a file's values; None: one that the frontend adds for itself."""
    found: list[str | None] = []
    for name, (kind, options) in inputs_of(info).items():
        if is_widget(kind, options):
            extra = [None] * _extras(options)
            found += [name, *extra]
    return found


def _extras(options: dict[str, Any]) -> int:
    return bool(options.get("control_after_generate")) + _uploads(options)


def _uploads(options: dict[str, Any]) -> bool:
    return any(options.get(upload) for upload in UPLOADS)


def default_of(kind: Any, options: dict[str, Any]) -> Any:
    """The value of a widget that nobody has set."""
    choices = kind if isinstance(kind, list) else options.get("options") or [None]
    return options.get("default", "" if kind == "STRING" else choices[0])


# ---------------------------------------------------------------- the canvas


class Canvas:
    """A graph that grows to the right."""

    def __init__(self, infos: dict[str, Info], name: str, version: str) -> None:
        self.infos, self.name, self.version = infos, name, version
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.groups: list[dict[str, Any]] = []
        self.x, self.y, self.width = 0, TOP, 0

    @contextmanager
    def stage(self, title: str, width: int, *, to_set: bool = False) -> Iterator[None]:
        """A framed column; `to_set`: one where the artist chooses something."""
        assert len(title) * LETTER <= width + 2 * MARGIN, f"{title!r} is wider than its frame"
        self.y, self.width, before = TOP, width, self.x
        self.x += MARGIN
        yield
        group = {
            "id": len(self.groups) + 1,
            "title": title,
            "bounding": [before, 0, width + 2 * MARGIN, self.y - GAP + MARGIN],
            "color": FRAME_TO_SET if to_set else FRAME,
            "font_size": 24,
            "flags": {},
        }
        self.groups.append(group)
        self.x = before + width + 2 * MARGIN + BETWEEN

    def add(
        self,
        kind: str,
        inputs: dict[str, Any],
        *,
        title: str | None = None,
        height: int = 0,
        spare: int = 0,
        models: tuple[Model, ...] = (),
    ) -> Placed:
        """A node below the last one; `inputs` are links (`Socket`) and values of widgets.

        It is as small as can be, but at least `height`, and `spare` pixels more.
        """
        info = self.infos[kind]
        known = inputs_of(info)
        assert inputs.keys() <= known.keys(), f"{kind} has no {inputs.keys() - known.keys()}"
        ours = kind.startswith("ByG_")
        source = {"cnr_id": PROJECT, "ver": self.version} if ours else {"cnr_id": "comfy-core"}
        chosen = any(_uploads(options) for _, options in known.values())
        taller = _height_2(info) + spare + chosen * height  # below, what was chosen is shown
        if kind in RESULTS:
            taller += self.width  # as wide as the node, and so high if it is square
        node = self._node(kind, max(height, _height(info)) + spare, title, taller=taller)
        node["properties"] = {"Node name for S&R": kind, **source}
        if models:
            node["properties"]["models"] = [vars(model) for model in models]
        if ours:
            node |= OURS
        node["inputs"] = _sockets(known)
        names = zip(info["output_name"], info["output"], strict=True)
        node["outputs"] = [{"name": n, "type": t, "links": []} for n, t in names]
        node["widgets_values"] = _values(known, inputs)
        for name, value in inputs.items():
            if isinstance(value, Socket):
                self._link(value, node, name)
        return Placed(node)

    def note(self, text: str, height: int) -> None:
        """Words for the artist, in Markdown; Nodes 2.0 write them larger, and code blue on blue."""
        text = CODE.sub(r"**\1**", text)
        node = self._node("MarkdownNote", height, "Note", taller=round(height * NOTE_2))
        node |= {"properties": {}, "widgets_values": [text], **NOTE}

    def _node(
        self, kind: str, height: int, title: str | None, *, taller: int = 0
    ) -> dict[str, Any]:
        """A node of `height`, with room below for the `taller` one of Nodes 2.0."""
        node = {
            "id": len(self.nodes) + 1,
            "type": kind,
            **({"title": title} if title else {}),
            "pos": [self.x, self.y + TITLE],
            "size": [self.width, height],
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [],
            "outputs": [],
        }
        self.nodes.append(node)
        self.y += TITLE + max(height, taller) + GAP
        return node

    def _link(self, source: Socket, node: dict[str, Any], name: str) -> None:
        slot = [i["name"] for i in node["inputs"]].index(name)
        number, target = len(self.links) + 1, node["inputs"][slot]
        wanted = target["type"]
        assert source.kind == wanted or "*" in (source.kind, wanted), f"{source.kind} into {name}"
        target["link"] = number
        source.node["outputs"][source.slot]["links"].append(number)
        self.links.append([number, source.node["id"], source.slot, node["id"], slot, source.kind])

    def _view(self) -> dict[str, Any]:
        """How it opens, at its whole width.

        Without a view the frontend zooms while Nodes 2.0 measures its nodes, and puts them wrongly.
        """
        scale = round(min(1.0, VIEW / self.x), 2)
        return {"scale": scale, "offset": [round(bar / scale) for bar in BARS]}

    def file(self) -> dict[str, Any]:
        """The workflow as the frontend saves and opens it."""
        return {
            "id": str(uuid5(NAMESPACE_URL, f"{PROJECT}/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": self._view()},
            "version": 0.4,
        }


def _sockets(known: dict[str, tuple[Any, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Inputs as the frontend orders them: plain sockets, then those of widgets."""
    plain, of_widgets = [], []
    for name, (kind, options) in known.items():
        kind_name = "COMBO" if isinstance(kind, list) else kind
        entry = {"name": name, "type": kind_name, "link": None}
        if is_widget(kind, options):
            of_widgets.append({**entry, "widget": {"name": name}})
        else:
            plain.append(entry)
    return plain + of_widgets


def _values(known: dict[str, tuple[Any, dict[str, Any]]], inputs: dict[str, Any]) -> list[Any]:
    values: list[Any] = []
    for name, (kind, options) in known.items():
        if not is_widget(kind, options):
            continue
        given = inputs.get(name)
        set_here = name in inputs and not isinstance(given, Socket)
        values.append(given if set_here else default_of(kind, options))
        if options.get("control_after_generate"):
            values.append("fixed")
        if _uploads(options):
            values.append("image")
    return values


def _height_2(info: Info) -> int:
    """The same in Nodes 2.0."""
    inputs = inputs_of(info)
    widgets = [options for kind, options in inputs.values() if is_widget(kind, options)]
    rows = max(len(inputs) - len(widgets), len(info["output"]))
    uploads = sum(map(_uploads, widgets))
    texts = sum(bool(options.get("multiline")) for options in widgets)
    height = rows * ROW_2 + (len(widgets) - texts + uploads) * WIDGET_ROW_2
    return height + texts * TEXT_2 + FREE_2


def _height(info: Info) -> int:
    """As the frontend lays a node out that is as small as can be."""
    inputs = inputs_of(info)
    widgets = [options for kind, options in inputs.values() if is_widget(kind, options)]
    count = len(widgets) + sum(_extras(options) for options in widgets)
    rows = max(len(inputs) - len(widgets), len(info["output"]))
    return rows * ROW + (count * WIDGET_ROW + 8 if count else 0) + 6
