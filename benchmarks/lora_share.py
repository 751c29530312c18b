"""What a LoRA adds to a forward: inputs as they come, and copied to float32 as peft does alone.

    python benchmarks/lora_share.py [--device cuda] [--tokens 512] [--width 1024]

One process and interleaved rounds: a linear layer of a base in bfloat16 under autocast, the same
with a LoRA of rank 64, and again with every input of the LoRA copied to float32 first. The share is
what the LoRA adds over the layer alone, in medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

RANK, ROUNDS = 64, 15


def layer(width: int, device: str) -> nn.Module:
    """A frozen linear layer with a LoRA in float32."""
    network = nn.Sequential(nn.Linear(width, width, bias=False)).to(device, torch.bfloat16)
    network.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"]), network)
    (linear,) = network.children()
    for part in (linear.lora_A, linear.lora_B):
        part.float()
    return linear


def seconds(work: Callable[[], Tensor], device: str) -> float:
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def main() -> None:
    """Print the three times, and the LoRA's shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--width", type=int, default=1024)
    options = parser.parse_args()
    linear = layer(options.width, options.device)
    x = torch.randn(1, options.tokens, options.width, device=options.device).bfloat16()

    @torch.no_grad()
    def forward(*, lora: bool, copied: bool = False) -> Tensor:
        linear._disable_adapters, linear.cast_input_dtype_enabled = not lora, copied
        with torch.autocast(options.device, torch.bfloat16):
            return linear(x)

    works = {
        "alone": lambda: forward(lora=False),
        "with a LoRA": lambda: forward(lora=True),
        "with copies to float32": lambda: forward(lora=True, copied=True),
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
