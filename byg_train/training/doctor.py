"""What this machine is, what was chosen for it, how fast it is and which presets fit on it.

Facts that JSON can hold, for a person and for a bug report: no secrets, no name of a home folder.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..config import PRESETS, TrainConfig, build_config, load_preset, merged, parse_set
from ..machine import (
    BF16_INSTRUCTIONS,
    WAITING,
    Choice,
    allowed_cpus,
    cpu_features,
    cpu_quota,
    preferred_dtype,
    resolve_dtype,
)
from . import installed

Facts = dict[str, Any]

GB = 1e9
# Features of CPUs that decide how fast torch is on them.
FEATURES = ("avx2", "avx512_f", "avx512_vnni", "neon", "sve", *BF16_INSTRUCTIONS)
# Settings of threads that torch and its libraries read.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", *WAITING, "ATEN_CPU_CAPABILITY")
# Of a GPU's memory, what the driver and the framework take for themselves, and a margin.
FRAMEWORK, MARGIN = 0.8 * GB, 0.05
# Sides of the matrices that are multiplied, and seconds for each type.
CPU_SIDE, GPU_SIDE, SECONDS = 512, 4096, 0.3
# Steps that are timed after the first, as far as so many seconds go.
STEPS, STEP_SECONDS = 3, 8.0
# Chosen type over the other, measured: below it the choice is doubtful.
DOUBTFUL = 0.9


def examine(on_check: Callable[[str], None] = lambda name: None) -> dict[str, Facts]:
    """All checks, each by itself: what fails is a fact of its own.

    `on_check(name)` is called before each; measuring takes seconds.
    """
    report: dict[str, Facts] = {}
    for name, check in CHECKS.items():
        on_check(name)
        try:
            report[name] = check()
        except Exception as error:  # whatever is broken here is what the report is for
            report[name] = {"error": f"{type(error).__name__}: {error}"}
    return _without_home(report)


def _without_home(value: Any) -> Any:
    """The same with `~` for the home folder, whose name is a person's."""
    if isinstance(value, dict):
        return {key: _without_home(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_home(part) for part in value]
    home = str(Path.home())
    return value.replace(home, "~") if isinstance(value, str) and len(home) > 1 else value


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# ---------------------------------------------------------------- the machine


def machine() -> Facts:
    """System, CPU, memory and GPUs."""
    import psutil

    memory = psutil.virtual_memory()
    has = cpu_features()
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPU": _cpu_name(),
        "CPU features": [name for name in FEATURES if has.get(name)],
        "memory": f"{memory.total / GB:.1f} GB, {memory.available / GB:.1f} GB free",
        "GPU": list(_gpus()) or "none that PyTorch sees",
    }


def _cpu_name() -> str:
    """As its maker calls it."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpus() -> Iterator[str]:
    import torch

    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        major, minor = torch.cuda.get_device_capability(i)
        name = f"{torch.cuda.get_device_name(i)} (sm{major}{minor})"
        yield f"{name}, {total / GB:.1f} GB, {free / GB:.1f} GB free"


def threads() -> Facts:
    """How many work at once, and what was counted."""
    import torch

    quota = cpu_quota()
    return {
        "used by torch": torch.get_num_threads(),
        "CPUs": f"{os.cpu_count()}, {allowed_cpus()} of them allowed to this process",
        "container's share": "not limited" if quota is None else f"{quota:g} CPUs",
        "settings": [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ],
    }


def dtype() -> Facts:
    """What `model.dtype = "auto"` is on every kind of device here, and why."""
    devices = dict.fromkeys((_device(), "cpu"))
    return {device: _told(preferred_dtype(device)) for device in devices}


def _told(choice: Choice) -> str:
    return f"{choice.dtype}: {choice.why}"


def disk() -> Facts:
    """Room where a run and downloaded models go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    places = {"working folder": Path.cwd(), "models from the hub": Path(HF_HUB_CACHE)}
    return {name: _room(path) for name, path in places.items()}


def _room(path: Path) -> str:
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return f"{shutil.disk_usage(there).free / GB:.0f} GB free in {path}"


# ---------------------------------------------------------------- its speed


def speed() -> Facts:
    """Matrix products of both types, and a step of the demo in the chosen one."""
    device = _device()
    rates = {name: gflops(name, device) for name in ("float32", "bfloat16")}
    chosen = preferred_dtype(device).dtype
    other = next(name for name in rates if name != chosen)
    facts: Facts = {f"{name} GFLOP/s": round(rate, 1) for name, rate in rates.items()}
    if rates[chosen] < DOUBTFUL * rates[other]:
        facts["doubt"] = f"{other} is the faster one here: try --set model.dtype={other}"
    first, *others = demo_steps(device)
    return facts | {
        "demo step": f"{min(others or [first]):.2f} s in {chosen} (the first {first:.2f} s)"
    }


def gflops(dtype: str, device: str) -> float:
    """Billions of operations a second in products of square matrices: the best of some."""
    import torch

    side = GPU_SIDE if device != "cpu" else CPU_SIDE
    a = torch.randn(side, side, device=device).to(getattr(torch, dtype))

    def product() -> float:
        began = time.perf_counter()
        a @ a
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    product()  # the first also loads the kernels
    best, end = product(), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        best = min(best, product())
    return 2 * side**3 / best / 1e9


def demo_steps(
    device: str, dtype: str = "auto", steps: int = STEPS, limit: float = STEP_SECONDS
) -> list[float]:
    """Seconds of full steps of the demo preset on the embedded base, the first one included.

    A batch of noise costs as much as pictures. Past `limit` seconds no further step is begun.
    """
    import torch

    from ..objectives import objective_of
    from .assembly import build_model, make_roles
    from .bench import problem, works

    config = build_config(load_preset("demo")).with_dtype(dtype)
    backbone, bank, optimizer = build_model(config, device)
    batch, draw = problem(backbone, config, config.train.global_batch, device)
    with torch.no_grad():
        empty = {name: text[0] for name, text in backbone.encode_text([""]).items()}
    G = make_roles(config, backbone, bank, empty)
    full = works(objective_of(config), G, batch, draw, config.method)["staged"]
    seconds: list[float] = []
    while len(seconds) <= steps and sum(seconds) < limit:
        began = time.perf_counter()
        full()
        optimizer.step()
        optimizer.zero_grad()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds


# ---------------------------------------------------------------- what fits on it


def presets() -> Facts:
    """For every preset whether its step fits here, and with which settings."""
    room, device = _room_for_a_step()
    told: Facts = {}
    for name in PRESETS:
        tried = [(settings, _need(name, settings, device)) for settings in _ladder(name, device)]
        fitting = next(((s, need) for s, need in tried if need <= room), None)
        settings, need = fitting or tried[-1]
        word = "fits" if fitting else "does not fit"
        told[name] = f"{word}: about {need / GB:.1f} of {room / GB:.1f} GB" + (
            f" with {' '.join(f'--set {s}' for s in settings)}" if settings else ""
        )
    return told


def _room_for_a_step() -> tuple[float, str]:
    """Bytes for a run on the device that `auto` takes, and that device."""
    device = _device()
    if device == "cpu":
        import psutil

        return psutil.virtual_memory().available, device
    import torch

    _, total = torch.cuda.mem_get_info()
    return total * (1 - MARGIN) - FRAMEWORK, device


def _ladder(name: str, device: str) -> Iterator[tuple[str, ...]]:
    """Settings that take less and less memory; the first is the preset as it is."""
    config, settings = build_config(load_preset(name)), []
    yield ()
    if not config.model.gradient_checkpointing:
        settings.append("model.gradient_checkpointing=true")
        yield tuple(settings)
    if device != "cpu":
        settings.append("optimizer.name=adamw8bit")
        yield tuple(settings)
    if config.lora.rank > 16:
        settings.append("lora.rank=16")
        yield tuple(settings)
    settings.append(f"data.resolution={config.data.resolution // 2}")
    yield tuple(settings)


def _need(name: str, settings: tuple[str, ...], device: str) -> float:
    """Bytes that the plan counts."""
    tables = load_preset(name)
    for assignment in settings:
        tables = merged(tables, parse_set(assignment))
    config = build_config(tables)
    return _planned(config.with_dtype(resolve_dtype(config.model.dtype, device)))


def _planned(config: TrainConfig) -> float:
    from ..models.backbone import pixel_multiple
    from .plan import need, shapes

    return need(config, shapes(config, pixel_multiple(config.model), None)).total


CHECKS: dict[str, Callable[[], Facts]] = {
    "machine": machine,
    "threads": threads,
    "type": dtype,
    "speed": speed,
    "disk": disk,
    "presets": presets,
    "versions": installed.versions,
    "ComfyUI": installed.comfyui,
    "missing": installed.missing,
}
