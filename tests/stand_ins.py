"""Empty modules for what ComfyUI's other models import and nothing here uses.

ComfyUI asks for these packages. They may be absent, or CUDA builds beside a CPU torch, which fail
when they are imported. Where a stock node is missing for it, some frontends open no loader at all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGES = ("torchvision", "torchaudio", "kornia", "spandrel")


class _Empty(ModuleType):
    """Whatever is asked of it is another one; none can be called."""

    def __getattr__(self, name: str) -> ModuleType:
        if name.startswith("__"):
            raise AttributeError(name)
        return import_module(f"{self.__name__}.{name}")


class _StandIn(MetaPathFinder, Loader):
    """Finds every module of some packages."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = name.split(".")[0] in self.packages
        return ModuleSpec(name, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def stand_in() -> None:
    """Let every import of a package that does not work here succeed."""
    broken = [package for package in PACKAGES if not _works(package)]
    for name in [name for name in sys.modules if name.split(".")[0] in broken]:
        del sys.modules[name]
    sys.meta_path.insert(0, _StandIn(broken))


def _works(package: str) -> bool:
    try:
        import_module(package)
    except (ImportError, RuntimeError, OSError):
        return False
    return True
