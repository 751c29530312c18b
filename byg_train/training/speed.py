"""How fast this machine is: products of matrices of both types, and real steps of the demo."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch

from ..config import build_config, load_preset
from ..machine import preferred_dtype
from ..objectives import objective_of
from .assembly import build_model, make_roles
from .bench import problem, works

DEMO = "demo"
# Sides of the matrices that are multiplied, and seconds for each type.
CPU_SIDE, GPU_SIDE, SECONDS = 512, 4096, 0.3
# Steps that are timed after the first, and seconds past which no further one is begun.
STEPS, STEP_SECONDS = 3, 8.0
# The chosen type's speed over the other's: below this the choice is doubtful.
DOUBTFUL = 0.9


def best_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def speed() -> dict[str, Any]:
    """Matrix products of both types, and a step of the demo in the chosen one."""
    device = best_device()
    rates = {name: gflops(name, device) for name in ("float32", "bfloat16")}
    chosen = preferred_dtype(device).dtype
    other = next(name for name in rates if name != chosen)
    facts: dict[str, Any] = {f"{name} GFLOP/s": round(rate, 1) for name, rate in rates.items()}
    if rates[chosen] < DOUBTFUL * rates[other]:
        facts["doubt"] = f"{other} is the faster one here: try model.dtype={other}"
    steps = demo_steps(device)
    words = f"{usual(steps):.2f} s in {chosen} (the first {steps[0]:.2f} s)"
    return facts | {"step of the demo": words}


@cache
def gflops(dtype: str, device: str) -> float:
    """Billions of operations a second in products of square matrices: the best of some."""
    side = GPU_SIDE if device != "cpu" else CPU_SIDE
    a = torch.randn(side, side, device=device).to(getattr(torch, dtype))

    def product() -> float:
        began = time.perf_counter()
        a @ a
        _wait(device)
        return time.perf_counter() - began

    product()  # the first also loads the kernels
    best, end = product(), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        best = min(best, product())
    return 2 * side**3 / best / 1e9


@cache
def demo_steps(device: str, limit: float = STEP_SECONDS) -> list[float]:
    """Seconds of full steps of the demo preset on the embedded base, the first one included.

    A batch of noise costs as much as pictures. Past `limit` seconds no further step is begun.
    """
    config = build_config(load_preset(DEMO))
    backbone, bank, optimizer = build_model(config, device)
    batch, draw = problem(backbone, config, config.train.global_batch, device)
    empty = {name: text[0] for name, text in backbone.encode_text([""]).items()}
    G = make_roles(config, backbone, bank, empty)
    full = works(objective_of(config), G, batch, draw, config.method)["staged"]
    seconds: list[float] = []
    while len(seconds) <= STEPS and sum(seconds) < limit:
        began = time.perf_counter()
        full()
        optimizer.step()
        optimizer.zero_grad()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return seconds


def usual(steps: list[float]) -> float:
    """The time of a step when nothing disturbs it; the first one is slower."""
    return min(steps[1:] or steps)


def _wait(device: str) -> None:
    """Wait until a GPU has finished its work."""
    if device != "cpu":
        torch.cuda.synchronize()
