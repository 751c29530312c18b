"""The Editor: live weights as files, text-to-image, texts encoded once, one item at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny_flux
import torch
from torch import Tensor

from byg_train.config import ModelConfig, build_config
from byg_train.core.flow import integrate
from byg_train.core.schedule import time_grid
from byg_train.editing.editor import Editor
from byg_train.editing.opening import open_lora
from byg_train.models.backbone import Text
from byg_train.models.configured_info import configured_info
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora_file import LoraInfo, write_lora

TEXTS = ["paint it blue", "a red thing"]


@pytest.fixture
def backbone(tiny_base: Path) -> FluxBackbone:
    return tiny_flux.load(tiny_base)


def info(model: ModelConfig, **changes: object) -> LoraInfo:
    """Three steps of Euler at shift 2, guidance 1.5."""
    tables = {
        "model": model.model_dump(exclude_none=True),
        "guidance": {"train": 1.0, "prior": 1.0, "sample": 1.5},
        "sample": {"steps": 3, "shift": 2.0},
        "lora": {"rank": 4},
    }
    return replace(configured_info(build_config(tables), 8), **changes)


def trained(backbone: FluxBackbone, **changes: object) -> Editor:
    """Random weights, different in every role."""
    bank = tiny_flux.make_bank(backbone)
    tiny_flux.randomise(bank)
    return Editor(backbone, bank, info(backbone.config, **changes))


def by_hand(backbone: FluxBackbone, text: Text, source: Tensor | None, seed: int) -> Tensor:
    """Plain Euler from the seed's noise."""
    eps = torch.randn(tiny_flux.latents(1).shape, generator=torch.Generator().manual_seed(seed))
    velocity = partial(backbone.velocity, text=text, source=source, guidance=1.5)
    with torch.no_grad():
        return integrate(lambda y, t: velocity(y, t), eps, time_grid(3, 2.0))


def test_a_sample_is_the_flow_by_hand_in_every_role(backbone: FluxBackbone) -> None:
    """And the editor's own role is active again afterwards."""
    editor, x = trained(backbone), tiny_flux.latents(7)
    text = backbone.encode_text(TEXTS)
    edit = editor.sample(x, TEXTS, x, seed=3)
    torch.testing.assert_close(edit, by_hand(backbone, text, x, 3))
    drawn = editor.sample(x, TEXTS, seed=3, role="base")
    with editor.bank.using("base"):
        torch.testing.assert_close(drawn, by_hand(backbone, text, None, 3))
    slow = editor.sample(x, TEXTS, x, seed=3, role="ema")
    assert not torch.allclose(slow, edit) and not torch.allclose(slow, drawn)
    assert torch.equal(edit, editor.sample(x, TEXTS, x, seed=3))


def test_text_to_image_sees_of_the_source_its_shape_alone(backbone: FluxBackbone) -> None:
    editor = Editor(backbone, None, info(backbone.config))
    one, two = (editor.sample(tiny_flux.latents(seed), TEXTS, role="base") for seed in (1, 2))
    assert torch.equal(one, two)


def test_a_live_training_edits_as_its_file_will(backbone: FluxBackbone, tmp_path: Path) -> None:
    editor, x = trained(backbone), tiny_flux.latents(7)
    path, tensors = tmp_path / "l.safetensors", editor.bank.tensors("transformer", "edit")
    form = {"family": "flux", "dtype": torch.float32}
    write_lora(path, tensors, scale=editor.bank.scale, metadata=editor.info.to_metadata(), **form)
    model = open_lora(path, None)
    model = model._replace(base=model.base.model_copy(update={"dtype": "float32"}))
    found = model.load("cpu").sample(x, TEXTS, x, seed=5)
    torch.testing.assert_close(found, editor.sample(x, TEXTS, x, seed=5))


class Recorded:
    """A backbone that remembers what was encoded, and when its encoders were dropped."""

    def __init__(self, backbone: FluxBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str] | None] = []
        encode, drop = backbone.encode_text, backbone.drop_encoders

        def encode_text(texts: list[str]) -> Text:
            self.calls.append(texts)
            return encode(texts)

        def drop_encoders() -> None:
            self.calls.append(None)
            drop()

        monkeypatch.setattr(backbone, "encode_text", encode_text)
        monkeypatch.setattr(backbone, "drop_encoders", drop_encoders)

    @property
    def encoded(self) -> list[str]:
        return [text for texts in self.calls for text in texts or ()]


@pytest.mark.parametrize(("cfg", "more"), [(1.0, []), (2.0, ["dull"])])
def test_every_text_is_encoded_once_and_the_negative_one_if_it_counts(
    backbone: FluxBackbone, cfg: float, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, x = trained(backbone, cfg=cfg, negative="dull"), tiny_flux.latents(7)
    record = Recorded(backbone, monkeypatch)
    editor.learn(TEXTS)
    assert record.encoded == [*TEXTS, *more] and record.calls[-1] is None
    for texts in (TEXTS, TEXTS[:1] * 2):
        editor.sample(x, texts, x)
    assert record.encoded == [*TEXTS, *more]
    editor.sample(x, ["another", TEXTS[0]], x)
    assert record.encoded == [*TEXTS, *more, "another"]


def test_guidance_is_against_the_negative_text(backbone: FluxBackbone) -> None:
    """v_neg + w (v - v_neg): at w = 0 the negative text alone."""
    editor, x = trained(backbone, cfg=0.0, negative="dull"), tiny_flux.latents(7)
    text = backbone.encode_text(["dull"] * 2)
    torch.testing.assert_close(editor.sample(x, TEXTS, x), by_hand(backbone, text, x, 0))


class Stored:
    """Embeddings of a run's cache: of any text the same."""

    def __init__(self) -> None:
        self.learned: list[str] = []

    def learn(self, texts: Iterable[str]) -> None:
        self.learned += texts

    def text(self, text: str) -> Text:
        return {name: e[0] for name, e in tiny_flux.text(2).items()}


def test_embeddings_may_come_from_a_cache(
    backbone: FluxBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, stored, x = Recorded(backbone, monkeypatch), Stored(), tiny_flux.latents(7)
    editor = Editor(backbone, None, info(backbone.config), texts=stored)
    found = editor.sample(x, TEXTS, x)
    assert record.encoded == [] and stored.learned == TEXTS
    text = {name: e[:1].expand(2, *e.shape[1:]) for name, e in tiny_flux.text(2).items()}
    torch.testing.assert_close(found, by_hand(backbone, text, x, 0))


def test_one_by_one_is_the_same_as_a_batch(
    backbone: FluxBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, x = trained(backbone, cfg=2.0), tiny_flux.latents(7)
    alone = Editor(backbone, whole.bank, whole.info, one_by_one=True)
    wanted, sizes, velocity = whole.sample(x, TEXTS, x), [], backbone.velocity

    def watched(x_t: Tensor, *rest: object, **more: object) -> Tensor:
        sizes.append(len(x_t))
        return velocity(x_t, *rest, **more)

    monkeypatch.setattr(backbone, "velocity", watched)
    torch.testing.assert_close(alone.sample(x, TEXTS, x), wanted)
    assert sizes == [1] * 12  # two items, three steps, two texts
