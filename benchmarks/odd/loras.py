"""LoRA files that other tools changed, and broken ones, before `edit` loads anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.odd.case import Case, picture
from byg_train.family import WORLD

Tensors = dict[str, Tensor]
Change = Callable[[Tensors], Tensors]


def first(tensors: Tensors, end: str = "lora_A.weight") -> str:
    """The name of a tensor to break."""
    return min(name for name in tensors if name.endswith(end))


def with_value(value: float, end: str, dtype: torch.dtype, tensors: Tensors) -> Tensors:
    """One number of one tensor replaced."""
    tensors = {name: tensor.to(dtype).clone() for name, tensor in tensors.items()}
    broken = tensors[first(tensors, end)].float()
    broken[0, 0] = value
    return tensors | {first(tensors, end): broken.to(dtype)}


def replaced(shape: tuple[int, ...], end: str, tensors: Tensors) -> Tensors:
    """One tensor of another shape."""
    return tensors | {first(tensors, end): torch.zeros(shape)}


def cut(ranks: tuple[int, ...], tensors: Tensors) -> Tensors:
    """Modules cut to these ranks in turn."""
    modules = sorted({name.rsplit(".lora_", 1)[0] for name in tensors})
    rank = {module: ranks[i % len(ranks)] for i, module in enumerate(modules)}
    return {
        name: (t[: rank[m]] if "lora_A" in name else t[:, : rank[m]]).contiguous()
        for name, t in tensors.items()
        for m in (name.rsplit(".lora_", 1)[0],)
    }


def alphas(value: Callable[[int], Tensor], tensors: Tensors) -> Tensors:
    """An alpha for every module, of its rank."""
    return tensors | {
        name.replace("lora_A.weight", "alpha"): value(len(tensor))
        for name, tensor in tensors.items()
        if "lora_A" in name
    }


def kohya(tensors: Tensors) -> Tensors:
    """Down and up, with alphas."""
    with_alphas = alphas(lambda rank: torch.tensor(float(rank)), tensors)
    words = (("lora_A", "lora_down"), ("lora_B", "lora_up"))
    for ours, theirs in words:
        with_alphas = {n.replace(ours, theirs): t for n, t in with_alphas.items()}
    return with_alphas


def _edit(change: Change, keep: bool, root: Path) -> list[object]:
    with safe_open(WORLD / "demo.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = file.metadata()
    save_file(change(tensors), root / "l.safetensors", about if keep else {"format": "pt"})
    return _words(root)


def _bytes(data: bytes, root: Path) -> list[object]:
    (root / "l.safetensors").write_bytes(data)
    return _words(root)


def _words(root: Path) -> list[object]:
    shown = picture(root / "photo.png")
    words = ["edit", "--lora", root / "l.safetensors", "--input", shown, "--instruction", "x"]
    return [*words, "--output", root / "out.png", "--steps", 1, "--device", "cpu"]


def _edited(folder: Path, printed: str) -> str | None:
    return None if (folder / "out.png").is_file() else "nothing was written"


def cases() -> Iterator[Case]:
    for value in (math.nan, math.inf, -math.inf):
        for end in ("lora_A.weight", "lora_B.weight"):
            for dtype in (torch.float32, torch.bfloat16):
                change = partial(with_value, value, end, dtype)
                name = f"{value} in {end} of {dtype}"
                yield Case(name, partial(_edit, change, True), 2, ("holds NaN or infinity", end))
    for shape in ((3, 5), (4,), (1, 2, 3, 4)):
        for end in ("lora_A.weight", "lora_B.weight"):
            change, told = partial(replaced, shape, end), ("has the shape", "intact file")
            yield Case(f"{end} of {shape}", partial(_edit, change, True), 2, told)
    nan = alphas, lambda rank: torch.tensor(math.nan)
    yield Case("an alpha of NaN", partial(_edit, partial(*nan), True), 2, ("no finite number",))
    many = alphas, lambda rank: torch.ones(3)
    yield Case("an alpha of three", partial(_edit, partial(*many), True), 2, ("no finite number",))
    lone = partial(_edit, lambda t: {n: x for n, x in t.items() if n != first(t)}, True)
    yield Case("a pair without A", lone, 2, ("no LoRA in the form",))
    plain = partial(_edit, lambda t: t, False)
    yield Case("without our metadata", plain, 2, ("no byg.version",))
    yield Case("no tensors", partial(_edit, lambda t: {}, True), 2, ("no tensors at all",))
    for name, data in {
        "empty": b"",
        "text": b"hello",
        "zeros": b"\0" * 64,
        "cut": b"\x10\0\0\0\0\0\0\0{}",
    }.items():
        told = ("no readable safetensors file",)
        yield Case(f"a file of {name}", partial(_bytes, data), 2, told)
    half = partial(alphas, lambda rank: torch.tensor(rank / 2))
    for name, change in {
        "ranks of their own": partial(cut, (1, 3, 7)),
        "one rank lower than told": partial(cut, (2,)),
        "kohya's names and alphas": kohya,
        "alphas of half the rank": half,
    }.items():
        yield Case(f"edits: {name}", partial(_edit, change, True), 0, ("Written",), _edited)
