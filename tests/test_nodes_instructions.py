"""What a LoRA knows, as a list and in its report; its strength on either expert."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import comfy_host
import graphs_crop
import graphs_loader
import pytest
import torch
from comfy_host import in_host
from graphs import INFO
from world_lora import trained, write

from byg_train.models.lora_file import LoraInfo, write_lora

pytestmark = pytest.mark.host
KNOWN = ["add a bell", "turn the photo into clay", "remove the bell", "paint the wall red", "more"]


@pytest.fixture(scope="module", autouse=True)
def lora() -> str:
    """A LoRA of the tiny world that knows these."""
    return write(trained()[1], "taught", replace(INFO, instructions=KNOWN)).name


def test_the_report_begins_with_what_it_was_taught() -> None:
    lines = in_host(graphs_loader.load, "taught.safetensors").split("  \n")
    assert lines[0] == "it was taught (2 more: add a ByG Instruction):"
    assert lines[1:4] == [f"- {text}" for text in KNOWN[:3]]


def test_the_list_has_what_the_files_know() -> None:
    found = in_host(graphs_crop.instructions)
    assert [text for text in found if text in KNOWN] == KNOWN
    assert len(set(found)) == len(found)
    assert any("ink drawing" in text for text in found)  # of the tiny world's


def test_a_link_that_leads_nowhere_hides_no_lora(tmp_path: Path) -> None:
    """ComfyUI lists it by its name; a node that failed for it would be missing altogether."""
    link = comfy_host.loras() / "dead.safetensors"
    link.symlink_to(tmp_path / "nowhere.safetensors")
    try:
        assert set(KNOWN) <= set(in_host(graphs_crop.instructions))
    finally:
        link.unlink()


def test_the_choice_or_ones_own_words_come_out() -> None:
    own = INFO.instructions[0]
    known = {"instruction": own, "info": INFO}
    assert in_host(partial(graphs_crop.said, **known)) == (own, f'"{own}"')
    text, said = in_host(partial(graphs_crop.said, **known, own_words=" make it rain \n"))
    assert text == "make it rain" and "not among what this LoRA was taught" in said and own in said
    with pytest.raises(ValueError, match=r"ByG Instruction: .*no LoRA of byg_train.*own_words"):
        in_host(partial(graphs_crop.said, instruction="(no LoRA of byg_train in models/loras)"))


def test_each_expert_has_its_strength() -> None:
    wan = replace(
        INFO, base="Wan-AI/Wan2.2-T2V-A14B", family="wan", reference_mode="shared", multiple=16,
        guidance_sample=None, sample_shift=12.0, boundary=0.875,
    )  # fmt: skip
    for expert in ("high", "low"):
        _write(f"strength_{expert}_noise.safetensors", replace(wan, expert=expert))
    name = "strength_high_noise.safetensors"
    assert in_host(graphs_crop.patched, name) == [1.0, 1.0]
    both = {"strength": 0.8, "strength_low": 0.5}
    assert in_host(partial(graphs_crop.patched, name, **both)) == pytest.approx([0.8, 0.4])


def _write(name: str, info: LoraInfo) -> None:
    tensors = {"blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 128)}
    tensors["blocks.0.self_attn.q.lora_B.weight"] = torch.ones(128, 2)
    kind = {"scale": 1.0, "family": "wan", "metadata": info.to_metadata()}
    write_lora(comfy_host.loras() / name, tensors, **kind)
