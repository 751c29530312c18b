"""A source that only a model which ByG Loader set up can open.

Merged, saved and loaded again, behind Load LoRA or wired past the Loader, a MODEL lacks what puts
the source's tokens in their place. It would take them all the same, and give coloured noise without
a word.
"""

from __future__ import annotations

from typing import Any, NoReturn

from torch import Tensor

CURE = (
    "ByG Loader: the model at this sampler did not come through ByG Loader, so it would put the "
    "source in the wrong place and give coloured noise. Connect `model` of ByG Loader to the "
    "sampler (of a pair, `model_low` to the second one). Load LoRA, a merge into another model, or "
    "a checkpoint saved with the LoRA in it lose what ByG Loader sets: there, load the base model, "
    "and the LoRA's own file in ByG Loader"
)


class Sealed:
    """A latent (N, C, [F], h, w) in a conditioning; whatever else touches it raises `CURE`."""

    def __init__(self, latent: Tensor, mode: str | None) -> None:
        """`mode`: where the source stood in training; None: not known."""
        vars(self).update(_latent=latent, _mode=mode)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(CURE)  # caches of later ComfyUIs ask what an output has, and go on

    def _refused(self, *_: Any) -> NoReturn:
        raise ValueError(CURE)

    __add__ = __sub__ = __mul__ = __truediv__ = __getitem__ = __len__ = _refused


def opened(value: Any) -> Any:
    """The latent of a sealed source, or of each in a list; anything else as it is."""
    if isinstance(value, list):
        return [opened(one) for one in value]
    return vars(value)["_latent"] if isinstance(value, Sealed) else value


def mode_of(value: Any) -> str | None:
    """The positions that a sealed source, or the first in a list, asks for."""
    value = value[0] if isinstance(value, list) else value
    return vars(value)["_mode"] if isinstance(value, Sealed) else None
