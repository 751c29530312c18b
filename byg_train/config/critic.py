"""The section `critic` of a run: what answers questions about edits while they are trained."""

from __future__ import annotations

from pydantic import Field

from .sections import Section


class CriticConfig(Section):
    """Which network judges edits; only NP-Edit has one."""

    path: str = ""
    """Hub id or folder of a vision-language model; `world`: the small one of the tiny world.

    Qwen2.5-VL, Qwen3-VL and InternVL, as transformers has them.
    """
    device: str | None = None
    """Where it is, such as cuda:1; null: beside the student."""
    resolution: int = Field(448, ge=48)
    """It is shown pictures of about this many pixels squared."""
    questions: str = "questions"
    """The file of templates: one that ships (`questions`, `world`), or a TOML file of your own."""
