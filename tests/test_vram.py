"""Settings for a GPU's memory: what is chosen, what the plan says of it, and what is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_flux
import tiny_wan
import torch
from kept import kept_and_planned
from runs import metrics
from tiny_banks import flux, wan
from tiny_run import settings
from torch import Tensor

from byg_train.config import (
    ConfigError,
    TrainConfig,
    build_config,
    load_preset,
    merge_settings,
    merged,
)
from byg_train.models.backbone import pixel_multiple
from byg_train.models.checkpointing import spread
from byg_train.training.plan import need, shapes
from byg_train.training.vram import (
    CARDS,
    FittedSettings,
    as_before,
    choose,
    room_of,
    said,
    set_by_hand,
)


def asked(preset: str, **model: object) -> TrainConfig:
    return build_config(merged(load_preset(preset), {"model": model}))


def fit(preset: str, vram: str, typed: set[str] = frozenset(), **model: object) -> FittedSettings:
    config = asked(preset, **model)
    s = shapes(config, pixel_multiple(config.model), None)
    return choose(config, s, room_of(vram, "cuda"), typed)


# ---------------------------------------------------------------- what is chosen


@pytest.mark.parametrize(
    ("preset", "vram", "storage"),
    [
        ("flux_edit", "12", "nf4"),
        ("flux_edit", "16", "nf4"),
        ("flux_edit", "24", "fp8"),
        ("flux_edit", "48", "bf16"),
        ("flux_edit", "80", "bf16"),
        ("z_image_edit", "12", "fp8"),
        ("z_image_edit", "16", "bf16"),
        ("z_image_style", "24", "bf16"),
        ("wan22_style", "24", "bf16"),  # streamed
        ("wan22_style", "80", "bf16"),
        ("wan22_5b_style", "12", "fp8"),
        ("wan22_5b_style", "24", "bf16"),
        ("z_image_edit", "12", "fp8"),
        ("z_image_edit", "16", "bf16"),
    ],
)
def test_every_card_gets_what_fits_it(preset: str, vram: str, storage: str) -> None:
    found = fit(preset, vram)
    assert found.config.model.storage == storage
    s = shapes(found.config, pixel_multiple(found.config.model), None)
    assert need(found.config, s).total == found.bytes <= room_of(vram, "cuda")
    sentence = said(found, room_of(vram, "cuda"))
    assert all(f"--set {setting}" in sentence for setting in found.settings)


@pytest.mark.parametrize(
    ("preset", "vram", "options"),
    [
        ("flux_edit", "12", {"model.storage=nf4", "optimizer.name=adamw8bit"}),
        ("z_image_edit", "24", {"model.checkpointed_blocks=0.5"}),
        ("wan22_style", "24", {"model.placement=streamed", "model.boundaries_on_cpu=true"}),
    ],
)
def test_the_large_models_fit_small_cards_at_the_size_and_rank_of_their_presets(
    preset: str, vram: str, options: set[str]
) -> None:
    """FLUX at 512 px on 12 GB, Z-Image unrounded on 24, Wan2.2 A14B at 320x576x81 on 24."""
    found, asked_for = fit(preset, vram), asked(preset)
    assert options <= set(found.settings)
    assert found.bytes <= room_of(vram, "cuda")
    assert found.config.lora.rank == asked_for.lora.rank == 64
    assert found.config.data == asked_for.data
    if not any("storage" in setting for setting in found.settings):
        assert found.config.model.storage == "bf16"


def test_more_memory_is_never_slower() -> None:
    for preset in ("flux_edit", "wan22_5b_style"):
        costs = [fit(preset, vram).cost for vram in CARDS]
        assert costs == sorted(costs, reverse=True) and costs[0] > 1.2 * costs[-1]
    assert fit("flux_edit", "80").config.model.gradient_checkpointing is False


def test_what_a_person_set_stays() -> None:
    found = fit("flux_edit", "24", {"model.storage"}, storage="nf4")
    assert found.config.model.storage == "nf4"
    found = fit("flux_edit", "80", {"model.gradient_checkpointing"})
    assert found.config.model.gradient_checkpointing
    assert fit("flux_edit", "24", compile=True).config.model.storage != "fp8"


@pytest.mark.parametrize(
    "settings",
    [
        {"placement": "streamed"},
        {"placement": "sharded"},
        {"storage": "int8"},
        {"boundaries_on_cpu": True},
        {"checkpointed_blocks": 0.3},
        {"gradient_checkpointing": False},
        {"gradient_checkpointing": False, "keep_attention": True},
        {"compile": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("preset", ["z_image_edit", "wan22_5b_style"])
def test_whatever_a_person_set_the_rest_is_chosen_to_go_with_it(
    preset: str, settings: dict
) -> None:
    by_hand = set_by_hand(asked(preset, **settings), [])
    assert by_hand == {f"model.{name}" for name in settings} - {"model.compile"}
    model = fit(preset, "80", by_hand, **settings).config.model
    assert model.model_dump().items() >= settings.items()
    assert "keep_attention" in settings or model.gradient_checkpointing >= model.keep_attention


def test_what_a_file_says_is_a_persons_as_what_is_typed(tmp_path: Path) -> None:
    assert set_by_hand(asked("flux_edit"), []) == set()
    assert set_by_hand(asked("flux_edit"), ["lora.rank = 64"]) == {"lora.rank"}
    file = tmp_path / "mine.toml"
    file.write_text("[lora]\nrank = 8\n[optimizer]\nname = 'adamw8bit'\n[train]\nsteps = 5\n")
    config = merge_settings("flux_edit", file=file)
    assert set_by_hand(config, []) == {"lora.rank", "optimizer.name"}


def test_what_cannot_fit_is_said() -> None:
    with pytest.raises(ConfigError, match=r"wan22_style needs about .* lower .*data\.frames"):
        fit("wan22_style", "12")
    with pytest.raises(ConfigError, match="--vram 20: wanted auto, 12, 16, 24, 48 or 80"):
        room_of("20", "cuda")
    with pytest.raises(ConfigError, match="--vram auto asks the GPU, and there is none"):
        room_of("auto", "cpu")


def test_a_run_that_goes_on_keeps_what_was_chosen() -> None:
    before = fit("flux_edit", "24").config
    again = as_before(asked("flux_edit"), before)
    assert again == before != asked("flux_edit")
    typed = build_config(merged(load_preset("flux_edit"), {"lora": {"rank": 8}}))
    assert as_before(typed, before, {"lora.rank"}).lora.rank == 8  # and the run refuses it


# ---------------------------------------------------------------- what is measured

MODES = {
    "all kept": {"gradient_checkpointing": False},
    "all again": {"gradient_checkpointing": True},
    "half again": {"gradient_checkpointing": True, "checkpointed_blocks": 0.5},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("preset", ["demo", "demo_z_image", "demo_video"])
def test_the_plan_is_within_15_percent_of_what_backward_keeps(preset: str, mode: str) -> None:
    """With one boundary more, that of what follows the blocks, which tiny networks feel."""
    kept, planned, boundary = kept_and_planned(asked(preset, dtype="float32", **MODES[mode]))
    nearest = min((planned, planned + boundary), key=lambda p: abs(kept / p - 1))
    assert kept / nearest == pytest.approx(1, abs=0.15)
    assert planned > 20 * boundary or mode == "all again"


def gradients(make: object, tiny_base: Path, **changes: object) -> list[Tensor]:
    backbone, bank = make(tiny_base, **changes)
    tiny, t = (tiny_flux, tiny_flux.T) if make is flux else (tiny_wan, tiny_wan.HIGH)
    source = tiny.latents(7).requires_grad_()
    v = backbone.velocity(tiny.latents(1), t, tiny.text(2), source, guidance=2.0)
    v.square().sum().backward()
    grads = [p.grad for p in bank.named_parameters().values() if p.grad is not None]
    return [v.detach(), source.grad, *grads]


@pytest.mark.slow
@pytest.mark.parametrize("make", [flux, wan])
def test_every_way_to_checkpoint_gives_the_same_gradients(make: object, tiny_base: Path) -> None:
    wanted = gradients(make, tiny_base)
    half = {"gradient_checkpointing": True, "checkpointed_blocks": 0.5}
    ways = [half, {"keep_attention": True}, {"boundaries_on_cpu": True}]
    for way in ways:
        got = gradients(make, tiny_base, **{"gradient_checkpointing": True, **way})
        assert len(got) == len(wanted) > 20
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_share_of_blocks_is_spread_over_all() -> None:
    blocks = list(range(10))
    assert spread(blocks, 1.0) == blocks
    assert spread(blocks, 0.5) == [1, 3, 5, 7, 9]
    assert spread(blocks, 0.01) == [9]
    assert [len(spread(blocks, k / 10)) for k in range(1, 11)] == list(range(1, 11))


def test_boundaries_on_the_cpu_need_checkpointed_blocks() -> None:
    with pytest.raises(ConfigError, match="boundaries_on_cpu would send all"):
        asked("flux_edit", boundaries_on_cpu=True, checkpointed_blocks=0.5)


@pytest.mark.slow
def test_what_a_step_took_is_said_once_beside_the_plan(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from byg_train.data.items import load_items
    from byg_train.training.trainer import train

    train_settings = {"sample_every": 0, "sample_first": False}
    config = settings(tiny_base, tiny_data, {"train": train_settings})
    data = load_items(config.data, 8)
    planned = need(config, shapes(config, 8, data))
    (tmp_path / "run").mkdir()
    train(config, data, tmp_path / "run", device="cpu", resume=False, planned=planned)
    words = capsys.readouterr().err
    assert words.count("for backward (planned") == 1
    assert len([m for m in metrics(tmp_path / "run") if m["kind"] == "full"]) > 1
