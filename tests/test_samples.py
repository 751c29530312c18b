"""Validation: measures against closed forms, and which alarm each failure raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from PIL import ImageChops
from torch import Tensor

from byg_train.config import TrainConfig, build_config
from byg_train.core.flow import at_rank
from byg_train.core.roles import EditBatch
from byg_train.editing.editor import Editor
from byg_train.media.grid import labelled_grid
from byg_train.media.pixels import to_picture
from byg_train.models.configured_info import configured_info
from byg_train.objectives.objective import Advice
from byg_train.training.cost import SOURCE_ROWS
from byg_train.training.source_watch import LOST, SourceWatch, is_due, kept
from byg_train.training.validation import ValidationReport, Validator

ADVICE = Advice(collapse="pull more", drift="pull less", lost="copy for longer")
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
        """A straight flow to `target(value, source)`, which every sampler and guess hits.

        The base, which sees no source, draws the attribute and nothing else.
        """
        end = self.target(at_rank(text, y), source) if source is not None else blind(text, y)
        return (y - end) / at_rank(t, y)

    def decode_latents(self, latents: Tensor) -> Tensor:
        self.decoded.append(len(latents))
        return latents


def sources() -> Tensor:
    x = torch.randn(COUNT, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).sign()
    x[:, 0] = -1
    return x


def parts(backbone: Pixels) -> tuple[Editor, EditBatch, TrainConfig]:
    texts = (torch.full((COUNT,), VALUES[name]) for name in ("c", "c_inv", "c_inv", "c"))
    config = build_config({"sample": {"steps": 4, "shift": 1.0}, "rollout": {"steps": 4}})
    editor = Editor(backbone, None, configured_info(config, 8))
    return editor, EditBatch(sources(), *texts), config


def validator(backbone: Pixels) -> Validator:
    editor, batch, config = parts(backbone)
    return Validator(editor, batch, ["paint it"] * COUNT, config)


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
    return edited(at_rank(value, source), torch.zeros_like(source))


def validated(target: Target) -> ValidationReport:
    return validator(Pixels(target)).validate()


def test_measures_of_a_perfect_editor() -> None:
    found = validated(edited)
    assert found.edit_distance == pytest.approx(4 / 3 / sources().var().item(), rel=1e-4)
    assert found.reconstruction == pytest.approx(0, abs=1e-6)
    assert found.identity == pytest.approx(0, abs=1e-6)
    assert found.source_lost == pytest.approx(0, abs=1e-6)
    assert found.warnings(ADVICE) == []


def test_every_evaluation_of_a_look_is_told() -> None:
    """In the first one the base is measured too."""
    one = validator(Pixels(edited))
    for watched in (2, 1):
        told: list[int] = []
        expected = one.evaluations
        one.validate(lambda told=told: told.append(1))
        assert len(told) == expected == 3 * 4 + watched * (SOURCE_ROWS // COUNT)


def overdone(value: Tensor, source: Tensor) -> Tensor:
    """What was asked, half as much again; the rest is kept."""
    return edited(1.5 * value, source)


def test_who_overdoes_an_edit_has_not_lost_the_source() -> None:
    """Asked for what is there already, a good editor may go beyond it: a large identity loss."""
    found = validated(overdone)
    t = (torch.arange(COUNT) + 0.5) / COUNT
    # A quarter of one channel of three, where the base misses all of the two others.
    assert found.identity == pytest.approx((0.25 / 3 / t**2).mean().item(), rel=1e-4)
    assert found.source_lost == pytest.approx(0.25 / 2, rel=1e-4)
    assert found.identity > 1 and found.source_lost < LOST
    assert found.warnings(ADVICE) == []


def half_seen(value: Tensor, source: Tensor) -> Tensor:
    """The last channel is not looked at."""
    found = edited(value, source)
    found[:, 2:] = 0
    return found


def test_what_is_lost_is_a_share_of_the_way_from_the_warm_up_to_the_base() -> None:
    watch = SourceWatch(*parts(Pixels(half_seen)))
    (t,) = watch.t.values()
    assert len(t) == SOURCE_ROWS // COUNT * COUNT
    # The base misses two channels of three, the editor one.
    channel = (1 / 3 / t**2).mean().item()
    assert watch.identity() == {"transformer": pytest.approx(channel, rel=1e-4)}
    assert watch.without_source() == {"transformer": pytest.approx(2 * channel, rel=1e-4)}
    for start, lost in ((0, 1 / 2), (1 / 4, 1 / 3), (1 / 3, 1 / 4)):
        watch.copied = {"transformer": start * 2 * channel}
        assert watch.lost()["transformer"] == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize("start", [0.5, 0.7, 0.99, 1, 3])
def test_a_warm_up_that_taught_no_copy_is_no_start_to_measure_from(start: float) -> None:
    """As bad an editor is as bad whatever the warm-up was, and more warm-up is what it lacks."""
    watch = SourceWatch(*parts(Pixels(half_seen)))
    (base,) = watch.without_source().values()
    watch.copied = {"transformer": start * base}
    assert watch.lost()["transformer"] == pytest.approx(1 / 2, rel=1e-4)
    assert "the warm-up more steps (warmup.max_steps" in watch.advice("lower it")
    watch.copied = {"transformer": 0.1 * base}
    assert watch.advice("lower it") == "lower it"


def test_the_source_that_is_kept_is_told_in_whole_percent() -> None:
    assert [kept(lost) for lost in (-0.2, 0.0, 0.284, 1.0, 1.7)] == [
        "100 %",
        "100 %",
        "72 %",
        "0 %",
        "0 %",
    ]


def test_who_never_sees_the_source_has_lost_it() -> None:
    assert validated(blind).source_lost == pytest.approx(1, rel=1e-5)


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


def test_a_source_that_a_gentle_end_is_to_bring_back_is_not_lost_yet() -> None:
    config = build_config({"method": {"gentle_from": 0.6}})
    assert [is_due(config, share) for share in (0, 0.6, 0.69, 0.7, 1)] == [False] * 3 + [True] * 2
    assert is_due(build_config({}), 0) and is_due(build_config({"method": {"gentle_from": 0}}), 0)
    late = build_config({"method": {"gentle_from": 0.95}})
    assert not is_due(late, 0.97) and is_due(late, 0.98)
    stronger = build_config({"method": {"gentle_from": 0.6, "gentle_prior": 3}})
    assert is_due(stronger, 0)
    # What pulls is lambda_prior and alpha together.
    alone = {"gentle_from": 0.6, "lambda_prior": 4, "gentle_prior": 4, "alpha": 1}
    assert not is_due(build_config({"method": alone | {"gentle_alpha": 0.1}}), 0)
    traded = {"lambda_prior": 1, "gentle_prior": 0.9, "alpha": 0.1, "gentle_alpha": 1}
    assert is_due(build_config({"method": alone | traded}), 0)
    said = validated(blind).warnings(ADVICE, tell_lost=False)
    assert [sentence.split(":")[0] for sentence in said] == ["drift"]


def test_the_grid_shows_what_was_sampled_decoded_one_by_one() -> None:
    backbone = Pixels(edited)
    grid = validator(backbone).validate().grid
    assert backbone.decoded == [1] * (4 * COUNT)
    x, y = ([to_picture(x) for x in z] for z in (sources(), edited(torch.tensor(1.0), sources())))
    rows = [[x[i], y[i], x[i], y[i]] for i in range(COUNT)]
    columns = ["source, 100 % kept", "edit", "edited back", "one-step"]
    wanted = labelled_grid(rows, columns, ["paint it"] * COUNT)
    assert ImageChops.difference(grid, wanted).getbbox() is None


def test_validations_of_one_run_share_their_noise() -> None:
    """So that a run's grids compare; another run's seed may differ."""
    one, two = validator(Pixels(edited)), validator(Pixels(edited))
    t = one.t["transformer"]
    assert torch.equal(one.eps, two.eps) and torch.equal(t, two.t["transformer"])
    assert torch.equal(t, (torch.arange(COUNT) + 0.5) / COUNT)
