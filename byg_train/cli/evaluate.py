"""The group `evaluate`: measure how well methods edit."""

from __future__ import annotations

import typer

from .evaluate_edit import edit
from .evaluate_fetch import fetch
from .evaluate_score import metrics, score

evaluate_app = typer.Typer(
    no_args_is_help=True, help="Measure edits: fetch tasks, edit them all, score the results."
)
for command in (fetch, edit, score, metrics):
    evaluate_app.command()(command)
