"""The card of an export: what it says of the LoRA, and what it keeps to itself."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from exports import FLUX
from families import change_embedded

from byg_train.export.card import card, has_workflow, said_of_steps, workflow


def test_the_card() -> None:
    text = card(FLUX, "ink", has_preview=True)
    _, front, body = text.split("---\n", 2)
    matter = dict(line.split(": ", 1) for line in front.strip().splitlines())
    values = {key: json.loads(value) for key, value in matter.items()}
    assert values["base_model"] == "black-forest-labs/FLUX.1-dev"
    assert values["pipeline_tag"] == "image-to-image"
    assert values["license"] == "other" and "non-commercial" in values["license_name"]
    assert {"lora", "comfyui", "byg"} <= set(values["tags"])
    for words in ("(ink.png)", "ink.workflow.json", "2.5", "24", "3200", "strength", "Removing"):
        assert words in body
    for instruction in FLUX.instructions:
        assert f"- {instruction}" in body
    assert not re.search(r"\$[a-z_]+", body)  # every placeholder was filled


def test_the_card_of_a_few_step_editor_says_so() -> None:
    said = "An editor of 4 steps"
    assert said not in card(FLUX, "ink", has_preview=True)
    info = replace(FLUX, sampler="renoise", sample_steps=4)
    assert said in card(info, "ink", has_preview=True) and said_of_steps(info).startswith(said)


def test_the_card_of_a_local_base_claims_no_hub_model() -> None:
    text = card(replace(FLUX, base="world"), "ink", has_preview=False)
    assert "base_model" not in text and "license:" not in text
    assert "ink.png" not in text and "`world`" in text
    assert "models/loras" in text and "ink.workflow.json" in text and "ByG nodes" in text


def test_without_the_node_pack_the_embedded_base_has_no_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a wheel, which holds byg_train alone."""
    change_embedded(monkeypatch, "flux", example=tmp_path / "gone.json")
    info = replace(FLUX, base="world")
    text = card(info, "ink", has_preview=False)
    assert not has_workflow(info) and "workflow.json" not in text
    assert "*ByG Tiny World*" in text


@pytest.mark.parametrize("base", ["/m/flux1-dev.safetensors", "/m/flux1-dev-fp8.safetensors"])
def test_the_licence_follows_a_single_file(base: str) -> None:
    assert "flux-1-dev-non-commercial-license" in card(
        replace(FLUX, base=base), "x", has_preview=True
    )


def test_a_card_tells_nothing_of_the_disk_it_was_made_on() -> None:
    info = replace(FLUX, base="/home/somebody/secret client/my-flux.safetensors")
    for text in (card(info, "x", has_preview=True), json.dumps(workflow(info, "x"))):
        assert "my-flux" in text and "somebody" not in text and "secret" not in text


def test_the_cards_command_survives_a_shell() -> None:
    (line,) = (x for x in card(FLUX, "my ink", has_preview=True).splitlines() if "train edit" in x)
    words = shlex.split(line)
    assert words[words.index("--instruction") + 1] == FLUX.instructions[0]
    assert words[words.index("--lora") + 1] == "my ink.safetensors"


def test_a_card_offers_the_workflow_only_where_there_is_one() -> None:
    assert "x.workflow.json" in card(FLUX, "x", has_preview=True)
    shared = card(replace(FLUX, reference_mode="shared"), "x", has_preview=True)
    assert "x.workflow.json" not in shared and "ByG's own" in shared
