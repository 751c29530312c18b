"""The pack as ComfyUI sees it: it loads, its schemas are whole, it brings no trainer along."""

from __future__ import annotations

import json
import sys

import pytest
from comfy_host import in_host

pytestmark = pytest.mark.host
NODES = {
    "ByG_Loader", "ByG_ImageEdit", "ByG_VideoEdit", "ByG_Finish", "ByG_ExpertSplit", "ByG_Compare",
    "ByG_Debug", "ByG_TinyWorld", "ByG_Instruction", "ByG_FewSteps",
}  # fmt: skip


def _facts() -> dict[str, dict]:
    """What the host tells its frontend of each of our nodes, and the words that find it."""
    import nodes

    ours = {n: kind for n, kind in nodes.NODE_CLASS_MAPPINGS.items() if n.startswith("ByG")}
    facts = {
        name: {**kind.GET_NODE_INFO_V1(), "aliases": kind.GET_SCHEMA().search_aliases}
        for name, kind in ours.items()
    }
    return json.loads(json.dumps(facts))  # as the frontend gets it


def test_every_node_is_there_and_explains_itself() -> None:
    facts = in_host(_facts)
    assert facts.keys() == NODES
    for name, info in facts.items():
        assert info["display_name"].startswith("ByG ")
        assert info["category"].startswith("ByG/")
        assert len(info["description"]) > 40 and len(info["aliases"]) >= 3
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        for widget, (_, options) in inputs.items():
            assert len(options.get("tooltip", "")) > 10, f"{name}.{widget} has no tooltip"


def test_outputs_of_nodes_have_names_of_their_own() -> None:
    for name, info in in_host(_facts).items():
        assert len(set(info["output_name"])) == len(info["output_name"]), name


def _loaded() -> list[str]:
    return sorted({module.split(".")[0] for module in sys.modules})


def test_the_pack_brings_no_trainer_into_the_host() -> None:
    loaded = set(in_host(_loaded))
    assert "torch" in loaded and "comfy" in loaded
    assert not loaded & {"diffusers", "peft", "accelerate", "typer"}
