"""What a LoRA adds to a forward: as it is summed up here, and as peft adds it.

    python benchmarks/lora_share.py [--device cuda] [--tokens 512] [--width 1024]

One process and interleaved rounds: a linear layer of a base in bfloat16 under autocast, the same
with a LoRA of rank 64, as peft has it, and as peft has it alone, with every input of the LoRA
copied to float32 first. The share is what the LoRA adds over the layer alone, in medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from byg_train.config import LoraSettings
from byg_train.models.lora import LoraBank
from byg_train.models.lora_forward import without_merged_weights

RANK, ROUNDS = 64, 60


def layer(width: int, device: str) -> nn.Module:
    """A frozen linear layer with a LoRA in float32, and without merged weights."""
    network = nn.Sequential(nn.Linear(width, width, bias=False)).to(torch.bfloat16)
    LoraBank(nn.ModuleDict({"one": network}), LoraSettings(rank=RANK, targets=["0"]), None, seed=0)
    without_merged_weights(network)
    return network.to(device)[0]


def seconds(work: Callable[[], Tensor], device: str) -> float:
    """On a CPU those that it computed, which other programs disturb less than a clock."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Print the three times, and the LoRA's shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--width", type=int, default=1024)
    options = parser.parse_args()
    linear = layer(options.width, options.device)
    peft = partial(type(linear).forward, linear)
    x = torch.randn(1, options.tokens, options.width, device=options.device).bfloat16()

    @torch.no_grad()
    def forward(
        how: Callable[[Tensor], Tensor], *, lora: bool = True, copied: bool = False
    ) -> Tensor:
        linear._disable_adapters, linear.cast_input_dtype_enabled = not lora, copied
        with torch.autocast(options.device, torch.bfloat16):
            return how(x)

    works = {
        "alone": lambda: forward(linear, lora=False),
        "with a LoRA": lambda: forward(linear),
        "as peft adds it": lambda: forward(peft),
        "as peft alone, with copies to float32": lambda: forward(peft, copied=True),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for i in range(ROUNDS + 1):
        for name, work in works.items():
            spent = seconds(work, options.device)
            if i:
                found[name].append(spent)
    alone = median(found["alone"])
    for name, spent in found.items():
        added = median(spent) / alone - 1
        print(f"{name}: {1000 * median(spent):.2f} ms, the LoRA adds {added:.0%}")


if __name__ == "__main__":
    main()
