"""What a running node does on ComfyUI's canvas: show text, stop when the artist cancels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from textwrap import wrap
from typing import Any

import comfy.model_management
from comfy_execution.utils import get_executing_context

# Letters of a line of text on a node as wide as those of our graphs.
LETTERS = 42


def show_text(text: str) -> None:
    """Show text on the running node; does nothing outside of a server.

    In short lines, since the frontend breaks long ones inside of words; two spaces at the end of a
    line keep it apart from the next one in Nodes 2.0, which render Markdown.
    """
    lines = ("\n".join(wrap(line, LETTERS, break_long_words=False)) for line in text.splitlines())
    text = "\n".join(f"{line}  " if line else "" for line in lines)
    server, context = sys.modules.get("server"), get_executing_context()
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    if instance is not None and context is not None:
        instance.send_progress_text(text, context.node_id)


def interruptible(items: list[Any]) -> Iterator[Any]:
    """Yield the items, and stop if the user cancels."""
    for item in items:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield item
