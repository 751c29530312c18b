"""What the machine at hand computes fast. Torch is imported inside functions alone."""

from __future__ import annotations

import logging
import platform
from functools import cache
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
    if device != "cpu":
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
    how_much = f", about {SLOWER_ON_CPU} times slower than float32" if device == "cpu" else ""
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
    """One of BF16_INSTRUCTIONS if torch multiplies bfloat16 with it, else what torch uses."""
    import torch

    # "AVX2" on a newer CPU too where ATEN_CPU_CAPABILITY says so.
    level = torch.backends.cpu.get_cpu_capability()
    if not torch.backends.mkldnn.is_available():  # else oneDNN multiplies bfloat16
        return f"{level}, without oneDNN"
    x86 = platform.machine().lower() in X86
    if x86 and not level.startswith("AVX512"):
        return level
    return next((name for name in BF16_INSTRUCTIONS if _cpu_features(x86).get(name)), level)


def _cpu_features(x86: bool) -> dict[str, bool]:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    if x86:
        return {
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
            "amx_bf16": torch.cpu._is_amx_tile_supported(),
        }
    # Elsewhere it says whether the hardware has it; on x86 AVX-512 is enough for a yes.
    return {"bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported()}
