"""The metadata of a LoRA of FLUX, the export command, and a workflow's nodes by their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.models.lora_file import LoraInfo

FLUX = LoraInfo(
    base="black-forest-labs/FLUX.1-dev",
    family="flux",
    reference_mode="index",
    text_len=256,
    instructions=['make it "ink": $5 & more', "make it a photo"],
    reverse_instructions=["make it a photo"],
    resolution=512,
    guidance_train=1.0,
    guidance_prior=1.0,
    guidance_sample=2.5,
    sample_steps=24,
    sample_shift="flux",
    rank=64,
    steps=3200,
    weights="edit",
    dataset="abc",
)


def export(run: Path, *more: object) -> Result:
    return CliRunner().invoke(app, ["export", str(run), *(str(word) for word in more)])


def nodes(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["type"]: node for node in graph["nodes"]}
