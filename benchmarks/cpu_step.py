"""A step on a CPU with merged LoRA weights, the faster GELU and attention, beside one without them.

python benchmarks/cpu_step.py [--dtype float32|bfloat16] [--repeats 7]

As on a CPU that has no more than AVX2: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2. Both sides in one process and in turn; a ratio is a median of ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from statistics import median
from unittest.mock import patch

import torch
import typer
from torch import Tensor

from byg_train.config import build_config, load_preset, merged
from byg_train.models import frozen, lora_forward
from byg_train.models.backbone import load_backbone
from byg_train.models.lora import LoraBank
from byg_train.objectives import objective_of
from byg_train.training.assembly import make_roles
from byg_train.training.bench import problem, works

WORK = ("ema", "identity", "staged")
# Side -> LoRA weights up to which size are merged, and what of `models.frozen` is left out.
SIDES = {
    "without": (0, ("use_fast_gelu", "use_fast_attention")),
    "merged": (lora_forward.SMALL, ("use_fast_gelu", "use_fast_attention")),
    "and GELU": (lora_forward.SMALL, ("use_fast_attention",)),
    "all": (lora_forward.SMALL, ()),
}
# What is divided by what: each change by the side before it, and all of them by none.
PAIRS = [*zip([*SIDES][1:], SIDES, strict=False), ("all", "without")]


def side(dtype: str, small: int, left_out: Iterable[str]) -> dict[str, Callable[[], object]]:
    """The works of a bank with random A and B over the embedded base."""
    config = build_config(merged(load_preset("demo"), {"model": {"dtype": dtype}}))
    with ExitStack() as patches:
        patches.enter_context(patch.object(lora_forward, "SMALL", small))
        for name in left_out:
            patches.enter_context(patch.object(frozen, name, lambda network: None))
        backbone = load_backbone(config.model, "cpu")
        bank = LoraBank(backbone.experts, config.lora, config.method.ema_decay, config.seed)
    g = torch.Generator().manual_seed(0)
    state, counts = bank.state_dict()
    drawn = {name: 0.02 * torch.randn(w.shape, generator=g) for name, w in state.items()}
    bank.load_state_dict(drawn, counts)
    batch, draw = problem(backbone, config, 8, "cpu")
    empty: dict[str, Tensor] = {k: v[0] for k, v in backbone.encode_text([""]).items()}
    G = make_roles(config, backbone, bank, empty)
    return works(objective_of(config), G, batch, draw, config.method)


def main(dtype: str = "float32", repeats: int = 7) -> None:
    """Print a table in Markdown."""
    todo = {name: side(dtype, *what) for name, what in SIDES.items()}
    spent: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats + 1):
        for work in WORK:
            for name, has in todo.items():
                began = time.perf_counter()
                has[work]()
                spent.setdefault((work, name), []).append(time.perf_counter() - began)
    capability = torch.backends.cpu.get_cpu_capability()
    typer.echo(
        f"{dtype}, {capability}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for work in WORK:
        seconds = {name: spent[work, name][1:] for name in SIDES}  # the first run is slower
        cells = [f"without {1000 * median(seconds['without']):.0f} ms"]
        for name, other in PAIRS:
            ratios = [b / a for a, b in zip(seconds[other], seconds[name], strict=True)]
            cells.append(f"{name} / {other} {median(ratios):.2f}")
        typer.echo(f"| {work} | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
