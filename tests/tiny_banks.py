"""Tiny networks of every family with a random LoRA."""

from __future__ import annotations

from pathlib import Path

import tiny_flux
import tiny_wan

from byg_train.models.backbone import Backbone
from byg_train.models.lora import LoraBank


def flux(path: Path, **changes: object) -> tuple[Backbone, LoraBank]:
    backbone = tiny_flux.load(path, **changes)
    bank = tiny_flux.make_bank(backbone)
    tiny_flux.randomise(bank)
    return backbone, bank


def wan(_: Path, **changes: object) -> tuple[Backbone, LoraBank]:
    backbone = tiny_wan.load(tiny_wan.base(), **changes)
    bank = tiny_wan.make_bank(backbone)
    tiny_wan.randomise(bank)
    return backbone, bank
