"""The nodes of ByG for ComfyUI; only `host/` touches ComfyUI's internals."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from . import compare, debug, experts, finish, image_edit, loader, video_edit, world

NODES = [
    *loader.NODES,
    *image_edit.NODES,
    *video_edit.NODES,
    *finish.NODES,
    *experts.NODES,
    *compare.NODES,
    *debug.NODES,
    *world.NODES,
]


class ByG(ComfyExtension):
    """The extension that ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> ComfyExtension:
    return ByG()
