"""The tensors of a LoRA file, whoever wrote it last: pairs, alphas, ranks, and what is broken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

A, B, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
# How tools that resize, merge or convert files may call a pair.
OTHERS = {".lora_down.weight": A, ".lora_up.weight": B}


def partner(name: str) -> str:
    """The name of B beside that of A, or the other way round."""
    return name.removesuffix(A) + B if name.endswith(A) else name.removesuffix(B) + A


def as_ours(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under our names, without alphas: alpha / rank of a module goes into its B."""
    named = {our_name(name): tensor for name, tensor in tensors.items()}
    baked = dict(named)
    for name in [name for name in named if name.endswith(ALPHA)]:
        alpha, up = named[name].float(), name.removesuffix(ALPHA) + B
        if up not in named:
            continue  # an alpha of nothing: told as any other strange tensor
        del baked[name]
        if alpha.numel() != 1 or not alpha.isfinite().all():
            raise ValueError(f"{path}: the tensor {name} is no finite number")
        rank = baked[up].shape[-1] if baked[up].ndim else 0
        if rank and alpha.item() != rank:
            baked[up] = baked[up].float() * (alpha.item() / rank)
    return baked


def our_name(name: str) -> str:
    """The name that we would give a tensor."""
    for theirs, ours in OTHERS.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """ValueError for a pair that does not fit, and for a tensor with NaN or infinity."""
    for name, tensor in tensors.items():
        other = tensors[partner(name)]
        if (
            tensor.ndim != 2
            or other.ndim != 2
            or (name.endswith(A) and len(tensor) != other.shape[1])
        ):
            raise ValueError(
                f"{path}: {name} has the shape {tuple(tensor.shape)} and its partner "
                f"{tuple(other.shape)}; wanted (rank, in) and (out, rank): take an intact file"
            )
        # Types of one byte know no isfinite.
        if not (tensor if tensor.itemsize > 1 else tensor.float()).isfinite().all():
            raise ValueError(
                f"{path}: the tensor {name} holds NaN or infinity, and every result would be "
                "black or noise; take an earlier file of that training, or an intact copy"
            )


def ranks_of(tensors: Mapping[str, Tensor]) -> list[int]:
    """The ranks of the modules, each one once, the least first; tools may choose one per module."""
    return sorted({len(a) for name, a in tensors.items() if name.endswith(A)})
