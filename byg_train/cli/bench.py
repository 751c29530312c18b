"""`bench`: what a training step costs on this machine."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from .options import Assignments, Device, Profile, resolve_device


def bench(
    device: Device = "auto",
    batch: Annotated[int, Option(help="Items in each step.", min=1)] = 8,
    profile: Profile = None,
    assignments: Assignments = None,
) -> None:
    """Measure what a training step costs on this machine."""
    from ..training.bench import run, show

    show(run(resolve_device(device), batch, profile=profile, assignments=assignments or ()))
