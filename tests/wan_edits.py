"""A pair of tiny Wan LoRAs that changes clips a lot, and edits with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny_wan
from edits import edit_clip, in_float32
from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.editing.opening import EditModel, open_lora
from byg_train.models.lora_file import LoraInfo, expert_path, write_lora

TEXT, NEGATIVE = "turn video to cartoon style", "photo-realistic snow"
INFO = LoraInfo(
    base="?", family="wan", reference_mode="shared", text_len=tiny_wan.TEXT_LEN,
    instructions=[TEXT], reverse_instructions=["turn video to photo-realistic style"],
    resolution=32, guidance_train=None, guidance_prior=None, guidance_sample=None, sample_steps=3,
    sample_shift=4.0, rank=4, steps=9, weights="edit", dataset="abc", multiple=16, frames=5,
    fps=16.0, sampler="unipc", cfg=3.0, cfg_low=2.0, negative=NEGATIVE,
)  # fmt: skip


def write_pair(folder: Path, kind: str = "pair", **changes: object) -> Path:
    """Files of random LoRAs, one for each expert, that change clips a lot; returns the first."""
    backbone = tiny_wan.load(tiny_wan.base(kind))
    bank = tiny_wan.make_bank(backbone)
    tiny_wan.randomise(bank)
    for expert in backbone.experts:
        pair = expert in ("high", "low")
        own = replace(
            INFO,
            base=str(tiny_wan.base(kind)),
            expert=expert if pair else None,
            boundary=tiny_wan.BOUNDARY if pair else None,
            **changes,
        )
        path = expert_path(folder / "toon.safetensors", expert)
        tensors = {k: v * 3 for k, v in bank.tensors(expert, "edit").items()}
        write_lora(path, tensors, scale=1, family="wan", metadata=own.to_metadata())
    return expert_path(folder / "toon.safetensors", next(iter(backbone.experts)))


def edited(lora: Path | EditModel, clip: Path, **changes: object) -> list[np.ndarray]:
    """Results (F, H, W, 3) of the library's call, in float32."""
    model = in_float32(open_lora(lora, None) if isinstance(lora, Path) else lora)
    return edit_clip(model, clip, TEXT, **changes)


def byg(lora: Path, clip: Path, output: Path, *more: object) -> Result:
    words = ["edit", "--lora", lora, "--input", clip, "--output", output, "--device", "cpu"]
    words += [*more, *([] if "--instruction" in more else ["--instruction", TEXT])]
    return CliRunner().invoke(app, [str(word) for word in words])


def worked(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result
