"""Folders of clips as training items: which segments, at which size, and what is left out why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from clip_files import clip, cut_short, hdr_clip, number, told, uneven
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from byg_train.config import ConfigError, DataConfig, build_config
from byg_train.data import DataError
from byg_train.data.items import load_items
from byg_train.data.segments import Segment, content_digest, read_segment, segments_of
from byg_train.media.clips import frames
from byg_train.media.fit import Size

STYLES = ("cartoon", "photo-realistic")


def settings(root: Path | None = None, **changes: object) -> DataConfig:
    plain = {"frames": 5, "fps": 8, "resolution": 45, "holdout": 0}
    return DataConfig(path=root, **{**plain, **changes})


def two_styles(root: Path) -> Path:
    """A clip of 1 s in each style."""
    for style in STYLES:
        told(clip(root / style / "a.mp4"))
    return root


# ---------------------------------------------------------------- segments


@given(
    length=st.integers(0, 400),
    count=st.sampled_from([5, 9, 81]),
    extraction=st.sampled_from(["head", "uniform", "chunk"]),
    number=st.integers(1, 7),
)
def test_segments_lie_within_the_clip_and_never_overlap(
    length: int, count: int, extraction: str, number: int
) -> None:
    data = settings(frames=count, extraction=extraction, segments=number)
    found = segments_of(length, data)
    starts = [start for start, _, _ in found]
    assert all(s.count == count and s.fps == 8 for s in found)
    assert bool(found) == (length >= count)
    assert all(0 <= start <= length - count for start in starts)
    assert all(after - now >= count for now, after in zip(starts, starts[1:], strict=False))
    if extraction == "chunk":
        assert starts == list(range(0, length - count + 1, count)), "all that fit, end to end"
    elif extraction == "head":
        assert starts == [0][: len(found)]
    elif found:
        assert len(found) == min(number, length // count)
        before, behind = starts[0], length - count - starts[-1]
        assert abs(before - behind) <= 1, "as far from the beginning as from the end"
        gaps = [after - now for now, after in zip(starts, starts[1:], strict=False)]
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_segment_is_its_frames_covered_and_cropped(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 48, size=(96, 32))
    pixels = read_segment(path, content_digest(path), Segment(4, 5, 8), Size(32, 32))
    assert pixels.shape == (1, 3, 5, 32, 32)
    assert pixels.dtype == torch.uint8
    whole = [number(frame) for frame in frames(path, 8)]
    middle = pixels[0, 0, :, 24, 8].float() / 5  # left of the middle stands the lower digit
    assert middle.round().int().tolist() == whole[4:9] == [12, 15, 18, 21, 24]


def test_a_clip_that_changed_is_told(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 24)
    before = content_digest(path)
    clip(path, 25)
    with pytest.raises(ValueError, match="changed since"):
        read_segment(path, before, Segment(0, 5, 8), Size(32, 32))


@pytest.mark.parametrize(("frames", "near"), [(80, "77 or 81"), (4, "1 or 5"), (0, "greater than")])
def test_frames_are_4k_plus_1(frames: int, near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        build_config(
            {
                "data": {"frames": frames},
                "model": {"family": "wan", "reference_mode": "shared"},
            }
        )


# ---------------------------------------------------------------- folders


def test_style_folders_of_clips_train(tmp_path: Path) -> None:
    data = load_items(settings(two_styles(tmp_path)), multiple=16)
    first, second = sorted(data.train, key=lambda item: item.instruction)
    assert first.instruction == second.reverse_instruction == "Turn the video to cartoon style"
    assert second.instruction == "Turn the video to photo-realistic style"
    assert second.src_caption == "a red fox runs, cartoon style"
    assert second.tgt_caption == "a red fox runs, photo-realistic style"
    assert first.segment == Segment(0, 5, 8)
    assert data.facts[first.path].clip.fps == 24


def test_every_chunk_is_an_item_and_clips_are_held_out_whole(tmp_path: Path) -> None:
    for i in range(3):
        for style in STYLES:
            told(clip(tmp_path / style / f"{i}.mp4", 48 if i else 15))
    data = load_items(settings(tmp_path, extraction="chunk", holdout=1), multiple=16)
    clips = {item.path for item in data.train}
    assert len({(i.path, i.segment, i.instruction) for i in data.train}) == sum(
        1 if path.stem == "0" else 3 for path in clips
    )
    assert clips.isdisjoint({item.path for item in data.test})
    assert len({item.path for item in data.test}) == 1


def test_each_kind_of_clip_is_used_or_dropped_with_the_reason(tmp_path: Path) -> None:
    good, bad = tmp_path / "cartoon", tmp_path / "photo-realistic"
    told(clip(good / "uneven.mkv", 60, times=uneven(60)))
    told(clip(good / "odd.mkv", size=(65, 47), codec="ffv1", pix_fmt="yuv444p"))
    told(clip(good / "upright.mp4", rotation=90))
    told(clip(good / "silent.mp4"))
    told(clip(good / "loud.mp4", sound=True))
    told(hdr_clip(good / "hdr.mp4", 24))
    told(clip(bad / "whole.mp4"))
    told(clip(bad / "one.mp4", 1))
    told(cut_short(clip(bad / "cut.mp4"), 0.5))
    (bad / "text.webm").write_text("no clip")
    told(bad / "text.webm")
    told(clip(bad / "short.mp4", 9))
    told(clip(bad / "tiny.mp4", size=(64, 14)))
    clip(bad / "bare.mp4")
    told(clip(bad / "empty.mp4"), "")

    with pytest.raises(DataError, match="7 problems") as stopped:
        load_items(settings(tmp_path), multiple=16)
    data = load_items(settings(tmp_path, on_bad_item="drop"), multiple=16)
    assert data.problems == stopped.value.problems
    assert {p.where.removeprefix("photo-realistic/"): p.found for p in data.problems} == {
        "bare.mp4": "no caption",
        "empty.mp4": "empty.txt is empty",
        "one.mp4": "a broken clip (it has 1 frame: a picture, not a clip)",
        "cut.mp4": "a broken clip (it cannot be read: Invalid data found when processing input)",
        "text.webm": "a broken clip (it cannot be read: Invalid data found when processing input)",
        "short.mp4": "0.38 s, which is 3 frames at 8 fps",
        "tiny.mp4": "64 x 14 pixels",
    }
    wanted = next(p.wanted for p in data.problems if "short" in p.where)
    assert wanted == "5 (0.62 s; or a lower data.frames)"
    used = {item.path.name: (item.width, item.height) for item in data.train}
    assert used == {
        "uneven.mkv": (64, 48),
        "odd.mkv": (65, 47),
        "upright.mp4": (48, 64),
        "silent.mp4": (64, 48),
        "loud.mp4": (64, 48),
        "hdr.mp4": (64, 48),
        "whole.mp4": (64, 48),
    }


def test_a_manifest_of_clips(tmp_path: Path) -> None:
    clip(tmp_path / "in" / "fox.webm", 24, codec="libvpx")
    texts = {
        "src_caption": "a fox in snow",
        "tgt_caption": "a fox in sand",
        "instruction": "Turn the snow to sand",
        "reverse_instruction": "Turn the sand to snow",
    }
    lines = [{"file_name": "in/fox.webm", **texts}, {"file_name": "fox.png", **texts}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = load_items(settings(tmp_path, on_bad_item="drop"), multiple=16)
    (item,) = data.train
    assert item.path == tmp_path / "in" / "fox.webm"
    assert item.tgt_caption == "a fox in sand"
    (problem,) = data.problems
    assert problem.found == "file type '.png' of fox.png"
    assert problem.wanted.startswith("mp4, webm")


def test_the_other_kind_of_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    two_styles(tmp_path / "clips")
    for style in STYLES:
        (tmp_path / "pictures" / style).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(told(tmp_path / "pictures" / style / "a.png"))
    with pytest.raises(
        DataError, match=r"holds 2 clips and no pictures.*preset, such as wan22_style"
    ):
        load_items(DataConfig(path=tmp_path / "clips"), multiple=16)
    with pytest.raises(
        DataError, match=r"holds 2 pictures and no clips.*preset, such as flux_style"
    ):
        load_items(settings(tmp_path / "pictures"), multiple=16)


def test_a_picture_beside_a_clip_disturbs_nothing(tmp_path: Path) -> None:
    two_styles(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "cartoon" / "a.jpg")
    assert len(load_items(settings(tmp_path), multiple=16).train) == 2


def test_the_fingerprint_tells_segments_apart(tmp_path: Path) -> None:
    two_styles(tmp_path)

    def fingerprint(**changes: object) -> str:
        return load_items(settings(tmp_path, **changes), multiple=16).fingerprint

    seen = [fingerprint(), fingerprint(fps=12), fingerprint(extraction="uniform")]
    assert len(set(seen)) == 3
    assert fingerprint() == seen[0]
