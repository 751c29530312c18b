"""LoRA files that other tools changed: a rank per module, alphas, names, and broken ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_flux import load, make_bank, randomise, velocity
from torch import Tensor

from byg_train.config import ConfigError
from byg_train.export.run import StoredWeights, _write_weights
from byg_train.models.lora_file import read_lora, write_lora
from byg_train.models.lora_tensors import ranks_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two modules of ranks 4 and 2."""
    g = torch.Generator().manual_seed(0)
    shapes = {"a.lora_A": (4, 6), "a.lora_B": (8, 4), "b.lora_A": (2, 3), "b.lora_B": (5, 2)}
    tensors = {f"{n}.weight": torch.randn(s, generator=g) for n, s in shapes.items()}
    path = tmp_path / "l.safetensors"
    write_lora(path, tensors, scale=1.0, family="flux", metadata={}, dtype=torch.float32)
    return path


def update(tensors: dict[str, Tensor], module: str) -> Tensor:
    return tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]


def test_ranks_are_those_of_the_tensors(file: Path) -> None:
    assert (read_lora(file).ranks, ranks_of(read_lora(file).tensors)) == ("2 to 4", [2, 4])


@pytest.mark.parametrize("kohya", [False, True])
def test_an_alpha_per_module_is_baked_in(file: Path, kohya: bool) -> None:
    before, stored = read_lora(file).tensors, load_file(file)
    stored["transformer.a.alpha"] = torch.tensor(2.0)  # of rank 4: half
    stored["transformer.b.alpha"] = torch.tensor([2.0])  # of rank 2: as it is
    if kohya:
        words = (("lora_A", "lora_down"), ("lora_B", "lora_up"))
        for ours, theirs in words:
            stored = {name.replace(ours, theirs): tensor for name, tensor in stored.items()}
    save_file(stored, file)
    after = read_lora(file).tensors
    assert after.keys() == before.keys()
    torch.testing.assert_close(update(after, "a"), update(before, "a") / 2)
    assert torch.equal(update(after, "b"), update(before, "b"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_a_tensor_without_numbers_is_named(file: Path, value: float, dtype: torch.dtype) -> None:
    stored = load_file(file)
    stored["transformer.b.lora_A.weight"][1, 2] = value
    save_file({name: tensor.to(dtype) for name, tensor in stored.items()}, file)
    with pytest.raises(ValueError, match=r"transformer\.b\.lora_A\.weight holds NaN"):
        read_lora(file)


@pytest.mark.parametrize("shape", [(3, 6), (4, 6, 1, 1), (4,)])
def test_a_pair_that_does_not_fit_is_named(file: Path, shape: tuple[int, ...]) -> None:
    stored = load_file(file) | {"transformer.a.lora_A.weight": torch.zeros(shape)}
    save_file(stored, file)
    with pytest.raises(ValueError, match=r"a\.lora_[AB]\.weight has the shape"):
        read_lora(file)


def test_modules_of_lower_ranks_start_a_bank_and_train_on(tiny_base: Path, tmp_path: Path) -> None:
    """A bank takes what another tool has cut to ranks of its own, with the same answers."""
    backbone = load(tiny_base)
    bank = make_bank(backbone)
    randomise(bank)
    live = {name: w.clone() for name, w in bank.tensors("transformer", "edit").items()}
    cut = {
        name: w[:, : 1 + i % 3] if "lora_B" in name else w[: 1 + i % 3]
        for i, module in enumerate(sorted({n.rsplit(".lora_", 1)[0] for n in live}))
        for name, w in live.items()
        if name.startswith(f"{module}.lora_")
    }
    for name, weight in bank.named_parameters().items():
        kept = cut[name.removeprefix("transformer.")]
        with torch.no_grad():
            weight.zero_()[: len(kept), : kept.shape[1]] = kept
    wanted = velocity(backbone)
    again = load(tiny_base)
    second = make_bank(again)
    path = tmp_path / "l.safetensors"
    write_lora(path, cut, scale=bank.scale, family="flux", metadata={}, dtype=torch.float32)
    assert len(ranks_of(read_lora(path).tensors)) == 3
    second.load_tensors("transformer", read_lora(path).tensors)
    torch.testing.assert_close(velocity(again), wanted, rtol=0, atol=1e-5)
    # What was added can learn: rows of A are as they were drawn, not zero.
    assert all(
        w.abs().sum(1).gt(0).all() for n, w in second.named_parameters().items() if "_A" in n
    )


def test_a_broken_file_is_not_exported(file: Path) -> None:
    stored = load_file(file)
    stored["transformer.b.lora_A.weight"][0] = math.nan
    save_file(stored, file)
    with pytest.raises(ConfigError, match="holds NaN"):
        _write_weights(file.parent, StoredWeights(0, {"transformer": file}), None, file)
