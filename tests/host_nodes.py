"""A custom node of the tests' server: a small Wan pair from a folder, like ByG Tiny World."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar


class TestTinyWan:
    """MODEL, CLIP, VAE, nothing, and the low-noise MODEL: the outputs of ByG Tiny World."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE", "IMAGE", "MODEL")
    FUNCTION = "load"
    CATEGORY = "test"
    __test__: ClassVar[bool] = False  # for pytest

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802  ComfyUI's name
        return {"required": {"folder": ("STRING", {})}}

    def load(self, folder: str) -> tuple:
        loaded = (m for name, m in sys.modules.items() if name.endswith(".nodes.host.tiny_wan"))
        host, path = next(loaded), Path(folder)
        high, low = host.load_models(path)
        return high, host.load_clip(path), host.load_vae(path), None, low


NODE_CLASS_MAPPINGS = {"TestTinyWan": TestTinyWan}
