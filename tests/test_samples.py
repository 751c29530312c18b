"""Validation: measures against closed forms, and which alarm each failure raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from PIL import ImageChops
from torch import Tensor

from byg_train.config import build_config
from byg_train.core.flow import at_rank
from byg_train.core.roles import EditBatch
from byg_train.editing.editor import Editor
from byg_train.media.grid import labelled_grid
from byg_train.media.pixels import to_picture
from byg_train.models.configured_info import configured_info
from byg_train.objectives.objective import Advice
from byg_train.training.validation import BLIND, ValidationReport, Validator

ADVICE = Advice(collapse="pull more", drift="pull less", blindness="copy for longer")
# Channel 0 is an attribute, -1 in every source; a text is the value that it asks for.
COUNT, VALUES = 3, {"c": 1.0, "c_inv": -1.0}
Target = Callable[[Tensor, Tensor], Tensor]


class Pixels:
    """A backbone whose latents are pixels; it remembers how many it decoded at once."""

    spans: ClassVar = {"transformer": (0.0, 1.0)}

    def __init__(self, target: Target) -> None:
        self.decoded: list[int] = []
        self.target = target

    def velocity(
        self, y: Tensor, t: Tensor, text: Tensor, source: Tensor, guidance: float | None = None
    ) -> Tensor:
        """A straight flow to `target(value, source)`, which every sampler and guess hits."""
        return (y - self.target(at_rank(text, y), source)) / at_rank(t, y)

    def decode_latents(self, latents: Tensor) -> Tensor:
        self.decoded.append(len(latents))
        return latents


def sources() -> Tensor:
    x = torch.randn(COUNT, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).sign()
    x[:, 0] = -1
    return x


def validator(backbone: Pixels) -> Validator:
    texts = (torch.full((COUNT,), VALUES[name]) for name in ("c", "c_inv", "c_inv", "c"))
    config = build_config({"sample": {"steps": 4, "shift": 1.0}, "rollout": {"steps": 4}})
    editor = Editor(backbone, None, configured_info(config, 8))
    return Validator(editor, EditBatch(sources(), *texts), ["paint it"] * COUNT, config)


def edited(value: Tensor, source: Tensor) -> Tensor:
    """What was asked, and nothing else."""
    return torch.cat([value.expand_as(source[:, :1]), source[:, 1:]], dim=1)


def copied(value: Tensor, source: Tensor) -> Tensor:
    return source


def one_way(value: Tensor, source: Tensor) -> Tensor:
    """From an edit nothing finds back to the rest of the picture."""
    found = edited(value, source)
    found[:, 1:] *= (source[:, :1] < 0) | (value > 0)
    return found


def blind(value: Tensor, source: Tensor) -> Tensor:
    """Text-to-image: the attribute, and none of the source."""
    return edited(value, torch.zeros_like(source))


def validated(target: Target) -> ValidationReport:
    return validator(Pixels(target)).validate()


def test_measures_of_a_perfect_editor() -> None:
    found = validated(edited)
    assert found.edit_distance == pytest.approx(4 / 3 / sources().var().item(), rel=1e-4)
    assert found.reconstruction == pytest.approx(0, abs=1e-6)
    assert found.identity == pytest.approx(0, abs=1e-6)
    assert found.blindness == pytest.approx(0, abs=1e-6)
    assert found.warnings(ADVICE) == []


def overdone(value: Tensor, source: Tensor) -> Tensor:
    """What was asked, half as much again; the rest is kept."""
    return edited(1.5 * value, source)


def test_who_overdoes_an_edit_has_not_lost_the_source() -> None:
    """Asked for what is there already, a good editor may go beyond it: a large identity loss."""
    found, x = validated(overdone), sources()
    t = (torch.arange(COUNT) + 0.5) / COUNT
    off, lost = 0.25 / 3, (x - x.flip(-2, -1)).square().flatten(1).mean(1)
    assert found.identity == pytest.approx((off / t**2).mean().item(), rel=1e-4)
    wrong = ((off + lost) / t**2).mean().item()
    assert found.blindness == pytest.approx(found.identity / wrong, rel=1e-4)
    assert found.identity > 1 and found.blindness < BLIND
    assert found.warnings(ADVICE) == []


def test_who_never_sees_the_source_is_blind() -> None:
    assert validated(blind).blindness == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("target", "alarms"),
    [
        (copied, ["identity collapse: edits differ from their sources by 0.000"]),
        (one_way, ["drift: editing back misses the source by 0.75"]),
        (blind, ["drift", "the source is being lost"]),
    ],
)
def test_each_failure_raises_its_alarm(target: Target, alarms: list[str]) -> None:
    found = validated(target).warnings(ADVICE)
    assert len(found) == len(alarms)
    for sentence, begins in zip(found, alarms, strict=True):
        assert sentence.startswith(begins)
        assert sentence.endswith(tuple(f"; {what}" for what in ADVICE))


def test_the_grid_shows_what_was_sampled_decoded_one_by_one() -> None:
    backbone = Pixels(edited)
    grid = validator(backbone).validate().grid
    assert backbone.decoded == [1] * (4 * COUNT)
    x, y = ([to_picture(x) for x in z] for z in (sources(), edited(torch.tensor(1.0), sources())))
    rows = [[x[i], y[i], x[i], y[i]] for i in range(COUNT)]
    columns = ["source", "edit", "edited back", "one-step"]
    wanted = labelled_grid(rows, columns, ["paint it"] * COUNT)
    assert ImageChops.difference(grid, wanted).getbbox() is None


def test_validations_of_one_run_share_their_noise() -> None:
    """So that a run's grids compare; another run's seed may differ."""
    one, two = validator(Pixels(edited)), validator(Pixels(edited))
    t = one.t["transformer"]
    assert torch.equal(one.eps, two.eps) and torch.equal(t, two.t["transformer"])
    assert torch.equal(t, (torch.arange(COUNT) + 0.5) / COUNT)
