"""Metrics by closed form, invariance, and the numbers that the paper prints."""

from __future__ import annotations

import math

import numpy as np
import pytest
from paper_tables import TABLE_3

from byg_train.evaluate.metrics.aesthetic import Head, aesthetic, read_head
from byg_train.evaluate.metrics.clip_direction import clip_direction
from byg_train.evaluate.metrics.dino import dino_similarity
from byg_train.evaluate.metrics.flicker import temporal_flicker
from byg_train.evaluate.metrics.psnr import psnr
from byg_train.evaluate.metrics.retrieval import ranks, recall
from byg_train.evaluate.metrics.ssim import ssim
from byg_train.evaluate.summary import macro_mean, summarise, table


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def clip(frames: int = 4, seed: int = 0) -> np.ndarray:
    return rng(seed).integers(0, 256, (frames, 20, 24, 3), np.uint8)


def turned(v: np.ndarray, angle: float) -> np.ndarray:
    """Unit vectors at an angle from v, in a plane that holds it."""
    u = v / np.linalg.norm(v, axis=-1, keepdims=True)
    other = rng(9).normal(size=v.shape)
    other -= (other * u).sum(-1, keepdims=True) * u
    other /= np.linalg.norm(other, axis=-1, keepdims=True)
    return math.cos(angle) * u + math.sin(angle) * other


# ---------------------------------------------------------------- summaries


def test_a_summary_counts_what_is_missing_and_invents_nothing() -> None:
    found = summarise([1.0, None, 3.0, math.nan, 5.0])
    assert (found.mean, found.n, found.missing) == (3.0, 3, 2)
    assert found.sem == pytest.approx(2 / math.sqrt(3))  # std(ddof=1) = 2
    assert str(found) == "3.000 ± 1.155 (n = 3, 2 missing)"


def test_a_summary_of_too_little_says_so() -> None:
    none, one = summarise([None]), summarise([2.0])
    assert math.isnan(none.mean)
    assert (none.n, none.missing) == (0, 1)
    assert one.mean == 2
    assert math.isnan(one.sem)
    assert summarise([1.0, math.inf]).mean == math.inf


@pytest.mark.parametrize(("dynamic", "mean", "sem"), [(71, 0.597, 0.045), (68, 0.571, 0.046)])
def test_the_dynamic_degrees_of_table_1(dynamic: int, mean: float, sem: float) -> None:
    found = summarise([1.0] * dynamic + [0.0] * (119 - dynamic))
    assert (round(found.mean, 3), round(found.sem, 3)) == (mean, sem)


@pytest.mark.parametrize(("column", "mean"), [(0, 5.75), (1, 5.98), (2, 3.59)])
def test_the_macro_means_of_table_3(column: int, mean: float) -> None:
    groups = {
        # However many items a task has, it weighs alike.
        task: summarise([row[column]] * (i + 1))
        for i, (task, row) in enumerate(TABLE_3.items())
    }
    assert round(macro_mean(groups), 2) == mean


def test_a_task_without_a_value_leaves_no_macro_mean() -> None:
    assert math.isnan(macro_mean({"a": summarise([1.0]), "b": summarise([None])}))


# ---------------------------------------------------------------- features


def test_clip_direction_is_the_cosine_of_the_two_moves() -> None:
    e = np.eye(4)
    source, src = e[[0, 0]], e[0]
    # cos of e1 - e0 with e1 - e0, e2 - e0 and e0 - e1 (frames), by hand
    for tgt, wanted in ((e[1], 1.0), (e[2], 0.5), (-e[1], 0.0)):
        assert clip_direction(source, e[[1, 1]], src, tgt) == pytest.approx(wanted)
    mixed = clip_direction(source, np.stack([e[1], e[2]]), src, e[1])
    assert mixed == pytest.approx((1 + 0.5) / 2)  # the mean over frames


def test_clip_direction_does_not_see_the_length_of_features() -> None:
    source, edited = rng(1).normal(size=(2, 3, 8))
    src, tgt = rng(2).normal(size=(2, 8))
    plain = clip_direction(source, edited, src, tgt)
    scaled = clip_direction(source * 7, edited * 0.2, src * 3, tgt * 11)
    assert scaled == pytest.approx(plain)
    assert clip_direction(source, edited, tgt, src) == pytest.approx(-plain)


def test_clip_direction_of_equal_captions_is_missing_and_of_a_copy_0() -> None:
    source, edited = rng(1).normal(size=(2, 3, 8))
    src, tgt = rng(2).normal(size=(2, 8))
    assert math.isnan(clip_direction(source, edited, src, src * 2))
    assert clip_direction(source, source, src, tgt) == 0
    with pytest.raises(ValueError, match=r"\(3, 8\), the result \(2, 8\)"):
        clip_direction(source, edited[:2], src, tgt)


def test_dino_similarity_is_the_mean_cosine_of_frames() -> None:
    source = rng(3).normal(size=(5, 16))
    angles = np.linspace(0, 2, 5)
    edited = np.stack([turned(f, a) for f, a in zip(source, angles, strict=True)]) * 4
    assert dino_similarity(source, edited) == pytest.approx(np.cos(angles).mean())
    assert dino_similarity(source, source) == pytest.approx(1)
    assert dino_similarity(source, source[::-1]) < 0.5  # the same index, not the best match


def test_aesthetic_is_the_linear_head_on_unit_features(tmp_path: object) -> None:
    from safetensors.numpy import save_file

    weight = rng(4).normal(size=(1, 8)).astype(np.float32)
    save_file({"weight": weight, "bias": np.array([5.0], np.float32)}, tmp_path / "head")
    head = read_head(tmp_path / "head")
    features = rng(5).normal(size=(3, 8)) * 40
    by_hand = [float(weight[0] @ f / np.linalg.norm(f) + 5) / 10 for f in features]
    assert aesthetic(features, head) == pytest.approx(np.mean(by_hand), rel=1e-6)
    along = 3 * weight
    assert aesthetic(along, head) == pytest.approx((np.linalg.norm(weight) + 5) / 10, rel=1e-6)
    with pytest.raises(ValueError, match="4 features for a head of 8"):
        aesthetic(features[:, :4], head)
    save_file({"w": weight}, tmp_path / "other")
    with pytest.raises(ValueError, match="holds w; wanted weight and bias"):
        read_head(tmp_path / "other")


def test_a_head_without_weights_tells_its_bias() -> None:
    assert aesthetic(np.ones((2, 3)), Head(np.zeros(3), 6.5)) == pytest.approx(0.65)


def test_retrieval_ranks_by_cosine_and_gives_ties_no_credit() -> None:
    e = np.eye(4)
    targets = np.stack([e[0], e[1], e[2], e[0] + 0.1 * e[1]])
    edited = np.stack([e[0] + 0.2 * e[1], 5 * e[1], -e[2]])
    # The first lies nearer to the fourth target than to its own; the last is opposite to its own.
    assert ranks(edited, targets).tolist() == [1, 0, 3]
    assert recall(ranks(edited, targets), 2).tolist() == [1, 1, 0]
    same = np.ones((3, 4))
    assert ranks(same, same).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="2 targets for 3 results"):
        ranks(edited, targets[:2])


# ---------------------------------------------------------------- pixels


def test_flicker_is_the_mean_step_between_frames() -> None:
    frames = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (10, 30, 0, 255)])
    assert temporal_flicker(frames) == pytest.approx(1 - (20 + 30 + 255) / 3 / 255)
    assert temporal_flicker(np.repeat(clip(1), 5, 0)) == 1
    assert math.isnan(temporal_flicker(clip(1)))


def test_psnr_of_a_known_error() -> None:
    target = clip()
    near = np.where(target < 250, target + 5, target - 5).astype(np.uint8)
    assert psnr(near, target) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(target, target) == math.inf
    assert psnr(target[:, :, ::-1], target) == pytest.approx(psnr(target, target[:, :, ::-1]))
    with pytest.raises(ValueError, match="the result is"):
        psnr(near[:1], target)


def test_ssim_of_flat_pictures_is_its_luminance_term() -> None:
    def flat(level: int) -> np.ndarray:
        return np.full((2, 16, 16, 3), level, np.uint8)

    a, b, c1 = 51 / 255, 204 / 255, 0.01**2
    wanted = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim(flat(51), flat(204)) == pytest.approx(wanted, abs=1e-5)


def test_ssim_falls_from_1_with_noise() -> None:
    target = np.repeat(np.repeat(clip(2)[:, :8, :8], 4, 1), 4, 2)
    noisy = [(target + rng().normal(0, s, target.shape)).clip(0, 255) for s in (5, 20, 80)]
    scores = [ssim(x.astype(np.uint8), target) for x in noisy]
    assert ssim(target, target) == pytest.approx(1)
    assert 1 > scores[0] > scores[1] > scores[2] > 0
    with pytest.raises(ValueError, match="24 x 8 pixels"):
        ssim(clip()[:, :8], clip()[:, :8])


# ---------------------------------------------------------------- tables


def test_a_table_stands_in_line_and_is_markdown() -> None:
    assert table(["method", "edit"], [["byg", "0.5"], ["a copy", "0.125"]]).splitlines() == [
        "| method |  edit |",
        "| ------ | ----: |",
        "| byg    |   0.5 |",
        "| a copy | 0.125 |",
    ]
    assert table(["a", "b"], [["x", "text"]], numbers=False).splitlines() == [
        "| a   | b    |",
        "| --- | ---- |",
        "| x   | text |",
    ]
