"""The workflow of an export: a whole graph of stock nodes, filled in with the LoRA's settings."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exports import FLUX, nodes

from byg_train.export.card import card, has_workflow, workflow
from byg_train.family import family_of
from byg_train.models.flux.record import sampling_shift

EXAMPLE = family_of("flux").embedded.example
FEW = replace(FLUX, sampler="renoise", sample_steps=4)
# Node -> its linked inputs and widgets, in ComfyUI 0.3.64's order.
STOCK = {
    "UNETLoader": ([], ["unet_name", "weight_dtype"]),
    "LoraLoaderModelOnly": (["model"], ["lora_name", "strength_model"]),
    "ModelSamplingFlux": (["model"], ["max_shift", "base_shift", "width", "height"]),
    "DualCLIPLoader": ([], ["clip_name1", "clip_name2", "type", "device"]),
    "VAELoader": ([], ["vae_name"]),
    "LoadImage": ([], ["image", "upload"]),
    "ImageScaleToTotalPixels": (["image"], ["upscale_method", "megapixels"]),
    "VAEEncode": (["pixels", "vae"], []),
    "CLIPTextEncode": (["clip"], ["text"]),
    "FluxGuidance": (["conditioning"], ["guidance"]),
    "ReferenceLatent": (["conditioning", "latent"], []),
    "ConditioningZeroOut": (["conditioning"], []),
    "KSampler": (
        ["model", "positive", "negative", "latent_image"],
        ["seed", "control", "steps", "cfg", "sampler_name", "scheduler", "denoise"],
    ),
    "VAEDecode": (["samples", "vae"], []),
    "SaveImage": (["images"], ["filename_prefix"]),
    "MarkdownNote": ([], ["text"]),  # a node of the front end
}
# Widgets that only the front end has.
FRONT_END = {"control", "upload"}


def widgets(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Node -> widget -> value."""
    return {
        kind: dict(zip(STOCK[kind][1], node["widgets_values"], strict=True))
        for kind, node in nodes(graph).items()
    }


def test_the_graph_is_whole() -> None:
    """Every link is known to both of its ends, by type, and nothing else is."""
    graph = workflow(FLUX, "x")
    by_id = {node["id"]: node for node in graph["nodes"]}
    assert len(by_id) == len(graph["nodes"]) == len(nodes(graph)) == len(STOCK)
    for kind, node in nodes(graph).items():
        assert [i["name"] for i in node["inputs"]] == STOCK[kind][0], kind
        assert all(i["link"] for i in node["inputs"])
    for link, source, out_slot, target, in_slot, kind in graph["links"]:
        out, into = by_id[source]["outputs"][out_slot], by_id[target]["inputs"][in_slot]
        assert link in out["links"] and link == into["link"]
        assert kind == out["type"] == into["type"]
        assert by_id[source]["order"] < by_id[target]["order"]
    ends = sum(len(o["links"]) for n in graph["nodes"] for o in n["outputs"])
    assert ends == len(graph["links"]) == graph["last_link_id"]
    assert graph["last_node_id"] == max(by_id) and graph["version"] == 0.4


def test_the_graph_edits_the_source() -> None:
    """Positive: text, guidance, then the source; the sampler starts on the source's own size."""
    graph = workflow(FLUX, "x")
    feeds = {}
    by_id = {node["id"]: node["type"] for node in graph["nodes"]}
    for _, source, _, target, slot, _ in graph["links"]:
        feeds[by_id[target], STOCK[by_id[target]][0][slot]] = by_id[source]
    assert feeds["KSampler", "positive"] == "ReferenceLatent"
    assert feeds["ReferenceLatent", "conditioning"] == "FluxGuidance"
    assert feeds["ReferenceLatent", "latent"] == feeds["KSampler", "latent_image"] == "VAEEncode"
    assert feeds["VAEEncode", "pixels"] == "ImageScaleToTotalPixels"
    assert feeds["KSampler", "model"] == "ModelSamplingFlux"
    assert feeds["ModelSamplingFlux", "model"] == "LoraLoaderModelOnly"


def test_the_graph_has_the_loras_settings() -> None:
    filled = widgets(workflow(FLUX, "ink"))
    assert filled["LoraLoaderModelOnly"] == {
        "lora_name": "ink.safetensors",
        "strength_model": 1.0,
    }
    assert filled["CLIPTextEncode"]["text"] == FLUX.instructions[0]
    assert filled["FluxGuidance"]["guidance"] == 2.5
    assert filled["ImageScaleToTotalPixels"]["megapixels"] == 0.25  # of 1024 x 1024
    sampler = filled["KSampler"]
    assert (sampler["steps"], sampler["cfg"], sampler["denoise"]) == (24, 1.0, 1.0)
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("euler", "simple")
    assert filled["SaveImage"]["filename_prefix"] == "ink"
    assert "ink.safetensors" in filled["MarkdownNote"]["text"]


@pytest.mark.parametrize(
    ("shift", "resolution", "wanted"),
    [("flux", 512, sampling_shift(1024)), ("flux", 1024, sampling_shift(4096)), (3.0, 512, 3.0)],
)
def test_the_graph_samples_at_the_same_times(
    shift: float | str, resolution: int, wanted: float
) -> None:
    """ModelSamplingFlux's shift, as ComfyUI computes it, is the trainer's."""
    values = widgets(workflow(replace(FLUX, sample_shift=shift, resolution=resolution), "x"))
    m = values["ModelSamplingFlux"]
    slope = (m["max_shift"] - m["base_shift"]) / (4096 - 256)
    tokens = m["width"] * m["height"] / (8 * 8 * 2 * 2)
    mu = tokens * slope + m["base_shift"] - slope * 256
    assert math.exp(mu) == pytest.approx(wanted)


def test_a_tiny_world_and_a_base_without_guidance_bypass_nodes() -> None:
    tiny = workflow(replace(FLUX, resolution=48, guidance_sample=None), "x")
    modes = {kind: node["mode"] for kind, node in nodes(tiny).items() if node["mode"]}
    assert modes == {"ImageScaleToTotalPixels": 4, "FluxGuidance": 4}
    assert not any(node["mode"] for node in workflow(FLUX, "x")["nodes"])


def test_no_stock_node_shares_positions() -> None:
    assert has_workflow(FLUX)
    assert not has_workflow(replace(FLUX, reference_mode="shared"))


@pytest.mark.parametrize(
    ("told", "drawn"),
    [
        ("turn the 3d render into an ink drawing", "3d render"),
        ("paint it red", None),  # may be said of the example as it is
    ],
)
def test_the_embedded_base_comes_with_the_packs_own_example(told: str, drawn: str | None) -> None:
    info = replace(FLUX, base="world", instructions=[told], sample_steps=7)
    assert has_workflow(info) and "x.workflow.json" in card(info, "x", has_preview=True)
    example, graph = (
        nodes(json.loads(EXAMPLE.read_text(encoding="utf-8"))),
        nodes(workflow(info, "x")),
    )
    assert graph.keys() == example.keys()
    changed = {
        kind: [new for old, new in zip(was, now, strict=True) if new != old]
        for kind in graph
        if (was := example[kind]["widgets_values"]) != (now := graph[kind]["widgets_values"])
    }
    (note,) = changed.pop("MarkdownNote")
    assert "x.safetensors" in note and f"- {told}" in note
    assert changed == {
        "ByG_Loader": ["x.safetensors"],
        "CLIPTextEncode": [told],
        "KSampler": [7],
        "SaveImage": ["ByG/x"],
    } | ({"ByG_TinyWorld": [drawn]} if drawn else {})


def test_of_few_steps_stock_nodes_have_lcm_and_our_example_a_node_of_its_own() -> None:
    sampler = widgets(workflow(FEW, "x"))["KSampler"]
    assert (sampler["sampler_name"], sampler["steps"]) == ("lcm", 4)
    graph = nodes(workflow(replace(FEW, base="world"), "x"))
    assert "KSampler" not in graph and graph["ByG_Loader"]["widgets_values"][0] == "x.safetensors"
    assert graph["ByG_FewSteps"]["widgets_values"][2] == 0  # steps: as trained
    example = json.loads(family_of("flux").embedded.few_steps.read_text(encoding="utf-8"))
    assert nodes(example)["ByG_FewSteps"]["widgets_values"][2] == 4


@pytest.mark.parametrize(
    ("base", "file"),
    [
        ("black-forest-labs/FLUX.1-dev", "flux1-dev.safetensors"),
        ("/models/FLUX.1-dev", "flux1-dev.safetensors"),
        ("/models/my flux.safetensors", "my flux.safetensors"),
        ("/models/flux1-dev.safetensors", "flux1-dev.safetensors"),
        ("somebody/flux-tuned", "flux-tuned.safetensors"),
        ("/models/flux-tuned", None),
    ],
)
def test_the_graph_loads_the_base_that_it_was_trained_on(base: str, file: str | None) -> None:
    info = replace(FLUX, base=base)
    assert has_workflow(info) == (file is not None)
    if file:
        loader = nodes(workflow(info, "x"))["UNETLoader"]
        assert loader["widgets_values"] == [file, "default"]
        # The template's download is FLUX.1-dev.
        assert ("models" in loader["properties"]) == (file == "flux1-dev.safetensors")


def test_the_graph_says_what_size_comes_out() -> None:
    (text,) = nodes(workflow(FLUX, "x"))["MarkdownNote"]["widgets_values"]
    assert "about 512 x 512 pixels" in text and "not the source's size" in text
    (text,) = nodes(workflow(replace(FLUX, resolution=48), "x"))["MarkdownNote"]["widgets_values"]
    assert "ImageScaleToTotalPixels" not in text  # bypassed


def test_the_stock_nodes_are_as_comfyui_has_them(comfyui: Path) -> None:
    """Names of nodes and inputs, against the source of a real ComfyUI."""
    files = [comfyui / "nodes.py", *(comfyui / "comfy_extras").glob("*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    for kind, (inputs, fields) in STOCK.items():
        if kind == "MarkdownNote":
            continue
        body = re.search(rf"^class {kind}\b.*?(?=^class |\Z)", source, re.S | re.M)
        assert body, f"ComfyUI has no node {kind}"
        for name in (set(inputs) | set(fields)) - FRONT_END:
            assert f'"{name}"' in body.group(), f"{kind} has no input {name}"
