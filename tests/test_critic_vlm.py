"""Vision-language critics: pixels and features as the processors', answers, gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_critics import KINDS, tiny, tokenizer
from torch import Tensor

from byg_train.config import ConfigError
from byg_train.core.critic import Question, answer_loss
from byg_train.critics.vlm import VlmCritic, answer_tokens, resized, to_unit_frame

SIZES = [(64, 96), (112, 112), (40, 200)]
QUESTIONS = [
    Question(0, "edit", "Has it been done: paint it blue?"),
    Question(1, "edit", "Is there a dog?", answer=False, sees_source=False),
    Question(1, "identity", "Is all else the same?"),
]


@pytest.fixture(scope="module", params=KINDS)
def critic(request: pytest.FixtureRequest) -> Iterator[VlmCritic]:
    yield VlmCritic(*tiny(request.param), resolution=112)


def pictures(seed: int, height: int = 64, width: int = 96) -> Tensor:
    """(2, 3, 1, H, W) in [-1, 1], smooth enough to be pictures."""
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(2, 3, 8, 8, generator=g)
    large = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return (2 * large - 1)[:, :, None]


def processed(critic: VlmCritic, pixels: Tensor) -> dict[str, Any]:
    """By the library's own processor, of frames in their size: without torchvision it would round
    to bytes where it resizes."""
    frames = resized(to_unit_frame(pixels), critic.prepare(to_unit_frame(pixels))["size"])
    options = {**critic.prepare.options["images_kwargs"], "do_resize": False, "do_rescale": False}
    return critic.processor.image_processor(
        images=[frame.numpy() for frame in frames], return_tensors="pt", **options
    )


@pytest.mark.parametrize("size", SIZES)
def test_pixels_and_features_are_the_processors(critic: VlmCritic, size: tuple[int, int]) -> None:
    pixels = pictures(0, *size)
    theirs, ours = processed(critic, pixels), critic.prepare(to_unit_frame(pixels))
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], atol=1e-3, rtol=0)
    images = {k: theirs[k] for k in ("pixel_values", "image_grid_thw") if k in theirs}
    with torch.no_grad():
        wanted = critic.model.model.get_image_features(**images, return_dict=True).pooler_output
        found, _ = critic.features(pixels)
    for a, b in zip(found.pooler_output, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)
        assert b.std() > 1e-3


@pytest.mark.parametrize("size", SIZES)
def test_its_size_is_the_processors(critic: VlmCritic, size: tuple[int, int]) -> None:
    pixels = to_unit_frame(pictures(0, *size))
    theirs = critic.processor.image_processor(
        images=[Image.fromarray((255 * f.permute(1, 2, 0)).byte().numpy()) for f in pixels],
        return_tensors="pt",
        **critic.prepare.options["images_kwargs"],
    )
    ours = critic.prepare(pixels)
    assert ours["pixel_values"].shape == theirs["pixel_values"].shape
    if "image_grid_thw" in theirs:
        assert torch.equal(ours["image_grid_thw"], theirs["image_grid_thw"])
    # And the pixels, but for what is lost in bytes.
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], atol=0.04, rtol=0)


@pytest.mark.parametrize("size", [(30, 50), (140, 84), (64, 96)])
def test_resizing_is_pillows(size: tuple[int, int]) -> None:
    """In floats, which pillow takes channel by channel."""
    frame = to_unit_frame(pictures(3))[:1]
    ours = resized(frame, size)[0]
    for channel, found in zip(frame[0], ours, strict=True):
        theirs = Image.fromarray(channel.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
        torch.testing.assert_close(found, torch.from_numpy(np.array(theirs)), atol=1e-3, rtol=0)


def test_answers_are_those_of_the_model_asked_as_usual(critic: VlmCritic) -> None:
    """Question by question, through the library's processor and forward, without our pixels."""
    source, edited = pictures(1), pictures(2)
    with torch.no_grad():
        found = critic(source, edited, QUESTIONS)
    assert found.shape == (3, 2) and found.dtype == torch.float32
    for q, logits in zip(QUESTIONS, found, strict=True):
        seen = [source, edited] if q.sees_source else [edited]
        size = critic.prepare(to_unit_frame(source))["size"]
        words = critic._words([q], size)
        pixels = torch.cat([pixels[q.row : q.row + 1] for pixels in seen])
        images = processed(critic, pixels)["pixel_values"]
        with torch.no_grad():
            out = critic.model(**words, pixel_values=images).logits[0, -1]
        torch.testing.assert_close(logits, out[critic.answers].float(), atol=1e-3, rtol=1e-3)


def test_gradients_reach_the_edit_and_nothing_else(critic: VlmCritic) -> None:
    """By a difference along the gradient, through resize, vision tower and language model."""
    source, edited = pictures(1).requires_grad_(), (0.9 * pictures(2)).requires_grad_()
    critic.model.double()

    def loss(edited: Tensor) -> Tensor:
        return answer_loss(critic(source, edited, QUESTIONS), QUESTIONS).sum()

    try:
        loss(edited).backward()
        assert source.grad is None
        assert all(p.grad is None for p in critic.model.parameters())
        assert (edited.grad.flatten(1).norm(dim=1) > 1e-8).all()
        step = 0.02 * edited.grad / edited.grad.norm()
        with torch.no_grad():
            change = loss(edited + step) - loss(edited - step)
        wanted = 2 * (edited.grad * step).sum()
        assert change.item() == pytest.approx(wanted.item(), rel=0.05)
    finally:
        critic.model.float()


def test_the_source_is_looked_at_once(critic: VlmCritic, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    whole = critic.model.model.get_image_features

    def counted(*args: Any, **options: Any) -> Any:
        looked.append(torch.is_grad_enabled())
        return whole(*args, **options)

    monkeypatch.setattr(critic.model.model, "get_image_features", counted)
    critic(pictures(1), pictures(2), QUESTIONS)
    assert looked == [False, True]


def test_layers_are_checkpointed_and_nothing_is_dropped(critic: VlmCritic) -> None:
    marked = [m for m in critic.model.modules() if getattr(m, "gradient_checkpointing", False)]
    assert len(marked) >= 4
    assert not any(m.training for m in critic.model.modules() if isinstance(m, torch.nn.Dropout))


def test_answers_must_be_single_tokens() -> None:
    words = tokenizer()
    assert [words.decode([t]) for t in answer_tokens(words)] == ["No", "Yes"]
    model, processor = tiny("qwen3_vl")
    cut = tokenizer()
    cut.encode = lambda text, **_: [1, 2] if text == "Yes" else [3]
    with pytest.raises(ConfigError, match="2 tokens of 'Yes'"):
        answer_tokens(cut)
    model.config.model_type = "llava"
    with pytest.raises(ConfigError, match="type 'llava'"):
        VlmCritic(model, processor, 112)
