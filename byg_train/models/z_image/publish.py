"""What an exported LoRA of Z-Image says: its licence, how to use it, and the workflow."""

from __future__ import annotations

from ...family import Graph
from ..lora_file import LoraInfo
from .network import Z_IMAGE


def licence(base: str) -> tuple[dict[str, str], str] | None:
    """Front matter and a sentence; Z-Image's alone is known."""
    if not Z_IMAGE.search(base):
        return None
    return {"license": "apache-2.0"}, "Apache 2.0, as the base model."


def usage(info: LoraInfo, name: str, has_workflow: bool) -> str:
    """How to go on once the file is in `models/loras`."""
    return ". The source enters through *ReferenceLatent*; ComfyUI knows it for Z-Image since 0.11."


def graph(info: LoraInfo, name: str, files: list[str]) -> Graph | None:
    return None
