"""The all-in-one boxes: a whole edit as one node, found by the host under its blueprints."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from .canvas import OURS, PROJECT, Canvas, Placed, Socket
from .clip_graphs import SAMPLER
from .kits import FLUX_KIT, WAN_KIT, Kit
from .parts import NEGATIVE

INPUT, OUTPUT = -10, -20  # the frontend's ids of a subgraph's two ends
Entry = tuple[str, Placed, str]  # label, node and input that it goes to


class Box:
    """A canvas whose loose ends become the sockets and widgets of one node."""

    def __init__(self, canvas: Canvas, title: str, description: str) -> None:
        self.canvas, self.title, self.description = canvas, title, description
        self.id = str(uuid5(NAMESPACE_URL, f"{PROJECT}/subgraphs/{title}"))

    def file(self, inputs: list[Entry], outputs: dict[str, Socket]) -> dict[str, Any]:
        """The blueprint: a workflow of one node, and the definition of what is inside."""
        number = len(self.canvas.nodes) + 1
        entries = [self._entry(*entry) for entry in inputs]
        outer = {
            "id": number,
            "type": self.id,
            "pos": [0, 0],
            "size": [400, 460],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [self._outer(label, node, name) for label, node, name in inputs],
            "outputs": [{"name": n, "type": s.kind, "links": []} for n, s in outputs.items()],
            "properties": {"cnr_id": PROJECT, "ver": self.canvas.version},
            "widgets_values": [],
            "title": self.title,
            **OURS,
        }
        return {
            "id": str(uuid5(NAMESPACE_URL, f"{self.id}/file")),
            "revision": 0,
            "last_node_id": number,
            "last_link_id": 0,
            "nodes": [outer],
            "links": [],
            "groups": [],
            "definitions": {"subgraphs": [self._definition(entries, outputs)]},
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _outer(self, label: str, placed: Placed, name: str) -> dict[str, Any]:
        found = _input(placed, name)
        widget = {"widget": {"name": label}} if "widget" in found else {}
        return {"name": label, "type": found["type"], "link": None, **widget}

    def _entry(self, label: str, placed: Placed, name: str) -> tuple[str, dict, int]:
        found = _input(placed, name)
        assert found["link"] is None, f"{name} is linked already"
        return label, placed.node, placed.node["inputs"].index(found)

    def _definition(self, entries: list, outputs: dict[str, Socket]) -> dict[str, Any]:
        c = self.canvas
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        links = [dict(zip(names, link, strict=True)) for link in c.links]
        first, top = [], 60
        for slot, (label, node, target) in enumerate(entries):
            kind, number = node["inputs"][target]["type"], len(links) + 1
            node["inputs"][target]["link"] = number
            ends = (number, INPUT, slot, node["id"], target, kind)
            links.append(dict(zip(names, ends, strict=True)))
            first.append(self._socket("in", label, kind, number, [-140, top + 20 * slot]))
        last = []
        for slot, (label, source) in enumerate(outputs.items()):
            number = len(links) + 1
            source.node["outputs"][source.slot]["links"].append(number)
            ends = (number, source.node["id"], source.slot, OUTPUT, slot, source.kind)
            links.append(dict(zip(names, ends, strict=True)))
            at = [c.x + 60, top + 20 * slot]
            last.append(self._socket("out", label, source.kind, number, at))
        return {
            "id": self.id,
            "version": 1,
            "state": {
                "lastGroupId": len(c.groups),
                "lastNodeId": len(c.nodes) + 1,
                "lastLinkId": len(links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": self.title,
            "description": self.description,
            "inputNode": {"id": INPUT, "bounding": [-260, 40, 140, 20 * len(first) + 40]},
            "outputNode": {"id": OUTPUT, "bounding": [c.x + 40, 40, 140, 20 * len(last) + 40]},
            "inputs": first,
            "outputs": last,
            "widgets": [],
            "nodes": c.nodes,
            "groups": c.groups,
            "links": links,
            "extra": {},
        }

    def _socket(self, end: str, label: str, kind: str, link: int, at: list) -> dict[str, Any]:
        number = str(uuid5(NAMESPACE_URL, f"{self.id}/{end}/{label}"))
        return {"id": number, "name": label, "type": kind, "linkIds": [link], "pos": at}


def _input(placed: Placed, name: str) -> dict[str, Any]:
    return next(i for i in placed.node["inputs"] if i["name"] == name)


# ---------------------------------------------------------------- the boxes


def _loaders(c: Canvas, kit: Kit) -> tuple[Any, Placed, dict[str, Placed]]:
    """The base, ByG Loader, and the loaders of files by type."""
    base = kit.load(c)
    nodes = [Placed(node) for node in c.nodes]
    low = {} if base.model_low is None else {"model_low": base.model_low}
    with c.stage("LoRA", 360):
        loader = c.add("ByG_Loader", {"model": base.model, "lora_name": kit.lora, **low})
    return base, loader, {f"{n.node['type']}{i}": n for i, n in enumerate(nodes)}


def image_box(c: Canvas, title: str) -> dict[str, Any]:
    """FLUX: picture and instruction in, picture out."""
    base, loader, files = _loaders(c, FLUX_KIT)
    with c.stage("Instruction", 380):
        text = c.add("CLIPTextEncode", {"clip": base.clip, "text": FLUX_KIT.instruction})
        given = {"positive": text["CONDITIONING"], "vae": base.vae, "info": loader["info"]}
        edit = c.add("ByG_ImageEdit", given)
    with c.stage("Sample", 320):
        texts = {name: edit[name] for name in ("positive", "negative")}
        given = {"model": loader["model"], **texts, "latent_image": edit["latent"], "cfg": 1.0}
        how = {"sampler_name": "euler", "scheduler": "simple", "steps": FLUX_KIT.steps}
        sampler = c.add("KSampler", {**given, **how})
        images = c.add("VAEDecode", {"samples": sampler["LATENT"], "vae": base.vae})["IMAGE"]
        finish = c.add("ByG_Finish", {"images": images, "fit": edit["fit"]})
    inputs = [
        ("image", edit, "image"),
        ("mask", edit, "mask"),
        ("instruction", text, "text"),
        ("lora", loader, "lora_name"),
        ("strength", loader, "strength"),
        ("seed", sampler, "seed"),
        ("steps", sampler, "steps"),
        ("variations", edit, "batch_size"),
        ("model", files["UNETLoader0"], "unet_name"),
        ("clip_l", files["DualCLIPLoader1"], "clip_name1"),
        ("t5", files["DualCLIPLoader1"], "clip_name2"),
        ("vae", files["VAELoader2"], "vae_name"),
    ]
    box = Box(c, title, "Edits a picture with a ByG LoRA on FLUX.1-dev. Size comes back exactly.")
    return box.file(inputs, {"image": finish["images"], "report": loader["report"]})


def video_box(c: Canvas, title: str) -> dict[str, Any]:
    """Wan 2.2 14B: clip and instruction in, clip out."""
    base, loader, files = _loaders(c, WAN_KIT)
    with c.stage("Instruction", 380):
        text = c.add("CLIPTextEncode", {"clip": base.clip, "text": WAN_KIT.instruction})
        given = {"clip": base.clip, "text": WAN_KIT.negative}
        negative = c.add("CLIPTextEncode", given, title=NEGATIVE)["CONDITIONING"]
        texts = {"positive": text["CONDITIONING"], "negative": negative}
        edit = c.add("ByG_VideoEdit", {**texts, "vae": base.vae, "info": loader["info"]})
    with c.stage("Experts", 340):
        steps = c.add("PrimitiveInt", {"value": WAN_KIT.steps}, title="Steps")
        seed = c.add("PrimitiveInt", {"value": 0}, title="Seed")
        given = {"model": loader["model"], "steps": steps["INT"], "sampler_name": WAN_KIT.sampler}
        split = c.add("ByG_ExpertSplit", given)["split_step"]
    with c.stage("Sample", 340):
        sides = {name: edit[name] for name in ("positive", "negative")}
        common = {**sides, "noise_seed": seed["INT"], "steps": steps["INT"], **SAMPLER}
        stages = (
            ("model", 0, edit["latent"], {"end_at_step": split}, "enable", "enable"),
            ("model_low", 1, None, {"start_at_step": split}, "disable", "disable"),
        )
        latent = None
        for model, expert, start, part, noise, leftover in stages:
            how = {"add_noise": noise, "return_with_leftover_noise": leftover}
            ends = {"model": loader[model], "latent_image": start or latent}
            ends["cfg"] = WAN_KIT.cfg[expert]
            latent = c.add("KSamplerAdvanced", {**common, **how, **ends, **part})["LATENT"]
        images = c.add("VAEDecode", {"samples": latent, "vae": base.vae})["IMAGE"]
        finish = c.add("ByG_Finish", {"images": images, "fit": edit["fit"]})
    inputs = [
        ("video", edit, "video"),
        ("instruction", text, "text"),
        ("lora", loader, "lora_name"),
        ("strength", loader, "strength"),
        ("length", edit, "length"),
        ("start_frame", edit, "start_frame"),
        ("seed", seed, "value"),
        ("steps", steps, "value"),
        ("high_noise_model", files["UNETLoader0"], "unet_name"),
        ("low_noise_model", files["UNETLoader1"], "unet_name"),
        ("text_encoder", files["CLIPLoader2"], "clip_name"),
        ("vae", files["VAELoader3"], "vae_name"),
    ]
    words = (
        "Edits a clip with a pair of ByG LoRAs on Wan 2.2 14B. Size, length and sound come back."
    )
    outputs = {"video": finish["video"], "frames": finish["images"], "report": loader["report"]}
    return Box(c, title, words).file(inputs, outputs)


BOXES = {"ByG Image Edit (easy)": image_box, "ByG Video Edit (easy)": video_box}
