"""`presets`: what can be trained."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from ..config import PRESETS, build_config, load_preset


def presets() -> None:
    """List the presets."""
    table = Table(Column("preset", no_wrap=True), "for", Column("base", no_wrap=True), "steps")
    for name in PRESETS:
        config = build_config(load_preset(name))
        table.add_row(name, config.description, config.model.path, str(config.train.steps))
    Console().print(table)
