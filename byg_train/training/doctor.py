"""What this machine is, what was chosen for it, how fast it is and which presets fit on it.

Facts that JSON can hold, for a person and for a bug report: no secrets, no name of a home folder.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..family import Later
from ..machine import (
    BF16_INSTRUCTIONS,
    WAITING,
    allowed_cpus,
    cpu_features,
    cpu_quota,
    preferred_dtype,
)
from . import installed

Facts = dict[str, Any]

GB = 1e9
# Features of CPUs that decide how fast torch is on them.
FEATURES = ("avx2", "avx512_f", "avx512_vnni", "neon", "sve", *BF16_INSTRUCTIONS)
# Settings of threads that torch and its libraries read.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", *WAITING, "ATEN_CPU_CAPABILITY")


def examine(on_check: Callable[[str], None] = lambda name: None) -> dict[str, Facts]:
    """Run all checks; one that fails is reported and stops no other.

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
    """Write `~` for the home folder, whose name is a person's."""
    if isinstance(value, dict):
        return {key: _without_home(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_home(part) for part in value]
    home = str(Path.home())
    return value.replace(home, "~") if isinstance(value, str) and len(home) > 1 else value


# ---------------------------------------------------------------- the machine


def machine() -> Facts:
    """System, CPU and memory."""
    import psutil

    memory = psutil.virtual_memory()
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPU": _cpu_name(),
        "memory": f"{memory.total / GB:.1f} GB, {memory.available / GB:.1f} GB free",
    }


def _cpu_name() -> str:
    """Return the CPU's name as its maker gives it."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def gpus() -> Facts:
    """The GPUs that torch can use."""
    import torch

    devices: Facts = {}
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        major, minor = torch.cuda.get_device_capability(i)
        name = f"{torch.cuda.get_device_name(i)} (sm{major}{minor})"
        devices[f"cuda:{i}"] = f"{name}, {total / GB:.1f} GB, {free / GB:.1f} GB free"
    return devices


def threads() -> Facts:
    """How many work at once, and why."""
    import torch

    quota = cpu_quota()
    named = [n for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if n in os.environ]
    why = f"as {named[0]} says" if named else "one for each core that the process may use"
    return {
        "used": f"{torch.get_num_threads()}, {why}",
        "CPUs": f"{os.cpu_count()}, {allowed_cpus()} of them allowed to this process",
        "container's share": "not limited" if quota is None else f"{quota:g} CPUs",
        "settings": [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ],
    }


def dtype() -> Facts:
    """What `model.dtype = "auto"` is on every kind of device here, and why."""
    from .speed import best_device

    choices = {device: preferred_dtype(device) for device in dict.fromkeys((best_device(), "cpu"))}
    has = cpu_features()
    return {
        **{f"on {device}": f"{c.dtype}: {c.why}" for device, c in choices.items()},
        "CPU features": [name for name in FEATURES if has.get(name)],
    }


def disk() -> Facts:
    """Room where a run and downloaded models go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    places = {"working folder": Path.cwd(), "models from the hub": Path(HF_HUB_CACHE)}
    return {name: _room(path) for name, path in places.items()}


def _room(path: Path) -> str:
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return f"{shutil.disk_usage(there).free / GB:.0f} GB free in {path}"


CHECKS: dict[str, Callable[[], Facts]] = {
    "machine": machine,
    "GPUs": gpus,
    "threads": threads,
    "type": dtype,
    # These load torch and diffusers: where they are missing, these checks alone fail.
    "speed": Later(__package__, "speed:speed"),
    "disk": disk,
    "presets": Later(__package__, "fitting:presets"),
    "versions": installed.versions,
    "ComfyUI": installed.comfyui,
    "missing": installed.missing,
}
