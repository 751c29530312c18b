"""What ComfyUI's side knows of the model families: one file each, called as the family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE

from ...byg_train.family import family_of, registry
from ...byg_train.world import fetch
from .canvas import show_text

# The key of everything that ByG patches into a MODEL.
KEY = "byg"


class Parts(NamedTuple):
    """A loaded base; of a pair `model` is the high-noise network."""

    model: ModelPatcher
    clip: CLIP
    vae: VAE
    model_low: ModelPatcher | None = None


@dataclass(frozen=True)
class HostFamily:
    """How ComfyUI runs a family."""

    classes: tuple[str, ...]
    """ComfyUI's names of its models; subclasses are other models."""
    place_source: Callable[[ModelPatcher, str], None]
    """(clone, reference mode) -> patch it so that source tokens stand where training had them."""
    open_embedded: Callable[[Path], Parts]
    """(folder) -> the small base that ships with ByG, which no stock loader opens."""
    leave_out_source: Callable[[ModelPatcher], None] = lambda model: None
    """(clone) -> patch the network of a pair that has no LoRA: it has never seen a source."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """What its configuration says, where models of other families have the same class."""
    refusal: Callable[[ModelPatcher], str | None] = lambda model: None
    """(MODEL) -> why this relative of the base cannot edit; None if it can."""
    too_old: Callable[[], str | None] = lambda: None
    """() -> why this ComfyUI edits with none of its models; None if it does."""

    def runs(self, model: ModelPatcher) -> bool:
        """Whether a MODEL is of this family."""
        sizes = model.model.model_config.unet_config
        same = all(sizes.get(name) == value for name, value in self.sizes.items())
        return same and type(model.model).__name__ in self.classes


@cache
def _hosts() -> dict[str, HostFamily]:
    return {name: import_module(f".{name}", __package__).HOST for name in registry()}


def family(model: ModelPatcher) -> str | None:
    """Our name of a MODEL's family; None for any other model."""
    return next((name for name, host in _hosts().items() if host.runs(model)), None)


def host_of(model: ModelPatcher) -> HostFamily:
    """How ComfyUI runs a MODEL of one of the families."""
    return host_named(family(model))


def host_named(name: str) -> HostFamily:
    """How ComfyUI runs a family of ours."""
    return _hosts()[name]


def open_embedded(name: str) -> Parts:
    """The small base of a family that ships with ByG; fetched where the pack came without it."""
    own, host = family_of(name).embedded, host_named(name)
    if reason := host.too_old():
        raise ValueError(f"media {own.media!r}: {reason}")
    for folder in (own.folder, *own.shared.values()):
        if not (folder / "model_index.json").is_file():
            fetch.fetch_base(folder, _progress)
    return host.open_embedded(own.folder)


def _progress(text: str) -> None:
    throw_exception_if_processing_interrupted()
    show_text(text)
