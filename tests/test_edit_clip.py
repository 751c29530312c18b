"""Editing clips with a pair of tiny Wan LoRAs: what comes back, both experts, and every mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import clip_files
import numpy as np
import pytest
import tiny_wan
import torch
from clip_files import drawn, pictures
from PIL import Image
from wan_edits import INFO, NEGATIVE, TEXT, byg, edited, worked, write_pair

from byg_train.config import ConfigError
from byg_train.editing import opening
from byg_train.editing.opening import EditModel, attach, open_lora
from byg_train.editing.sources import EditedClip, longest
from byg_train.media.fit import Fit, Frames
from byg_train.models.lora_file import LoraInfo, read_lora
from byg_train.models.sampler import unipc

# ---------------------------------------------------------------- what an edit is


def test_an_edit_is_the_sampler_of_the_metadata(wan_lora: Path, short_clip: Path) -> None:
    """By hand: frames at the model's rate, fit, encode, UniPC with guidance, decode, and back."""
    backbone = tiny_wan.load(tiny_wan.base())
    bank = tiny_wan.make_bank(backbone, None)
    for expert in ("high", "low"):
        file = read_lora(wan_lora.with_name(f"toon_{expert}_noise.safetensors"))
        bank.load_tensors(expert, file.by_diffusers_names())
    source = torch.from_numpy(pictures(short_clip)) / 127.5 - 1
    seen = source.permute(3, 0, 1, 2)[None][:, :, [0, 2, 3, 5, 6]]  # at 0, 1/16, ... seconds
    fit = Fit.of(64, 48, 32, 16)
    x = backbone.encode_pixels(fit.apply(seen))
    yes, no = (backbone.encode_text([text]) for text in (TEXT, NEGATIVE))

    def field(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        w = 3.0 if t.item() >= tiny_wan.BOUNDARY else 2.0
        v, v_neg = (backbone.velocity(y, t, text, x) for text in (yes, no))
        return v_neg + w * (v - v_neg)

    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        y_0 = unipc(field, eps, 3, 4.0)
        pixels = fit.undo(backbone.decode_latents(y_0).clamp(-1, 1))[0]
    assert backbone.swaps == 1  # both experts were asked
    wanted = ((pixels + 1) * 127.5).round().permute(1, 2, 3, 0)[[0, 1, 1, 2, 3, 3, 4]]
    (found,) = edited(wan_lora, short_clip, seeds=[4])
    assert found.shape == (7, 48, 64, 3)
    apart = np.abs(found.astype(int) - wanted.numpy())
    assert (apart > 2).mean() < 0.01 and found.std() > 10


def test_either_file_and_the_common_name_are_the_pair(wan_lora: Path) -> None:
    for name in ("toon_high_noise", "toon_low_noise", "toon"):
        model = open_lora(wan_lora.with_name(f"{name}.safetensors"), None)
        assert model.files.keys() == {"high", "low"}
        for expert, file in model.files.items():
            assert LoraInfo.from_metadata(file.metadata).expert == expert


@pytest.mark.slow
def test_both_experts_edit(wan_lora: Path, short_clip: Path, tmp_path: Path) -> None:
    """Without either's LoRA the result is another one, and without both it is strength 0."""
    model = open_lora(wan_lora, None)

    def without(*experts: str) -> EditModel:
        files = {
            e: f._replace(tensors={k: v * 0 if "lora_B" in k else v for k, v in f.tensors.items()})
            if e in experts
            else f
            for e, f in model.files.items()
        }
        return model._replace(files=files)

    whole, high, low, none = (
        edited(e, short_clip)[0]
        for e in (model, without("low"), without("high"), without("high", "low"))
    )
    for a, b in ((whole, high), (whole, low), (high, none), (low, none)):
        assert np.abs(a.astype(int) - b).mean() > 1
    assert np.array_equal(none, edited(model, short_clip, strength=0.0)[0])


@pytest.mark.slow
def test_seeds_strength_and_overrides_matter_and_repeat(wan_lora: Path, short_clip: Path) -> None:
    two = edited(wan_lora, short_clip, seeds=[3, 8])
    assert not np.array_equal(*two)
    assert np.array_equal(two[1], edited(wan_lora, short_clip, seeds=[8])[0])
    # What each override means for the sampler: test_edit.
    overrides = ({"cfg_low": 9.0}, {"negative": ""}, {"resolution": 48})
    others = [{"overrides": one} for one in overrides] + [{"strength": 0.5}]
    for change in others:
        assert not np.array_equal(two[1], edited(wan_lora, short_clip, seeds=[8], **change)[0]), (
            change
        )


def test_progress_and_results_as_they_come(wan_lora: Path, short_clip: Path) -> None:
    seen: list[tuple[int, int]] = []
    came: list[tuple[int, EditedClip]] = []
    edited(
        wan_lora, short_clip, seeds=[0, 1],
        on_progress=lambda *at: seen.append(at),
        on_result=lambda result: came.append((len(seen), result)),
    )  # fmt: skip
    assert seen == [(i + 1, 6) for i in range(6)]
    assert [n for n, _ in came] == [3, 6]


def test_a_base_of_one_network(short_clip: Path, tmp_path: Path) -> None:
    """As TI2V-5B: one file, 24 frames a second, larger multiples."""
    lora = write_pair(tmp_path, "one", fps=24.0, multiple=32, cfg_low=None)
    assert lora.name == "toon.safetensors"
    worked(byg(lora, short_clip, tmp_path / "out.mp4"))
    assert pictures(tmp_path / "out.mp4").shape == (7, 48, 64, 3)


@pytest.mark.parametrize(
    ("fps", "trained", "frames"), [(16.0, 81, 81), (24.0, None, 121), (16.0, 129, 129), (8, 17, 41)]
)
def test_the_bases_limit(fps: float, trained: int | None, frames: int) -> None:
    """Wan's five seconds: 81 frames of A14B, 121 of TI2V-5B; longer ones if it was trained so."""
    assert longest(replace(INFO, fps=fps, frames=trained)) == frames


def test_frames_come_back_in_their_own_number_and_size() -> None:
    """Each of the clip's frames shows the model's frame that is nearest to it in time."""
    plan, fit = Frames.of(7, 24.0, 16.0, group=4), Fit.of(10, 6, 32, 16)
    pixels = torch.stack([torch.full((3, *fit.outer[::-1]), i / 10) for i in range(len(plan.seen))])
    result = EditedClip(pixels.transpose(0, 1)[None].half(), fit, plan)
    found = list(result.frames())
    assert [f.shape for f in found] == [(6, 10, 3)] * 7
    assert [round((f.mean() / 127.5 - 1) * 10) for f in found] == [0, 1, 1, 2, 3, 3, 4]


# ---------------------------------------------------------------- mistakes


@pytest.mark.slow
def test_mistakes_are_found_before_a_model_is_loaded(
    wan_lora: Path, short_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(opening, "load_backbone", refuse)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    whole = clip_files.write(tmp_path / "whole.mp4", drawn(40, (160, 120)), codec="mpeg4")
    data = bytearray(whole.read_bytes())
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    clip_files.write(tmp_path / "one.mp4", drawn(1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    alone = tmp_path / "alone_high_noise.safetensors"
    alone.write_bytes(wan_lora.read_bytes())
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes(wan_lora.read_bytes())
    twice = tmp_path / "two_high_noise.safetensors"
    for name in (twice, tmp_path / "two_low_noise.safetensors"):
        name.write_bytes(wan_lora.read_bytes())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    for more, words in (
        (["--input", "gone.mp4"], ["--input gone.mp4 does not exist"]),
        (["--input", "p.png"], ["p.png is a picture", "edits clips"]),
        (["--input", "cut.mp4"], ["cut.mp4 cannot be used"]),
        (["--input", "one.mp4"], ["one.mp4 cannot be used", "1 frame"]),
        (["--input", "full"], ["full holds no pictures"]),
        (["--output", "o.png"], ["o.png", "a video NAME.mp4, or a folder"]),
        (["--output", short_clip], ["would overwrite --input"]),
        (["--output", "full"], ["full: wanted a new or an empty folder"]),
        (["--output", "p.png/o.mp4"], ["cannot be written"]),
        (["--start", 9], ["begin at 9.0 s", "long"]),
        (["--start", -1], ["--start -1", "0 or more"]),
        (["--seconds", 0], ["--seconds 0", "above 0"]),
        (["--fps", 24], ["has a rate of its own", "folder of frames"]),
        (["--guidance", 2], ["no guidance embedding"]),
        (["--lora", alone], ["alone_low_noise.safetensors is not beside", "--single-expert"]),
        (["--lora", renamed], ["NAME_high_noise.safetensors and NAME_low_noise.safetensors"]),
        (["--lora", twice], ["are no pair"]),
        (["--model", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"], ["24 wide", "5120"]),
    ):
        result = byg(wan_lora, short_clip, tmp_path / "out.mp4", *more)
        assert result.exit_code == 2, (more, result.output)
        for word in words:
            assert word in result.stderr, (more, result.stderr)
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before, more


def test_one_expert_may_be_meant(wan_lora: Path, short_clip: Path, tmp_path: Path) -> None:
    """The other one is the base, which is not shown the source."""
    alone = tmp_path / "alone_high_noise.safetensors"
    alone.write_bytes(wan_lora.read_bytes())
    model = open_lora(alone, None, single_expert=True)
    assert model.files.keys() == {"high"}
    backbone, bare = tiny_wan.load(tiny_wan.base()), tiny_wan.load(tiny_wan.base())
    attach(model, backbone, strength=1.0)
    x, source, text = tiny_wan.latents(1), tiny_wan.latents(7), tiny_wan.text(2)
    with torch.no_grad():
        low, plain = (b.velocity(x, tiny_wan.LOW, text, source) for b in (backbone, bare))
        wanted = bare.velocity(x, tiny_wan.LOW, text)
        high = [backbone.velocity(x, tiny_wan.HIGH, text, z) for z in (source, None)]
    assert torch.equal(low, wanted) and not torch.equal(low, plain)
    assert not torch.equal(*high)
    assert not np.array_equal(edited(model, short_clip)[0], edited(wan_lora, short_clip)[0])


def test_a_pair_on_a_base_of_one_network(wan_lora: Path, short_clip: Path) -> None:
    model = open_lora(wan_lora, None)
    base = model.base.model_copy(update={"path": str(tiny_wan.base("one"))})
    with pytest.raises(
        ConfigError, match="does not fit.*for high and low, and this base has trans"
    ):
        edited(model._replace(base=base), short_clip)
