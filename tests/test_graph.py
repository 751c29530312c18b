"""Filling in a ComfyUI graph: by names, so that a new widget is an error and never a shift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from byg_train.export.card import filled, widget_names
from byg_train.family import Graph, registry


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A loader, a sampler and two savers, one of them with a title."""
    loader = {"type": "UNETLoader", "widgets_values": ["a.safetensors", "default"]}
    loader["properties"] = {"models": ["where to download a"], "other": 1}
    sampler = {"type": "KSampler", "widgets_values": [7, "fixed", 20, 1.0, "euler", "simple", 1.0]}
    savers = [
        {"type": "SaveImage", "title": "Result", "widgets_values": ["ByG/x"]},
        {"type": "SaveImage", "title": "Result", "widgets_values": ["ByG/x_compare"]},
    ]
    nodes = [{"mode": 0, "properties": {}, **n} for n in (loader, sampler, *savers)]
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps({"nodes": nodes, "links": []}))
    return file


def values(template: Path, widgets: dict[str, dict[str, Any]]) -> list[list[Any]]:
    return [node["widgets_values"] for node in filled(Graph(template, widgets))["nodes"]]


def test_widgets_are_set_by_name(template: Path) -> None:
    """Behind a seed stands a widget that only the frontend knows."""
    found = values(template, {"KSampler": {"steps": 9, "sampler_name": "uni_pc"}})
    assert found[1] == [7, "fixed", 9, 1.0, "uni_pc", "simple", 1.0]
    assert found[0] == ["a.safetensors", "default"]


def test_all_nodes_of_a_title_are_set_and_may_keep_a_part(template: Path) -> None:
    found = values(template, {"Result": {"filename_prefix": lambda old: old.replace("x", "mine")}})
    assert found[2:] == [["ByG/mine"], ["ByG/mine_compare"]]


def test_another_file_is_not_where_the_templates_one_was(template: Path) -> None:
    for file, kept in (("a.safetensors", True), ("b.safetensors", False)):
        loader = filled(Graph(template, {"UNETLoader": {"unet_name": file}}))["nodes"][0]
        assert ("models" in loader["properties"]) == kept and loader["properties"]["other"] == 1


def test_what_is_bypassed(template: Path) -> None:
    nodes = filled(Graph(template, {}, bypassed=("KSampler",)))["nodes"]
    assert [node["mode"] for node in nodes] == [0, 4, 0, 0]


def test_a_name_that_is_not_there_is_an_error(template: Path) -> None:
    with pytest.raises(ValueError, match="has no node SaveImage, Upscale"):
        filled(Graph(template, {"SaveImage": {}}, bypassed=("Upscale",)))
    with pytest.raises(ValueError, match="KSampler has 7 widgets .*wanted 'stepz'"):
        filled(Graph(template, {"KSampler": {"stepz": 1}}))


def test_a_new_widget_is_an_error(template: Path) -> None:
    """Where ComfyUI's next version has one more, all behind it stand one further."""
    content = json.loads(template.read_text())
    content["nodes"][1]["widgets_values"].insert(0, "new")
    template.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="KSampler has 8 widgets and was known with seed, "):
        filled(Graph(template, {"KSampler": {"steps": 1}}))


def test_a_node_may_name_its_widgets_itself(template: Path) -> None:
    """As files of later ComfyUIs do."""
    content = json.loads(template.read_text())
    content["nodes"][0]["inputs"] = [
        {"name": "model", "link": 1},
        *({"name": name, "widget": {"name": name}} for name in ("unet_name", "first", "second")),
    ]
    content["nodes"][0]["widgets_values"] = ["a.safetensors", 1, 2]
    template.write_text(json.dumps(content))
    assert values(template, {"UNETLoader": {"second": 3}})[0] == ["a.safetensors", 1, 3]
    with pytest.raises(ValueError, match="wanted 'weight_dtype'"):
        filled(Graph(template, {"UNETLoader": {"weight_dtype": "default"}}))


@pytest.mark.parametrize("name", sorted(registry()))
def test_the_shipped_templates_are_known(name: str) -> None:
    """Every node of every template has as many values as its widgets have names."""
    folder = Path(__file__).parents[1] / "byg_train" / "models" / name
    embedded = registry()[name].embedded
    templates = [*folder.glob("*.json"), *([embedded.example] if embedded else [])]
    assert templates
    for template in templates:
        for node in json.loads(template.read_text(encoding="utf-8"))["nodes"]:
            assert len(widget_names(node)) == len(node["widgets_values"]), node["type"]
