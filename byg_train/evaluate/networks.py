"""The networks that embed frames for metrics: where they come from, CLIP and DINO.

Clips are uint8 arrays (F, H, W, 3) of RGB; a picture is a clip of one frame. A metric takes
features or one of the callables below, so it runs with any network; only this file loads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..data import DataError
from ..media.pixels import Frames

# (F, H, W, 3) -> features (F, D).
EmbedPictures = Callable[[Frames], NDArray]

# Brooks et al. 2023 (InstructPix2Pix) and VBench use this CLIP; Caron et al. 2021 is DINO v1, and
# the size is VBench's (ByG names none).
CLIP, DINO = "openai/clip-vit-large-patch14", "facebook/dino-vitb16"
CLIP_NORM = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET_NORM = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DINO_SIDE = 224  # pixels of the short side
BATCH = 16  # frames per forward
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
        with explained("clip", self.clip):
            return ClipEncoders(self.clip, self.device)

    @cached_property
    def loaded_dino(self) -> EmbedPictures:
        """DINO's class token."""
        with explained("dino", self.dino):
            return load_dino(self.dino, self.device)


@contextmanager
def explained(need: str, name: str, file: Path | None = None, wanted: str = "") -> Iterator[None]:
    """Explain a network that cannot be found, downloaded, or read from a `file` of weights."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        message = f"{name} cannot be loaded ({why})"
        if file:
            message = f"{file} cannot be used ({why}); wanted {wanted}"
        raise UnavailableError(message, need) from None


# ---------------------------------------------------------------- CLIP and DINO


def unit(features: NDArray) -> NDArray:
    """Scale features (..., D) to length 1, float64; a zero vector stays zero."""
    features = np.asarray(features, np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def as_clip_resizes(frames: Frames, side: int) -> Tensor:
    """Resize the short side to `side` as CLIP's own preprocessing does (Pillow, bicubic).

    Returns (F, 3, h, w) in [0, 1], float32, as does `as_vbench_resizes`.
    """
    size = _fitted(frames, side)
    pictures = [Image.fromarray(f).resize(size, Image.Resampling.BICUBIC) for f in frames]
    return _as_tensor(np.stack([np.asarray(picture) for picture in pictures])) / 255


def as_vbench_resizes(frames: Frames, side: int, mode: str) -> Tensor:
    """Resize the short side to `side` without antialiasing or rounding: bicubic or bilinear."""
    width, height = _fitted(frames, side)
    return F.interpolate(_as_tensor(frames), (height, width), mode=mode) / 255


def _fitted(frames: Frames, side: int) -> tuple[int, int]:
    """The size (width, height) with a short side of `side` pixels."""
    height, width = frames.shape[1:3]
    short = min(height, width)
    return side * width // short, side * height // short


def _as_tensor(frames: Frames) -> Tensor:
    """(F, H, W, 3) -> (F, 3, H, W), float32."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()


def centre_crop(pixels: Tensor, side: int) -> Tensor:
    """Crop the middle side x side of (F, 3, h, w)."""
    top, left = ((length - side) // 2 for length in pixels.shape[-2:])
    return pixels[..., top : top + side, left : left + side]


def normalised(pixels: Tensor, norm: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """Normalise pixels (F, 3, h, w) in [0, 1] by a network's mean and deviation per channel."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in norm)
    return (pixels - mean) / deviation


class ClipEncoders:
    """CLIP's image and text encoders, in one space; features are not normalised."""

    def __init__(self, name: str = CLIP, device: str = "cpu") -> None:
        """Load CLIP from a hub id or a folder; safetensors only."""
        from transformers import CLIPModel, CLIPTokenizer

        model = CLIPModel.from_pretrained(name, use_safetensors=True)
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = CLIPTokenizer.from_pretrained(name)
        self.device = device

    def pictures(self, frames: Frames) -> NDArray:
        """Embed frames -> (F, D), resized as in the training of CLIP."""
        side = self.model.config.vision_config.image_size
        return self._seen(as_clip_resizes(frames, side), side)

    def pictures_vbench(self, frames: Frames) -> NDArray:
        """Embed frames -> (F, D), resized as VBench does for the aesthetic quality."""
        side = self.model.config.vision_config.image_size
        return self._seen(as_vbench_resizes(frames, side, "bicubic"), side)

    def _seen(self, pixels: Tensor, side: int) -> NDArray:
        pixels = normalised(centre_crop(pixels, side), CLIP_NORM)
        return _in_batches(self._see, pixels, self.device)

    def _see(self, pixels: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return self.model.visual_projection(pooled)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> NDArray:
        """Embed N texts -> (N, D), cut and padded to CLIP's own length (77 tokens)."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(self.device)
        pooled = self.model.text_model(**tokens).pooler_output
        return self.model.text_projection(pooled).float().cpu().numpy()


def load_dino(name: str = DINO, device: str = "cpu") -> EmbedPictures:
    """Load DINO's class token embedding of whole frames, their short side at 224 px."""
    from transformers import ViTModel

    model = ViTModel.from_pretrained(name, add_pooling_layer=False, use_safetensors=True)
    model.eval().requires_grad_(False).to(device)

    def see(pixels: Tensor) -> Tensor:
        return model(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]

    def embed(frames: Frames) -> NDArray:
        pixels = as_vbench_resizes(frames, DINO_SIDE, "bilinear")
        return _in_batches(see, normalised(pixels, IMAGENET_NORM), device)

    return embed


@torch.no_grad()
def _in_batches(see: Callable[[Tensor], Tensor], pixels: Tensor, device: str) -> NDArray:
    return torch.cat([see(part.to(device)).float().cpu() for part in pixels.split(BATCH)]).numpy()
