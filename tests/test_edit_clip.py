"""Editing clips with a pair of tiny Wan LoRAs: what comes back, both experts, and every mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import films
import lanes
import numpy as np
import pytest
import tiny_wan
import torch
from edits import edit_clip, in_float32
from films import drawn, heard, pictures
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.config import ConfigError
from byg_train.editing import opening
from byg_train.editing.clip import EditedClip, longest
from byg_train.editing.opening import EditModel, attach, open_lora
from byg_train.editing.overrides import SamplingOverrides
from byg_train.media.fit import Fit, Frames
from byg_train.models.lora_file import LoraInfo, expert_path, read_lora, write_lora
from byg_train.models.sampler import unipc

TEXT, NEGATIVE = "turn video to cartoon style", "photo-realistic snow"
INFO = LoraInfo(
    base="?", family="wan", reference_mode="shared", text_len=tiny_wan.TEXT_LEN,
    instructions=[TEXT], reverse_instructions=["turn video to photo-realistic style"],
    resolution=32, guidance_train=None, guidance_prior=None, guidance_sample=None, sample_steps=3,
    sample_shift=4.0, rank=4, steps=9, weights="edit", dataset="abc", multiple=16, frames=5,
    fps=16.0, sampler="unipc", cfg=3.0, cfg_low=2.0, negative=NEGATIVE,
)  # fmt: skip


def write_pair(folder: Path, kind: str = "pair", **changes: object) -> Path:
    """Files of random LoRAs, one for each expert, that change clips a lot; returns the first."""
    backbone = tiny_wan.load(tiny_wan.base(kind))
    bank = tiny_wan.make_bank(backbone)
    tiny_wan.randomise(bank)
    for expert in backbone.experts:
        pair = expert in ("high", "low")
        own = replace(
            INFO,
            base=str(tiny_wan.base(kind)),
            expert=expert if pair else None,
            boundary=tiny_wan.BOUNDARY if pair else None,
            **changes,
        )
        path = expert_path(folder / "toon.safetensors", expert)
        tensors = {k: v * 3 for k, v in bank.tensors(expert, "edit").items()}
        write_lora(path, tensors, scale=1, family="wan", metadata=own.to_metadata())
    return expert_path(folder / "toon.safetensors", next(iter(backbone.experts)))


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven frames of 64 x 48 at 24 a second, with sound: five of the model's."""
    return films.write(tmp_path_factory.mktemp("clip") / "in.mp4", drawn(7), 24, sound="aac")


def edited(lora: Path | EditModel, clip: Path, **changes: object) -> list[np.ndarray]:
    """Results (F, H, W, 3) of the library's call, in float32."""
    model = in_float32(open_lora(lora, None) if isinstance(lora, Path) else lora)
    return edit_clip(model, clip, TEXT, **changes)


def byg(lora: Path, clip: Path, output: Path, *more: object) -> Result:
    words = ["edit", "--lora", lora, "--input", clip, "--output", output, "--device", "cpu"]
    words += [*more, *([] if "--instruction" in more else ["--instruction", TEXT])]
    return CliRunner().invoke(app, [str(word) for word in words])


def worked(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


# ---------------------------------------------------------------- what an edit is


def test_an_edit_is_the_sampler_of_the_metadata(lora: Path, clip: Path) -> None:
    """By hand: frames at the model's rate, fit, encode, UniPC with guidance, decode, and back."""
    backbone = tiny_wan.load(tiny_wan.base())
    bank = tiny_wan.make_bank(backbone, None)
    for expert in ("high", "low"):
        file = read_lora(lora.with_name(f"toon_{expert}_noise.safetensors"))
        bank.load_tensors(expert, file.by_diffusers_names())
    source = torch.from_numpy(pictures(clip)) / 127.5 - 1
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
    (found,) = edited(lora, clip, seeds=[4])
    assert found.shape == (7, 48, 64, 3)
    apart = np.abs(found.astype(int) - wanted.numpy())
    assert (apart > 2).mean() < 0.01 and found.std() > 10


def test_either_file_and_the_common_name_are_the_pair(lora: Path) -> None:
    for name in ("toon_high_noise", "toon_low_noise", "toon"):
        model = open_lora(lora.with_name(f"{name}.safetensors"), None)
        assert model.files.keys() == {"high", "low"}
        for expert, file in model.files.items():
            assert LoraInfo.from_metadata(file.metadata).expert == expert


def test_both_experts_edit(lora: Path, clip: Path, tmp_path: Path) -> None:
    """Without either's LoRA the result is another one, and without both it is strength 0."""
    model = open_lora(lora, None)

    def without(*experts: str) -> EditModel:
        files = {
            e: f._replace(tensors={k: v * 0 if "lora_B" in k else v for k, v in f.tensors.items()})
            if e in experts
            else f
            for e, f in model.files.items()
        }
        return model._replace(files=files)

    whole, high, low, none = (
        edited(e, clip)[0] for e in (model, without("low"), without("high"), without("high", "low"))
    )
    for a, b in ((whole, high), (whole, low), (high, none), (low, none)):
        assert np.abs(a.astype(int) - b).mean() > 1
    assert np.array_equal(none, edited(model, clip, strength=0.0)[0])


def test_seeds_strength_and_overrides_matter_and_repeat(lora: Path, clip: Path) -> None:
    two = edited(lora, clip, seeds=[3, 8])
    assert not np.array_equal(*two)
    assert np.array_equal(two[1], edited(lora, clip, seeds=[8])[0])
    # What each override means for the sampler: test_edit.
    overrides = ({"cfg_low": 9.0}, {"negative": ""}, {"resolution": 48})
    others = [{"overrides": SamplingOverrides(**one)} for one in overrides] + [{"strength": 0.5}]
    for change in others:
        assert not np.array_equal(two[1], edited(lora, clip, seeds=[8], **change)[0]), change


def test_progress_and_results_as_they_come(lora: Path, clip: Path) -> None:
    seen: list[tuple[int, int]] = []
    came: list[tuple[int, EditedClip]] = []
    edited(
        lora, clip, seeds=[0, 1],
        on_progress=lambda *at: seen.append(at),
        on_result=lambda result: came.append((len(seen), result)),
    )  # fmt: skip
    assert seen == [(i + 1, 6) for i in range(6)]
    assert [n for n, _ in came] == [3, 6]


def test_a_base_of_one_network(clip: Path, tmp_path: Path) -> None:
    """As TI2V-5B: one file, 24 frames a second, larger multiples."""
    lora = write_pair(tmp_path, "one", fps=24.0, multiple=32, cfg_low=None)
    assert lora.name == "toon.safetensors"
    worked(byg(lora, clip, tmp_path / "out.mp4"))
    assert pictures(tmp_path / "out.mp4").shape == (7, 48, 64, 3)


@pytest.mark.parametrize(
    ("fps", "trained", "frames"), [(16.0, 81, 81), (24.0, None, 121), (16.0, 129, 129), (8, 17, 41)]
)
def test_the_bases_limit(fps: float, trained: int | None, frames: int) -> None:
    """Wan's five seconds: 81 frames of A14B, 121 of TI2V-5B; longer ones if it was trained so."""
    assert longest(replace(INFO, fps=fps, frames=trained)) == frames


def test_frames_come_back_in_their_own_number_and_size() -> None:
    """Each of the clip's frames shows the model's frame that is nearest to it in time."""
    plan, fit = Frames.of(7, 24.0, 16.0), Fit.of(10, 6, 32, 16)
    pixels = torch.stack([torch.full((3, *fit.outer[::-1]), i / 10) for i in range(len(plan.seen))])
    result = EditedClip(pixels.transpose(0, 1)[None].half(), fit, plan)
    found = list(result.frames())
    assert [f.shape for f in found] == [(6, 10, 3)] * 7
    assert [round((f.mean() / 127.5 - 1) * 10) for f in found] == [0, 1, 1, 2, 3, 3, 4]


# ---------------------------------------------------------------- what people bring

Make = Callable[[Path], Path]
BROUGHT: dict[str, tuple[Make, tuple[int, ...], Fraction]] = {
    "30 fps": (
        lambda d: films.write(d / "a.mp4", drawn(9), 30), (9, 48, 64), Fraction(30)),
    "NTSC": (
        lambda d: films.write(d / "a.mkv", drawn(6), Fraction(24000, 1001)),
        (6, 48, 64), Fraction(24000, 1001)),
    "a telephone, upright": (
        lambda d: films.write(d / "a.mov", drawn(6), turned=90), (6, 64, 48), Fraction(16)),
    "odd": (
        lambda d: films.write(d / "a.mkv", drawn(6, (63, 47)), codec="ffv1", pixels="bgr0"),
        (6, 47, 63), Fraction(16)),
    "webm": (
        lambda d: films.write(d / "a.webm", drawn(6), codec="libvpx-vp9"), (6, 48, 64),
        Fraction(16)),
    "HDR": (
        lambda d: films.write(
            d / "a.mkv", drawn(6), codec="libx264", pixels="yuv420p10le", hdr=True),
        (6, 48, 64), Fraction(16)),
    "two frames": (
        lambda d: films.write(d / "a.mp4", drawn(2)), (2, 48, 64), Fraction(16)),
}  # fmt: skip


@pytest.mark.parametrize("name", lanes.cases(BROUGHT, slow="HDR"))
def test_size_frames_and_rate_are_the_sources(lora: Path, name: str, tmp_path: Path) -> None:
    make, shape, fps = BROUGHT[name]
    output = tmp_path / "out.mp4"
    result = worked(byg(lora, make(tmp_path), output, "--steps", 1, "--cfg", 1))
    assert pictures(output).shape == (*shape, 3)
    with av.open(str(output)) as film:
        assert [s.type for s in film.streams] == ["video"]
        assert film.streams[0].average_rate == fps
    told = {"odd": "4:4:4", "HDR": "is HDR (PQ)"}.get(name)
    assert ("note: " in result.stderr) == (told is not None) and (told or "") in result.stderr


def test_a_variable_rate(lora: Path, tmp_path: Path) -> None:
    times = [0, 20, 40, 60, 90, 200, 220, 400]
    clip = films.write(tmp_path / "a.mkv", drawn(8), times=times)
    result = worked(byg(lora, clip, tmp_path / "o.mp4", "--steps", 1, "--cfg", 1))
    assert "variable frame rate" in result.stderr
    with av.open(str(tmp_path / "o.mp4")) as film:
        stream = film.streams.video[0]
        assert stream.frames == 8
        assert stream.duration * stream.time_base == pytest.approx(0.43, abs=0.05)


def test_the_sound_is_the_sources(lora: Path, clip: Path, tmp_path: Path) -> None:
    worked(byg(lora, clip, tmp_path / "out.mp4", "--steps", 1))
    assert heard(tmp_path / "out.mp4") == heard(clip) != []


def test_a_part_of_a_clip(lora: Path, tmp_path: Path) -> None:
    clip = films.write(tmp_path / "a.mp4", drawn(96), 16, sound="aac")
    result = byg(lora, clip, tmp_path / "o.mp4")
    assert result.exit_code == 2
    for words in ("6.00 s long", "81 frames at 16 a second", "--start 0 --seconds 5"):
        assert words in result.stderr
    part = ("--start", 1, "--seconds", 0.5, "--steps", 1, "--cfg", 1)
    worked(byg(lora, clip, tmp_path / "o.mp4", *part))
    assert len(pictures(tmp_path / "o.mp4")) == 8
    whole = [data for _, data in heard(clip)]
    found = [data for _, data in heard(tmp_path / "o.mp4")]
    assert 20 < len(found) < 30 and found[0] in whole[45:48] and set(found) <= set(whole)


def test_a_folder_of_frames(lora: Path, tmp_path: Path) -> None:
    """In and out, under their own names, with their transparency."""
    source = tmp_path / "shot"
    source.mkdir()
    for i, frame in enumerate(drawn(5)):
        picture = Image.fromarray(frame)
        picture.putalpha(50 + i)
        picture.save(source / f"s{8 + i}.png")
    worked(byg(lora, source, tmp_path / "out", "--steps", 1))
    names = [f"s{8 + i}.png" for i in range(5)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    for i, name in enumerate(names):
        with Image.open(tmp_path / "out" / name) as picture:
            assert (picture.size, picture.mode) == ((64, 48), "RGBA")
            assert picture.getchannel("A").getextrema() == (50 + i, 50 + i)
    worked(byg(lora, source, tmp_path / "o.mp4", "--steps", 1, "--fps", 12))
    with av.open(str(tmp_path / "o.mp4")) as film:
        assert (film.streams[0].frames, film.streams[0].average_rate) == (5, 12)


def test_a_clip_as_frames(lora: Path, clip: Path, tmp_path: Path) -> None:
    worked(byg(lora, clip, tmp_path / "out", "--steps", 1, "--seed", 2))
    names = [f"frame_{i + 1:05d}.png" for i in range(7)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    with Image.open(tmp_path / "out" / names[3]) as picture:
        assert (picture.size, picture.mode) == ((64, 48), "RGB")


@pytest.mark.parametrize("output", ["out.mp4", "out"])
def test_several_seeds_beside_each_other(
    lora: Path, clip: Path, output: str, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    result = worked(byg(lora, clip, folder / output, "--n", 2, "--seed", 5, "--steps", 1))
    suffix = Path(output).suffix
    assert {p.name for p in folder.iterdir()} == {f"out{n}{suffix}" for n in ("", "_1", "_2")}
    assert "out_1" in result.stdout and "out_2" in result.stdout
    if suffix:
        assert heard(folder / "out.mp4") == heard(clip)
        films_found = [pictures(folder / f"out{n}.mp4") for n in ("", "_1", "_2")]
    else:
        films_found = [
            np.stack([np.asarray(Image.open(p)) for p in sorted((folder / f"out{n}").iterdir())])
            for n in ("", "_1", "_2")
        ]
    both, one, two = films_found
    assert len(both) == len(one) == len(two) == 7
    assert both.shape[2] > 3 * 192  # the source and two results
    assert np.abs(one.astype(int) - two).mean() > 1


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_found_before_a_model_is_loaded(
    lora: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(opening, "load_backbone", refuse)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    whole = films.write(tmp_path / "whole.mp4", drawn(40, (160, 120)), codec="mpeg4")
    data = bytearray(whole.read_bytes())
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    films.write(tmp_path / "one.mp4", drawn(1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    alone = tmp_path / "alone_high_noise.safetensors"
    alone.write_bytes(lora.read_bytes())
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes(lora.read_bytes())
    twice = tmp_path / "two_high_noise.safetensors"
    for name in (twice, tmp_path / "two_low_noise.safetensors"):
        name.write_bytes(lora.read_bytes())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    for more, words in (
        (["--input", "gone.mp4"], ["--input gone.mp4 does not exist"]),
        (["--input", "p.png"], ["p.png is a picture", "edits clips"]),
        (["--input", "cut.mp4"], ["cut.mp4 cannot be used"]),
        (["--input", "one.mp4"], ["one.mp4 cannot be used", "1 frame"]),
        (["--input", "full"], ["full holds no pictures"]),
        (["--output", "o.png"], ["o.png", "a film NAME.mp4, or a folder"]),
        (["--output", clip], ["would overwrite --input"]),
        (["--output", "full"], ["full: wanted a new or an empty folder"]),
        (["--output", "p.png/o.mp4"], ["cannot be written"]),
        (["--start", 9], ["--start 9", "long"]),
        (["--start", -1], ["--start -1", "0 or more"]),
        (["--seconds", 0], ["--seconds 0", "above 0"]),
        (["--fps", 24], ["--fps is for a folder of frames"]),
        (["--guidance", 2], ["no guidance embedding"]),
        (["--lora", alone], ["alone_low_noise.safetensors is not beside", "--single-expert"]),
        (["--lora", renamed], ["NAME_high_noise.safetensors and NAME_low_noise.safetensors"]),
        (["--lora", twice], ["are no pair"]),
        (["--model", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"], ["24 wide", "5120"]),
    ):
        result = byg(lora, clip, tmp_path / "out.mp4", *more)
        assert result.exit_code == 2, (more, result.output)
        for word in words:
            assert word in result.stderr, (more, result.stderr)
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before, more


def test_one_expert_may_be_meant(lora: Path, clip: Path, tmp_path: Path) -> None:
    """The other one is the base, which is not shown the source."""
    alone = tmp_path / "alone_high_noise.safetensors"
    alone.write_bytes(lora.read_bytes())
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
    assert not np.array_equal(edited(model, clip)[0], edited(lora, clip)[0])


def test_a_pair_on_a_base_of_one_network(lora: Path, clip: Path) -> None:
    model = open_lora(lora, None)
    base = model.base.model_copy(update={"path": str(tiny_wan.base("one"))})
    with pytest.raises(
        ConfigError, match="does not fit.*for high and low, and this base has trans"
    ):
        edited(model._replace(base=base), clip)
