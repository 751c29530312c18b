"""The nodes of ByG for ComfyUI; only `host/` touches ComfyUI's internals."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from comfy_api.v0_0_2 import ComfyExtension, io


def found() -> list[type[io.ComfyNode]]:
    """The node of every file beside this one that has one."""
    files = [file for file in iter_modules(__path__) if not file.ispkg]
    modules = [import_module(f".{file.name}", __package__) for file in files]
    return [module.NODE for module in modules if hasattr(module, "NODE")]


class ByG(ComfyExtension):
    """The extension that ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return found()


async def comfy_entrypoint() -> ComfyExtension:
    return ByG()
