"""What a machine computes fast: the type that `auto` means, what follows it, what is warned of."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from byg_train import machine
from byg_train.config import PRESETS, ConfigError, ModelConfig, build_config, load_preset, merged
from byg_train.data.items import load_items
from byg_train.editing.opening import open_lora
from byg_train.machine import preferred_dtype, resolve_dtype
from byg_train.models.backbone import load_backbone
from byg_train.models.lora_file import LoraInfo, read_lora
from byg_train.training.assembly import settle_dtype
from byg_train.training.checkpoint import checkpoints, read_about
from byg_train.training.cost import memory
from byg_train.training.run_folder import check_output, read_config, write_config
from byg_train.training.trainer import train

ROOT = Path(__file__).parents[1]
Machine = Callable[..., None]


@pytest.fixture(autouse=True)
def _decide_anew() -> Iterator[None]:
    """A choice is made once per process."""
    caches = machine.preferred_dtype, machine._warn_if_emulated
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes torch say that it runs on some other CPU."""

    def become(
        level: str, *features: str, kind: str = "x86_64", onednn: bool = True, old: bool = False
    ) -> None:
        machine.preferred_dtype.cache_clear()
        machine._warn_if_emulated.cache_clear()
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
        monkeypatch.setattr("platform.machine", lambda: kind)
        if not old:
            has = dict.fromkeys(features, True)
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
            return
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        for name in ("avx2", "avx512", "avx512_bf16", "amx_tile"):
            has = {"amx_tile": "amx_bf16", "avx512": "avx512_f"}.get(name, name) in features
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda has=has: has)

    return become


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes torch say that it has a GPU of some compute capability."""

    def become(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")

    return become


# ---------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("level", "features", "options", "dtype"),
    [
        ("AVX512", ["avx2", "avx512_f", "avx512_bf16"], {}, "bfloat16"),
        ("AVX512", ["avx512_f", "avx512_bf16", "amx_bf16"], {}, "bfloat16"),
        ("AVX512", ["avx2", "avx512_f", "avx512_vnni"], {}, "float32"),
        ("AVX2", ["avx2"], {}, "float32"),
        # What it has and torch was told not to use.
        ("AVX2", ["avx2", "avx512_f", "avx512_bf16"], {}, "float32"),
        ("DEFAULT", [], {}, "float32"),
        ("AVX512", ["avx512_bf16"], {"onednn": False}, "float32"),
        ("AVX512", ["avx512_bf16"], {"old": True}, "bfloat16"),
        ("AVX512", ["amx_bf16"], {"old": True}, "bfloat16"),
        ("AVX512", [], {"old": True}, "float32"),
        ("DEFAULT", ["neon", "bf16"], {"kind": "aarch64"}, "bfloat16"),
        ("SVE256", ["neon", "sve", "sve_bf16"], {"kind": "aarch64"}, "bfloat16"),
        ("DEFAULT", ["neon"], {"kind": "aarch64"}, "float32"),
        ("DEFAULT", ["neon", "bf16"], {"kind": "arm64", "onednn": False}, "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_the_instructions(
    cpu: Machine, level: str, features: list[str], options: dict, dtype: str
) -> None:
    cpu(level, *features, **options)
    choice = preferred_dtype("cpu")
    assert choice == preferred_dtype("cpu:0")  # of one of several processes
    assert choice.dtype == dtype
    named = [f for f in machine.BF16_INSTRUCTIONS if f in features]
    assert (named[0] if dtype == "bfloat16" else level) in choice.why


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), "float32"), ((7, 5), "float32"), ((8, 0), "bfloat16"), ((8, 9), "bfloat16"),
     ((12, 0), "bfloat16")],
)  # fmt: skip
def test_a_gpu_computes_in_bfloat16_from_sm80(
    gpu: Machine, capability: tuple[int, int], dtype: str
) -> None:
    gpu(*capability)
    for device in ("cuda", "cuda:1"):
        choice = preferred_dtype(device)
        assert choice.dtype == dtype
        assert "Some GPU" in choice.why and "sm{}{}".format(*capability) in choice.why


def test_an_unknown_device_computes_in_float32() -> None:
    assert preferred_dtype("mps").dtype == "float32"


@pytest.mark.skipif(preferred_dtype("cpu").dtype == "float32", reason="this CPU emulates bfloat16")
@pytest.mark.slow
def test_torch_told_to_use_avx2_chooses_float32() -> None:
    """As on a CPU with AVX2 alone."""
    code = "from byg_train.machine import preferred_dtype; print(*preferred_dtype('cpu'))"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert run.stdout.startswith(b"float32") and b"AVX2" in run.stdout


def test_the_choice_is_made_once(cpu: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu("AVX2", "avx2")
    first = preferred_dtype("cpu")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert preferred_dtype("cpu") is first


def test_what_was_asked_for_wins_with_one_warning_where_it_is_emulated(
    cpu: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    cpu("AVX512", "avx512_bf16")
    assert [resolve_dtype(asked, "cpu") for asked in ("auto", "bfloat16", "float32")] == [
        "bfloat16",
        "bfloat16",
        "float32",
    ]
    assert not caplog.records
    cpu("AVX2", "avx2")
    assert resolve_dtype("auto", "cpu") == resolve_dtype("float32", "cpu") == "float32"
    assert not caplog.records
    assert resolve_dtype("bfloat16", "cpu") == resolve_dtype("bfloat16", "cpu") == "bfloat16"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for fact in ("model.dtype", "AVX2", "100 times", "auto", "float32"):
        assert fact in record.getMessage()


# ---------------------------------------------------------------- what follows it


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_leaves_the_type_to_the_machine(name: str) -> None:
    assert build_config(load_preset(name)).model.dtype == "auto"


def test_the_plan_counts_the_bytes_of_the_type() -> None:
    from byg_train.models.networks import network

    config = build_config(load_preset("flux_edit"))
    need = {
        dtype: memory(config.with_dtype(dtype), network(config.model), 256, 1024, 512 * 512)
        for dtype in ("auto", "bfloat16", "float32")
    }
    assert need["float32"].weights == 2 * need["bfloat16"].weights
    assert need["float32"].activations == 2 * need["bfloat16"].activations
    assert need["auto"] == need["bfloat16"]  # not resolved: as on the GPUs of the plan


@pytest.mark.parametrize(("level", "dtype"), [("AVX2", "float32"), ("AVX512", "bfloat16")])
def test_the_base_is_loaded_in_the_type_of_the_machine_and_its_cache_follows(
    tiny_base: Path, cpu: Machine, level: str, dtype: str
) -> None:
    cpu(level, "avx512_bf16")
    config = ModelConfig(path=str(tiny_base), text_len=24)
    backbone = load_backbone(config, "cpu")
    assert backbone.dtype == getattr(torch, dtype)
    assert backbone.experts["transformer"].x_embedder.weight.dtype == getattr(torch, dtype)
    assert backbone.encode_text(["a thing"])["prompt_embeds"].dtype == getattr(torch, dtype)
    # Names of cached embeddings depend on the type that they are in, not on "auto".
    asked = load_backbone(config.model_copy(update={"dtype": dtype}), "cpu")
    other = "float32" if dtype == "bfloat16" else "bfloat16"
    assert backbone.fingerprint == asked.fingerprint
    assert (
        backbone.fingerprint
        != load_backbone(config.model_copy(update={"dtype": other}), "cpu").fingerprint
    )


# ---------------------------------------------------------------- runs

TINY = {
    "model": {"text_len": 24, "gradient_checkpointing": False},
    "data": {"resolution": 16},
    "rollout": {"steps": 2},
    "warmup": {"min_steps": 1, "max_steps": 1},
    "lora": {"rank": 2},
    "train": {"steps": 3, "batch_size": 2, "global_batch": 2, "checkpoint_every": 1},
    "sample": {"steps": 1, "shift": 1.0, "count": 1},
}


def go(base: Path, data: Path, run: Path, *, steps: int, dtype: str | None = None) -> Path:
    """Train as the command does, from the last checkpoint if there is one."""
    over: dict = {"model": {"path": str(base)}, "data": {"path": str(data)}}
    config = build_config(merged(merged(TINY, over), {"train": {"steps": steps}}))
    config = config if dtype is None else config.with_dtype(dtype)
    check_output(run, config, resume=True)
    resume = run.exists()
    write_config(run, config)
    return train(config, load_items(config.data, 8), run, device="cpu", resume=resume)[0]


def recorded(run: Path) -> set[str]:
    """The types that the checkpoints of a run were computed in."""
    return {read_about(folder)["dtype"] for folder in checkpoints(run / "checkpoints")}


@pytest.mark.slow
def test_a_run_keeps_its_type_on_another_machine(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, cpu: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "byg_train")
    whole, parts = tmp_path / "a" / "run", tmp_path / "b" / "run"
    cpu("AVX2", "avx2")
    one = go(tiny_base, tiny_data, whole, steps=3)
    go(tiny_base, tiny_data, parts, steps=1)
    assert "computing in float32" in caplog.text and "AVX2" in caplog.text
    assert read_config(parts).model.dtype == "auto" and recorded(parts) == {"float32"}

    caplog.clear()
    cpu("AVX512", "avx512_bf16")
    two = go(tiny_base, tiny_data, parts, steps=3)
    assert "begun in float32" in caplog.text and "warmup.lora" in caplog.text
    assert read_config(parts).model.dtype == "auto" and recorded(parts) == {"float32"}
    for name, tensor in read_lora(one).tensors.items():
        assert torch.equal(tensor, read_lora(two).tensors[name]), name
    info = LoraInfo.from_metadata(read_lora(two).metadata)
    assert info.dtype == "float32"
    # An editor of the same file takes this machine's type.
    assert open_lora(two, None).base.dtype == "auto"


@pytest.mark.slow
def test_a_bfloat16_run_warns_where_it_is_emulated_and_refuses_another_type(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, cpu: Machine,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    run = tmp_path / "run"
    cpu("AVX512", "avx512_bf16")
    go(tiny_base, tiny_data, run, steps=1)
    cpu("AVX2", "avx2")
    config = read_config(run)
    assert settle_dtype(config, run, "cpu", resume=True).model.dtype == "bfloat16"
    assert "100 times" in caplog.text and "begun in bfloat16" in caplog.text
    assert settle_dtype(config, run, "cpu", resume=False).model.dtype == "float32"
    # The type may be named, if it is the run's.
    check_output(run, config.with_dtype("bfloat16"), resume=True)
    with pytest.raises(ConfigError, match="model.dtype: 'bfloat16' in the run, 'float32' now"):
        check_output(run, config.with_dtype("float32"), resume=True)


@pytest.mark.slow
def test_a_run_that_was_asked_for_a_type_goes_on_without_the_word(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, cpu: Machine
) -> None:
    run = tmp_path / "run"
    cpu("AVX512", "avx512_bf16")
    go(tiny_base, tiny_data, run, steps=1, dtype="float32")
    go(tiny_base, tiny_data, run, steps=2)
    assert recorded(run) == {"float32"}


@pytest.mark.slow
def test_a_run_of_before_auto_asks_for_its_type(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, cpu: Machine
) -> None:
    """Its checkpoints do not tell the type, its settings do."""
    run = tmp_path / "run"
    cpu("AVX512", "avx512_bf16")
    go(tiny_base, tiny_data, run, steps=1, dtype="bfloat16")
    for folder in checkpoints(run / "checkpoints"):
        state = read_about(folder)
        del state["dtype"]
        (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(ConfigError, match="model.dtype: 'bfloat16' in the run, 'auto' now"):
        go(tiny_base, tiny_data, run, steps=2)
    go(tiny_base, tiny_data, run, steps=2, dtype="bfloat16")
