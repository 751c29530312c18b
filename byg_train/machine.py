"""What the machine at hand computes fast: the type of numbers, and how many threads.

Torch is imported inside functions alone: threads are settled before it is loaded.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger("byg_train")

# What 32-bit and 64-bit x86 call themselves.
X86 = ("x86_64", "amd64", "i386", "i686", "x86")
# Instructions that multiply bfloat16 matrices, the fastest first, as `torch.cpu` names them.
BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")
# Two threads of an AMD EPYC with AVX2 alone: float32 124 GFLOP/s, bfloat16 1.2.
SLOWER_ON_CPU = 100


class Choice(NamedTuple):
    """A type for weights and matrix products, and why."""

    dtype: str  # "bfloat16" or "float32"
    why: str


@cache
def preferred_dtype(device: str) -> Choice:
    """The type that `model.dtype = "auto"` means on a device; decided once per process.

    bfloat16 where the hardware computes it, else float32; float16 never, it would need a scaler.
    """
    if device.startswith("cuda"):
        return _of_cuda(device)
    if not device.startswith("cpu"):  # "cpu:0" of one among several processes
        return Choice("float32", f"nothing is known of bfloat16 on {device!r}")
    found = _cpu_instructions()
    if found in BF16_INSTRUCTIONS:
        return Choice("bfloat16", f"this CPU computes bfloat16 in hardware ({found})")
    return Choice("float32", f"this CPU would emulate bfloat16 (it computes with {found})")


def resolve_dtype(asked: str, device: str) -> str:
    """`model.dtype` on a device: what was asked for, or for "auto" what the device is fast at.

    Warns, once, of a type that the device emulates.
    """
    if asked == "auto":
        return preferred_dtype(device).dtype
    if asked == "bfloat16":
        _warn_if_emulated(device)
    return asked


@cache
def _warn_if_emulated(device: str) -> None:
    choice = preferred_dtype(device)
    if choice.dtype == "bfloat16":
        return
    how_much = f", about {SLOWER_ON_CPU} times slower than float32" if "cpu" in device else ""
    log.warning(
        "model.dtype is bfloat16, which is emulated here%s: %s. Set model.dtype to auto or float32",
        how_much,
        choice.why,
    )


def _of_cuda(device: str) -> Choice:
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    name = f"{torch.cuda.get_device_name(device)} (sm{major}{minor})"
    if major >= 8:
        return Choice("bfloat16", f"{name} computes bfloat16 in hardware")
    return Choice("float32", f"{name} would emulate bfloat16, which needs sm80 or later")


def _cpu_instructions() -> str:
    """Name the instructions that torch multiplies bfloat16 with, or those that it uses instead."""
    import torch

    # "AVX2" on a newer CPU too where ATEN_CPU_CAPABILITY says so.
    level = torch.backends.cpu.get_cpu_capability()
    if not torch.backends.mkldnn.is_available():  # else oneDNN multiplies bfloat16
        return f"{level}, without oneDNN"
    if _is_x86() and not level.startswith("AVX512"):
        return level
    has = cpu_features()
    return next((name for name in BF16_INSTRUCTIONS if has.get(name)), level)


def _is_x86() -> bool:
    return platform.machine().lower() in X86


def cpu_features() -> dict[str, bool]:
    """What the CPU has, as `torch.cpu.get_capabilities` names it; older versions know less."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    if _is_x86():
        return {
            "avx2": torch.cpu._is_avx2_supported(),
            "avx512_f": torch.cpu._is_avx512_supported(),
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
            "amx_bf16": torch.cpu._is_amx_tile_supported(),
        }
    # Elsewhere it says whether the hardware has it; on x86 AVX-512 is enough for a yes.
    return {"bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported()}


# ---------------------------------------------------------------- threads

# How a thread waits for others, as OpenMP libraries are told: GNU's, then LLVM's and Intel's.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# Turns that a waiting thread makes before it sleeps. Sleeping at once costs a quiet machine half of
# its speed, spinning longer a busy one nine tenths (docs/performance.md).
SPINS = "1500"
CGROUPS = Path("/sys/fs/cgroup")


def settle_threads() -> None:
    """Let waiting threads sleep soon, and use no more of them than there are CPUs to run them.

    Torch reads this when it is loaded; afterwards nothing is changed. What the user has set stays.
    Processes that this one starts inherit it.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS
    # One thread per core of those that the scheduler allows is torch's own choice; it does not
    # know of a container's share of time.
    quota = cpu_quota()
    if quota is not None and quota < allowed_cpus():
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cpus()))


# What tells CUDA's allocator how to work, in torch 2.9 and later, and before.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def settle_allocator() -> None:
    """Let CUDA's allocator make its segments larger: items of many sizes leave fewer holes.

    As `settle_threads`: before torch is loaded, and what the user has set stays.
    """
    if sys.platform != "linux" or "torch" in sys.modules or any(n in os.environ for n in ALLOCATOR):
        return
    try:
        new = tuple(map(int, version("torch").split(".")[:2])) >= (2, 9)
    except PackageNotFoundError:
        return
    os.environ[ALLOCATOR[0 if new else 1]] = "expandable_segments:True"


def usable_cpus() -> int:
    """CPUs that this process may keep busy, by affinity and by a container's share of time."""
    quota = cpu_quota()
    return allowed_cpus() if quota is None else max(1, min(allowed_cpus(), math.ceil(quota)))


def allowed_cpus() -> int:
    """CPUs on which the scheduler may run this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota() -> float | None:
    """CPUs that the control groups of this process grant it, such as 1.5; None: no limit."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    found = [_version_1(CGROUPS / "cpu")]
    # Version 2 has one line, 0::/PATH; every folder on the way to PATH may limit.
    for line in lines:
        if line.startswith("0::"):
            own = CGROUPS / line[3:].strip().lstrip("/")
            inside = (f for f in (own, *own.parents) if f.is_relative_to(CGROUPS))
            found += map(_version_2, inside)
    return min((quota for quota in found if quota), default=None)


def _version_2(folder: Path) -> float | None:
    """`cpu.max` is "150000 100000", microseconds of each period, or "max 100000"."""
    words = _words(folder / "cpu.max")
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _version_1(folder: Path) -> float | None:
    quota, period = (_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []
