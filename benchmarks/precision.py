"""What `model.autocast=false` changes: norms, q and k in bfloat16, on the tiny world.

    python benchmarks/precision.py [--preset demo_video]

One process, the same random items: the error of the velocity against float32 over all times, with
the same weights, and what a gradient pass keeps of all blocks. A CPU's autocast leaves norms alone;
here they are computed as a GPU's has them, and FLUX attends as on a GPU.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from byg_train.config import build_config, load_preset, merged
from byg_train.core.flow import noised
from byg_train.core.roles import Text
from byg_train.models.backbone import Backbone, load_backbone
from byg_train.models.lora import LoraBank
from byg_train.training.peak import peak_saved_bytes

ROWS = 8


class Case(NamedTuple):
    """A loaded base, and its items."""

    backbone: Backbone
    bank: LoraBank
    x: Tensor
    text: Text

    def velocity(self, t: float) -> Tensor:
        """Of noisy items beside their sources."""
        eps = torch.randn(self.x.shape, generator=torch.Generator().manual_seed(1))
        times = torch.full((ROWS,), t)
        x_t = noised(self.x, eps, times)
        return self.backbone.velocity(x_t, times, self.text, self.x, guidance=1.0)

    def gradient(self) -> None:
        """One pass; leaves no gradient."""
        self.velocity(0.95).square().mean().backward()
        for p in self.bank.named_parameters().values():
            p.grad = None


def load(preset: str, dtype: str, *, autocast: bool) -> Case:
    """With the weights of bfloat16, in either type, and the preset's warm-up LoRA's shape."""
    model = {"dtype": dtype, "autocast": autocast, "gradient_checkpointing": False}
    config = build_config(merged(load_preset(preset), {"model": model}))
    backbone = load_backbone(config.model, "cpu")
    for p in backbone.experts.parameters():
        p.data = p.data.bfloat16().to(p.dtype)
    for module in backbone.experts.modules():
        if hasattr(getattr(module, "processor", None), "plain"):
            module.set_processor(module.processor.plain)
    bank = LoraBank(backbone.experts, config.lora, None, 0)
    side = config.data.resolution // backbone.multiple * backbone.multiple
    g = torch.Generator().manual_seed(0)
    pixels = 2 * torch.rand(ROWS, 3, config.data.frames, side, side, generator=g) - 1
    with torch.no_grad():
        text = backbone.encode_text(["a red thing on blue ground, cartoon style"] * ROWS)
    return Case(backbone, bank, backbone.encode_pixels(pixels), text)


class NormsOfAGpu(TorchFunctionMode):
    """CUDA's autocast gives norms in float32 (aten/src/ATen/autocast_mode.h)."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in (F.layer_norm, F.rms_norm) and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, Tensor.float, (args, kwargs))
        return func(*args, **(kwargs or {}))


def error(case: Case, exact: Case) -> float:
    """The root mean square of a relative error, over all times."""
    times = torch.linspace(0.05, 1, 20).tolist()
    with torch.no_grad():
        pairs = [(case.velocity(t), exact.velocity(t)) for t in times]
    return (sum(((v - w).norm() / w.norm()).item() ** 2 for v, w in pairs) / len(pairs)) ** 0.5


def main() -> None:
    """Print a line for either way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="demo")
    preset = parser.parse_args().preset
    exact = load(preset, "float32", autocast=True)
    for autocast, name in ((True, "autocast"), (False, "bfloat16 throughout")):
        case = load(preset, "bfloat16", autocast=autocast)
        with NormsOfAGpu():
            kept = peak_saved_bytes(case.gradient, list(case.backbone.experts.parameters()))
            distance = error(case, exact)
        print(f"{name}: error {distance:.3%}, kept {kept / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
