"""Where the networks of metrics come from, and what happens if one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from ..data import DataError
from .models import CLIP, DINO, ClipEncoders, EmbedPictures, load_dino

# How motion fidelity pairs the tracks of source and result.
Direction = Literal["edit_to_src", "symmetric_mean", "symmetric_sum"]


class UnavailableError(DataError):
    """A metric cannot be computed; `need` names the input that is missing or unusable."""

    def __init__(self, message: str, need: str) -> None:
        super().__init__(message)
        self.need = need


@dataclass(frozen=True)
class Networks:
    """Sources of the networks: hub ids, folders or files. Each is loaded when first used."""

    clip: str = CLIP
    dino: str = DINO
    vgg: Path | None = None
    aesthetic_head: Path | None = None
    cotracker: str | None = None
    raft: Path | None = None
    motion: Direction = "edit_to_src"
    device: str = "cpu"

    @cached_property
    def loaded_clip(self) -> ClipEncoders:
        """CLIP's two towers."""
        with reachable("clip", self.clip):
            return ClipEncoders(self.clip, self.device)

    @cached_property
    def loaded_dino(self) -> EmbedPictures:
        """DINO's class token."""
        with reachable("dino", self.dino):
            return load_dino(self.dino, self.device)


@contextmanager
def reachable(need: str, name: str) -> Iterator[None]:
    """Explain a network that cannot be downloaded or found."""
    try:
        yield
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        message = f"{name} cannot be loaded ({_first_line(error)})"
        raise UnavailableError(message, need) from None


@contextmanager
def usable(need: str, file: Path, wanted: str) -> Iterator[None]:
    """Explain a file of weights that cannot be used."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        message = f"{file} cannot be used ({_first_line(error)}); wanted {wanted}"
        raise UnavailableError(message, need) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
