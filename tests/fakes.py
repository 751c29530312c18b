"""Networks of real sizes on a GPU that is not there: fake tensors, which have all but values.

Every operation is recorded: a product of two types, two devices that meet, a value that Python asks
for (on a GPU, a wait) and what backward keeps show as they would there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from diffusers import FluxTransformer2DModel, WanTransformer3DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from byg_train.config import TrainConfig
from byg_train.models.backbone import Backbone
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.wan.backbone import WanBackbone
from byg_train.models.wan.loading import Base

CUDA = torch.device("cuda")


class Vae(nn.Module):
    """A VAE's shape: what a backbone asks of one before it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.config = SimpleNamespace(block_out_channels=[0] * 4, scale_factor_spatial=8)

    def enable_slicing(self) -> None:
        """As AutoencoderKLWan has it."""


class Watch(TorchDispatchMode):
    """Counts what Python asks of tensors: values, and copies from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name, on = str(func), args[0] if args else None
        there = isinstance(on, Tensor) and on.device.type == "cuda"
        if there and ("_local_scalar_dense" in name or "nonzero" in name):
            self.waits[name] += 1
            return True if on.dtype == torch.bool else 0.5
        found = func(*args, **(kwargs or {}))
        if there and "_to_copy" in name and found.device.type == "cpu":
            self.waits[name] += 1
        return found


@contextmanager
def gpu() -> Iterator[Watch]:
    """Inside, tensors are fake and a GPU computes them; yields what makes it wait."""
    with ExitStack() as stack:
        no = "torch.cuda.amp.common.amp_definitely_not_available"
        stack.enter_context(mock.patch(no, lambda: False))  # autocast looks for a real GPU
        stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", lambda *_: True))
        stack.enter_context(mock.patch("torch.cuda.empty_cache", lambda: None))
        for module in ("picture_backbone", "wan.backbone"):
            name = f"byg_train.models.{module}"
            stack.enter_context(mock.patch(f"{name}.autoencoder", lambda *_: Vae()))
            stack.enter_context(mock.patch(f"{name}.fingerprint", lambda *_: "fake"))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(Watch())


def network(kind: type[nn.Module], **sizes: Any) -> nn.Module:
    """A transformer of its class's own, real sizes, in bfloat16 on the fake GPU."""
    with CUDA:
        made = kind(**sizes)
    whole = kind._keep_in_fp32_modules or ()
    for name, weight in made.named_parameters():
        kept = any(part in name for part in whole)
        weight.data = weight.data.to(torch.float32 if kept else torch.bfloat16)
    return made


def backbone(config: TrainConfig) -> Backbone:
    """FLUX.1-dev, or both experts of Wan2.2 T2V-A14B."""
    if config.model.family == "flux":
        made = network(FluxTransformer2DModel, guidance_embeds=True)
        return FluxBackbone(config.model, Path(), made, "cuda")
    pair = {expert: network(WanTransformer3DModel) for expert in ("high", "low")}
    return WanBackbone(config.model, Base(Path(), pair, 0.875), "cuda")
