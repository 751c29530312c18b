"""Validation on clips: beside each other, one clip at a time, with the run's sampler."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import clip_files
import numpy as np
import pytest
import tiny_wan
import torch
from PIL import Image, ImageChops
from torch import Tensor

from byg_train.config import build_config
from byg_train.core.roles import EditBatch
from byg_train.editing.editor import Editor, one_by_one
from byg_train.media.clip_grid import CELL, ClipComparison, frame_strip, side_by_side
from byg_train.models.configured_info import configured_info
from byg_train.models.sampler import Sampling
from byg_train.training.validation import ValidationReport, Validator

COUNT, FRAMES, HEIGHT, WIDTH = 2, 5, 24, 36
CAPTIONS = ["turn it blue", "turn it red"]


class Frames:
    """A backbone whose latents are frames; it remembers what it was asked."""

    spans: ClassVar = {"high": (0.9, 1.0), "low": (0.0, 0.9)}

    def __init__(self) -> None:
        self.decoded: list[int] = []
        self.asked: list[tuple[int, float, float]] = []

    def decode_latents(self, latents: Tensor) -> Tensor:
        self.decoded.append(len(latents))
        return latents

    def velocity(
        self,
        y: Tensor,
        t: Tensor,
        text: dict[str, Tensor],
        source: Tensor,
        guidance: float | None = None,
    ) -> Tensor:
        """A straight flow to the source, brighter by what the text says; the base draws black."""
        source = torch.zeros_like(y) if source is None else source
        brighter = text["prompt_embeds"].view(-1, 1, 1, 1, 1)
        self.asked.append((len(y), t[0].item(), brighter[0].item()))
        return (y - source - brighter) / t.view(-1, 1, 1, 1, 1)


def sources(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return 0.5 * torch.rand(COUNT, 3, FRAMES, height, width, generator=g) - 0.5


class Negative:
    """The one text that an editor asks for by its words."""

    def text(self, text: str) -> dict[str, Tensor]:
        return {"prompt_embeds": torch.full((1,), 0.1)}


def validator(
    backbone: Frames, x: Tensor, *, one_by_one: bool = True, **sample: object
) -> Validator:
    embeds = ({"prompt_embeds": torch.full((COUNT, 1), v)} for v in (0.4, -0.4, 0.0, 0.0))
    config = build_config(
        {
            "model": {"family": "wan", "reference_mode": "shared"},
            "data": {"frames": FRAMES, "fps": 12},
            "sample": {"steps": 4, "shift": 1.0, **sample},
            "rollout": {"steps": 4},
        }
    )
    info = configured_info(config, 8)
    editor = Editor(backbone, None, info, texts=Negative(), one_by_one=one_by_one)
    return Validator(editor, EditBatch(x, *embeds), CAPTIONS, config)


def validated(backbone: Frames, x: Tensor) -> ValidationReport:
    return validator(backbone, x).validate()


def levels(clip: Tensor) -> np.ndarray:
    """(3, F, H, W) in [-1, 1] -> (F, H, W, 3)."""
    return ((clip.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()


def test_the_film_shows_every_clip_and_what_became_of_it() -> None:
    x, backbone = sources(), Frames()
    found = validated(backbone, x)
    assert backbone.decoded == [1] * (4 * COUNT)  # one by one
    assert found.clips.columns == ["source, 0 % kept", "edit", "edited back", "one-step"]
    assert (found.clips.captions, found.clips.fps) == (CAPTIONS, Fraction(12))
    for row, clip in zip(found.clips.clips, x, strict=True):
        wanted = [clip, clip + 0.4, clip, clip + 0.4]
        for shown, right in zip(row, wanted, strict=True):
            assert shown.shape == (FRAMES, HEIGHT, WIDTH, 3)
            assert np.abs(shown.astype(int) - levels(right)).max() <= 1
    rows = [[[Image.fromarray(clip[2]) for clip in row] for row in found.clips.clips]]
    (wanted,) = side_by_side(rows, found.clips.columns, CAPTIONS, CELL)
    frames = list(found.clips.frames())
    assert len(frames) == FRAMES and np.array_equal(frames[2], wanted)


def test_the_picture_is_the_films_strip() -> None:
    found = validated(Frames(), sources())
    clips = [clip for row in found.clips.clips for clip in row]
    labels = [
        label
        for caption in CAPTIONS
        for label in ("source, 0 % kept", f"edit: {caption}", "edited back", "one-step")
    ]
    wanted = frame_strip(clips, labels, 12.0)
    assert ImageChops.difference(found.grid, wanted).getbbox() is None


def test_clips_are_asked_for_one_at_a_time_and_experts_change_once() -> None:
    """Each step asks for all clips before the next: the experts would change with each clip."""
    backbone = Frames()
    found = validator(backbone, sources(), steps=3)
    found, x = found.editor.solve(found.eps, found.batch.c, found.batch.x), found.batch.x
    assert [n for n, _, _ in backbone.asked] == [1] * (3 * COUNT)
    times = [t for _, t, _ in backbone.asked]
    assert times == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    torch.testing.assert_close(found, x + 0.4)


def test_one_by_one_is_the_same() -> None:
    backbone = tiny_wan.load(tiny_wan.base())
    x, t, text, source = tiny_wan.latents(1), tiny_wan.HIGH, tiny_wan.text(2), tiny_wan.latents(7)
    with torch.no_grad():
        whole = backbone.velocity(x, t, text, source)
        torch.testing.assert_close(one_by_one(backbone.velocity)(x, t, text, source), whole)
        alone = one_by_one(backbone.velocity)(x, t, text)
        torch.testing.assert_close(alone, backbone.velocity(x, t, text))


@pytest.mark.slow
def test_clips_are_kept_small() -> None:
    found = validated(Frames(), sources(2 * CELL, CELL))
    assert {clip.shape for row in found.clips.clips for clip in row} == {
        (FRAMES, CELL, CELL // 2, 3)
    }


def test_the_runs_sampler_and_guidance() -> None:
    """no + w (yes - no): the negative text, the weight of either expert, and UniPC's own times."""
    backbone, x = Frames(), sources()
    changes = {"sampler": "unipc", "cfg": 2.0, "cfg_low": 3.0, "negative": "dull"}
    run = validator(backbone, x, one_by_one=False, **changes)
    assert run.editor.sampling == Sampling(4, 1.0, "unipc", 2.0, 3.0, "dull", 2.5)
    found = run.editor.solve(run.eps, run.batch.c, x)
    times = sorted({t for _, t, _ in backbone.asked}, reverse=True)
    assert times == pytest.approx([0.999, 0.75, 0.5, 0.25], abs=1e-3)
    assert {round(b, 3) for _, _, b in backbone.asked} == {0.4, 0.1}
    # In the end the low-noise expert's weight decides: 0.1 + 3 (0.4 - 0.1). Not quite: the network
    # is asked at times rounded to thousandths.
    torch.testing.assert_close(found, x + 1.0, atol=1e-2, rtol=0)


@pytest.mark.slow
def test_a_report_is_saved_as_film_and_picture(tmp_path: Path) -> None:
    found = validated(Frames(), sources())
    found.save(tmp_path / "samples", 500)
    names = {"step-000500.mp4", "step-000500.png"}
    assert {p.name for p in (tmp_path / "samples").iterdir()} == names
    with av.open(str(tmp_path / "samples" / "step-000500.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.frames, stream.average_rate) == (FRAMES, 12)
    shown = clip_files.pictures(tmp_path / "samples" / "step-000500.mp4")
    wanted = np.stack(list(found.clips.frames()))
    assert shown.shape == wanted.shape
    assert np.abs(shown.astype(int) - wanted).mean() < 4
    with Image.open(tmp_path / "samples" / "step-000500.png") as picture:
        assert ImageChops.difference(picture, found.grid).getbbox() is None


def test_a_film_of_one_clip_and_one_frame() -> None:
    film = ClipComparison([[np.zeros((1, 4, 6, 3), np.uint8)]], ["source"], ["x"], Fraction(16))
    assert len(list(film.frames())) == 1 and film.strip().width > 0
