"""Time and peak memory of a training step at full size: real shapes, random weights, one GPU.

    python benchmarks/full_size.py                  needs CUDA: 80 GB, and 64 GB of main memory
    python benchmarks/full_size.py --case flux      those whose name holds the word
    python benchmarks/full_size.py --tiny           tiny networks on any machine, to try the code

What is in the weights changes neither time nor memory, so nothing is downloaded. Every case takes
its settings from its preset, and a whole optimiser step runs as the trainer's does: dreams, three
gradient passes for each item, clipping, AdamW. An item's time is the step's over its items.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor, nn

from byg_train.config import TrainConfig, build_config, load_preset, merged, parse_set
from byg_train.core.roles import EditBatch
from byg_train.machine import resolve_dtype
from byg_train.models.backbone import Backbone, Text
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank
from byg_train.models.networks import network
from byg_train.models.storage import store
from byg_train.models.streaming import place
from byg_train.models.wan.backbone import WanBackbone
from byg_train.models.wan.loading import Base
from byg_train.models.z_image.backbone import ZImageBackbone
from byg_train.objectives import objective_of
from byg_train.objectives.identity import IDENTITY
from byg_train.training.assembly import make_roles
from byg_train.training.cost import memory
from byg_train.training.draws import draw_for
from byg_train.training.microbatches import MicroBatch, gradients
from byg_train.training.optimizer import build_optimizer

COMMAND = "python benchmarks/full_size.py"
# Wan2.2-T2V-A14B's model_index.json.
BOUNDARY = 0.875
# FLUX.1-dev's VAE, and Z-Image's.
FLUX_VAE = dict(
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=16,
    use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159,
)  # fmt: skip
TINY_NETWORK = dict(num_layers=1, num_attention_heads=2, attention_head_dim=16)
TINY = {
    "flux": TINY_NETWORK | dict(num_single_layers=1, axes_dims_rope=(4, 6, 6)),
    "wan": TINY_NETWORK | dict(ffn_dim=32),
    "z_image": dict(
        n_layers=1, n_refiner_layers=1, dim=32, n_heads=2, n_kv_heads=2, axes_dims=[8, 4, 4]
    ),
}
TINY_FLUX_VAE = FLUX_VAE | dict(block_out_channels=(32, 32, 32, 32), layers_per_block=1)
TINY_WAN_VAE = dict(base_dim=4, num_res_blocks=1)
# Folders that a base has, and the benchmark does not need.
EMPTY = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


class Case(NamedTuple):
    """What is measured: the preset, pixels and frames of an item, items of one optimiser step."""

    name: str
    preset: str
    width: int
    height: int
    frames: int
    experts: tuple[str, ...]  # whom the items of the step are for


CASES = [
    Case("Wan2.2 T2V-A14B", "wan22_style", 576, 320, 81, ("low", "high")),
    Case("FLUX.1-dev", "flux_edit", 512, 512, 1, ("transformer",) * 4),
    Case("FLUX.1-dev", "flux_edit", 1024, 1024, 1, ("transformer",) * 2),
    Case("Z-Image", "z_image_edit", 512, 512, 1, ("transformer",) * 4),
]


class Row(NamedTuple):
    """One case, measured. Seconds are those of one item; bytes are peaks, weights included."""

    case: Case
    tokens: float
    forward: float  # F, one forward of the editor
    supervised: float  # one gradient pass, which is a step on true pairs
    full: float
    step_bytes: float
    planned_bytes: float  # what --dry-run says of the step
    decoding_bytes: float
    swaps: int


# ---------------------------------------------------------------- random networks


def random_network(kind: type[nn.Module], sizes: dict[str, Any], config: TrainConfig) -> nn.Module:
    """On the CPU, in the run's type; what diffusers keeps in float32 is float32."""
    dtype, before = getattr(torch, config.model.dtype), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            made = kind(**sizes)
    finally:
        torch.set_default_dtype(before)
    whole = kind._keep_in_fp32_modules or ()
    for name, weight in made.named_parameters():
        weight.data = weight.data.to(
            "cpu", torch.float32 if any(w in name for w in whole) else dtype
        )
    return store(made.to("cpu"), config.model, "cuda" if torch.cuda.is_available() else "cpu")


def flux(config: TrainConfig, folder: Path, device: str, tiny: bool) -> FluxBackbone:
    diffusers.AutoencoderKL(**(TINY_FLUX_VAE if tiny else FLUX_VAE)).save_pretrained(folder / "vae")
    sizes = {"guidance_embeds": True, **(TINY["flux"] if tiny else {})}
    transformer = random_network(diffusers.FluxTransformer2DModel, sizes, config)
    return FluxBackbone(config.model, folder, lambda: transformer, device)


def z_image(config: TrainConfig, folder: Path, device: str, tiny: bool) -> ZImageBackbone:
    diffusers.AutoencoderKL(**(TINY_FLUX_VAE if tiny else FLUX_VAE)).save_pretrained(folder / "vae")
    sizes = TINY["z_image"] if tiny else {}
    transformer = random_network(diffusers.ZImageTransformer2DModel, sizes, config)
    return ZImageBackbone(config.model, folder, lambda: transformer, device)


def wan(config: TrainConfig, folder: Path, device: str, tiny: bool) -> WanBackbone:
    diffusers.AutoencoderKLWan(**(TINY_WAN_VAE if tiny else {})).save_pretrained(folder / "vae")
    sizes = TINY["wan"] if tiny else {}
    kind = diffusers.WanTransformer3DModel
    pair = {expert: random_network(kind, sizes, config) for expert in ("high", "low")}
    return WanBackbone(config.model, Base(folder, lambda: pair, BOUNDARY), device)


Build = Callable[[TrainConfig, Path, str, bool], Backbone]
BUILD: dict[str, Build] = {"flux": flux, "wan": wan, "z_image": z_image}


# ---------------------------------------------------------------- one case


def random_batch(config: TrainConfig, case: Case, device: str) -> EditBatch:
    """One item: normal latents of 16 channels, and four texts."""
    g = torch.Generator().manual_seed(0)
    shape = (1, 16, (case.frames - 1) // 4 + 1, case.height // 8, case.width // 8)
    length, dtype = config.model.text_len, getattr(torch, config.model.dtype)
    width = 2560 if config.model.family == "z_image" else 4096

    def text() -> Text:
        embeds = {"prompt_embeds": torch.randn(1, length, width, generator=g).to(device, dtype)}
        if config.model.family == "flux":
            embeds["pooled"] = torch.randn(1, 768, generator=g).to(device, dtype)
        if config.model.family == "z_image":
            embeds["lengths"] = torch.tensor([length], device=device)
        return embeds

    return EditBatch(torch.randn(shape, generator=g).to(device), text(), text(), text(), text())


def work_of(
    config: TrainConfig, case: Case, backbone: Backbone, batch: EditBatch
) -> list[MicroBatch]:
    """The items of one optimiser step, each drawn within its expert's times."""
    draws = [
        draw_for(config, 0, [row], batch.x, backbone.spans[e]) for row, e in enumerate(case.experts)
    ]
    return [MicroBatch(e, batch, draw) for e, draw in zip(case.experts, draws, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def peak_bytes() -> float:
    """CUDA's peak since the last call; not a number on a CPU."""
    if not torch.cuda.is_available():
        return float("nan")
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak


def measure(
    case: Case, folder: Path, device: str, tiny: bool, settings: tuple[str, ...] = ()
) -> Row:
    """Run a case; a pass of every kind goes first, for what is slower the first time."""
    tables = merged(load_preset(case.preset), {"data": {"frames": case.frames}})
    for setting in settings:
        tables = merged(tables, parse_set(setting))
    config = build_config(tables)
    config = config.with_dtype(resolve_dtype(config.model.dtype, device))
    for part in EMPTY:
        (folder / part).mkdir(parents=True)
    backbone, m = BUILD[config.model.family](config, folder, device, tiny), config.method
    bank = LoraBank(backbone.experts, config.lora, m.ema_decay, config.seed)
    optimizer = build_optimizer(config, list(bank.named_parameters().values()))
    place(backbone, bank, config.model.placement, torch.device(device))
    backbone.drop_encoders()
    batch = random_batch(config, case, device)
    # Any text will do for the empty caption.
    G = make_roles(config, backbone, bank, {name: text[0] for name, text in batch.p_src.items()})
    work = work_of(config, case, backbone, batch)

    def backward(loss: Tensor, stage: str) -> float:
        (loss / len(work)).backward()
        return 1 / len(work)

    def step() -> None:
        gradients(objective_of(config), G, work, m, backward, backbone)
        parameters = list(bank.named_parameters().values())
        nn.utils.clip_grad_norm_(parameters, config.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        bank.update_ema(case.experts)

    first = work[-1:]
    item, draw = first[0][1:3]
    forward = torch.no_grad()(partial(G.edit, item.x, draw.t, item.c, item.x))
    # The same pass on another target.
    supervised = partial(gradients, IDENTITY, G, first, m, backward, backbone)
    seconds(supervised)
    per_forward, per_supervised = seconds(forward), seconds(supervised)
    optimizer.zero_grad()
    before, _ = getattr(backbone, "swaps", 0), peak_bytes()
    per_item = seconds(step) / len(work)
    step_bytes, swaps = peak_bytes(), getattr(backbone, "swaps", 0) - before
    backbone.decode_latents(batch.x)
    net, image = network(config.model), batch.x[0, 0].numel() // 4
    planned = memory(config, net, config.model.text_len, image, case.width * case.height)
    return Row(
        case=case,
        tokens=net.sequence(config.model.text_len, image, source=True),
        forward=per_forward,
        supervised=per_supervised,
        full=per_item,
        step_bytes=step_bytes,
        planned_bytes=float("nan") if tiny else planned.step,
        decoding_bytes=peak_bytes(),
        swaps=swaps,
    )


# ---------------------------------------------------------------- printing

HEADS = (
    "model", "size", "tokens", "F", "supervised step", "full step", "in F", "against supervised",
    "peak of the step", "planned", "peak of decoding", "swaps",
)  # fmt: skip


def table(rows: list[Row]) -> str:
    """Markdown; times are of one item."""
    lines = [HEADS, tuple("---" if i == 0 else "---:" for i in range(len(HEADS)))]
    for r in rows:
        size = f"{r.case.height} x {r.case.width}"
        size += f" x {r.case.frames}" if r.case.frames > 1 else ""
        lines.append(
            (
                r.case.name, size, f"{r.tokens:,.0f}", f"{r.forward:.3g} s",
                f"{r.supervised:.3g} s", f"{r.full:.3g} s", f"{r.full / r.forward:.1f}",
                f"{r.full / r.supervised:.1f} x", _gigabytes(r.step_bytes),
                _gigabytes(r.planned_bytes), _gigabytes(r.decoding_bytes), str(r.swaps),
            )
        )  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _gigabytes(count: float) -> str:
    return "not measured" if count != count else f"{count / 1e9:.1f} GB"


def chosen(word: str | None, tiny: bool) -> list[Case]:
    """The cases to run; tiny ones have tiny items."""
    cases = [c for c in CASES if word is None or word.lower() in c.name.lower()]
    return [c._replace(width=64, height=32, frames=min(c.frames, 5)) if tiny else c for c in cases]


def main(words: list[str] | None = None) -> int:
    """Print the table of a machine; the shell's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", help="a word of the cases' names")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and items")
    options = parser.parse_args(words)
    cuda = torch.cuda.is_available()
    if not cuda and not options.tiny:
        print(
            f"This machine has no CUDA device, which the full sizes need; {COMMAND} --tiny runs "
            "the same code with tiny networks.",
            file=sys.stderr,
        )
        return 2
    rows = []
    for case in chosen(options.case, options.tiny):
        with TemporaryDirectory() as folder:
            rows.append(measure(case, Path(folder), "cuda" if cuda else "cpu", options.tiny))
        if cuda:
            torch.cuda.empty_cache()
    device = torch.cuda.get_device_name() if cuda else "CPU"
    given = sys.argv[1:] if words is None else words
    print(f"{device}, torch {torch.__version__}: {' '.join([COMMAND, *given])}\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
