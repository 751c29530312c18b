"""The group `data`: from a folder of pictures or clips to training tuples."""

from __future__ import annotations

import typer

from .data_caption import caption
from .data_check import check
from .data_generate import generate
from .data_import import import_
from .data_preview import preview
from .data_styles import styles

data_app = typer.Typer(no_args_is_help=True, help="Turn pictures or clips into training tuples.")
for command in (styles, caption, check, preview, generate):
    data_app.command()(command)
data_app.command("import")(import_)
