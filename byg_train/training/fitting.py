"""Which presets fit on this machine, with which settings, and how long they would take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..config import PRESETS, TrainConfig, assigned, build_config, load_preset
from ..machine import preferred_dtype, resolve_dtype
from ..models.backbone import pixel_multiple
from .cost import SUSTAINED
from .plan import need, run_cost, shapes
from .speed import DEMO, best_device, demo_steps, gflops, usual
from .words import GB, duration

# Of a GPU's memory, what the driver and the framework take for themselves, and a margin.
FRAMEWORK, MARGIN = 0.8 * GB, 0.05
SMALL_RANK = 16


def presets() -> dict[str, Any]:
    """Say of every preset whether it fits here, with which settings, and how long it takes."""
    device = best_device()
    room = room_for_a_step(device)
    return {name: _words(name, device, room) for name in PRESETS}


def _words(name: str, device: str, room: float) -> str:
    for settings in ladder(name, device):
        config = with_settings(name, settings, device)
        needed = need(config, shapes(config, pixel_multiple(config.model), None)).total
        if needed <= room:
            break
    fits = needed <= room
    how = f" with {', '.join(settings)}" if settings else ""
    memory = f"about {needed / GB:.1f} of {room / GB:.1f} GB{how}"
    if not fits:
        return f"does not fit: {memory}"
    seconds = run_cost(config, pixel_multiple(config.model), None).seconds(tflops(config, device))
    return f"fits: {memory}; a run takes about {duration(seconds)} here"


def room_for_a_step(device: str) -> float:
    """Bytes that a run may take."""
    if device == "cpu":
        import psutil

        return psutil.virtual_memory().available
    _, total = torch.cuda.mem_get_info()
    return total * (1 - MARGIN) - FRAMEWORK


def ladder(name: str, device: str) -> Iterator[tuple[str, ...]]:
    """Settings that take less and less memory; the first is the preset as it is."""
    config = build_config(load_preset(name))
    multiple = pixel_multiple(config.model)
    steps = {
        "model.gradient_checkpointing=true": not config.model.gradient_checkpointing,
        "optimizer.name=adamw8bit": device != "cpu",
        f"lora.rank={SMALL_RANK}": config.lora.rank > SMALL_RANK,
        f"data.resolution={config.data.resolution // 2 // multiple * multiple}": True,
    }
    settings = [setting for setting, useful in steps.items() if useful]
    yield from (tuple(settings[:count]) for count in range(len(settings) + 1))


def with_settings(name: str, settings: tuple[str, ...], device: str) -> TrainConfig:
    """A preset with some settings, in the type of the device."""
    config = build_config(assigned(load_preset(name), settings))
    return config.with_dtype(resolve_dtype(config.model.dtype, device))


def tflops(config: TrainConfig, device: str) -> float:
    """What a run sustains: an embedded base as the demo's measured step does."""
    if not config.model.is_embedded:
        return SUSTAINED * gflops(preferred_dtype(device).dtype, device) / 1e3
    demo = build_config(load_preset(DEMO))
    cost = run_cost(demo, pixel_multiple(demo.model), None)
    step = demo.train.global_batch * cost.step.full * cost.forward
    return step / usual(demo_steps(device)) / 1e12
