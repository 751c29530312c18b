"""The real FLUX.1-dev, Wan2.2 A14B and Z-Image train and sample on a GPU that is not there.

What meets on two devices or in two types raises; what would make the CPU wait for the GPU, and the
bytes that live there, are counted.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from rehearsal import CASES, FEW, Rehearsal, rehearse

pytestmark = pytest.mark.slow
# Forwards of a step of the method with a source: a rollout, and three gradient passes, each of
# which computes its blocks again, but not what is outside of them.
WITH_SOURCE = FEW + 3
# diffusers makes two small masks in each of Z-Image's forwards with a source, and coefficients of
# UniPC; the tables of Z-Image's positions go to the GPU once.
MASKS, COEFFICIENTS, TABLES = 2, 3, 3


@pytest.fixture(scope="module", params=CASES)
def few(request: pytest.FixtureRequest) -> tuple[str, Rehearsal]:
    """A full step of two items, and a sampling, of networks with few blocks."""
    return request.param, rehearse(request.param, whole=False)


@pytest.fixture(scope="module", params=CASES)
def whole(request: pytest.FixtureRequest) -> Rehearsal:
    """An identity step of the whole networks."""
    return rehearse(request.param, whole=True)


def waits(found: Counter[str], *places: str) -> int:
    """How often there was a wait at these places, or anywhere."""
    return sum(n for where, n in found.items() if not places or any(p in where for p in places))


def test_a_step_waits_for_the_gpu_once(few: tuple[str, Rehearsal]) -> None:
    name, found = few
    own = waits(found.step) - waits(found.step, "/diffusers/", "swapper.py")
    assert own == waits(found.step, "microbatches.py") == 1, found.step
    items = 2
    most = items * WITH_SOURCE * MASKS + TABLES if name == "z_image" else 0
    assert waits(found.step, "/diffusers/") <= most, found.step


def test_a_sampling_never_waits_but_in_diffusers(few: tuple[str, Rehearsal]) -> None:
    name, found = few
    assert waits(found.sampling, "/byg_train/") == waits(found.sampling, "swapper.py")
    forwards = 2 * FEW  # with guidance
    most = {"flux": 0, "wan": COEFFICIENTS * FEW, "z_image": MASKS * forwards}[name]
    assert waits(found.sampling, "/diffusers/") <= most, found.sampling


def test_products_and_attention_are_of_16_bits(few: tuple[str, Rehearsal]) -> None:
    name, found = few
    # Wan embeds its times in float32, with two products; a forward has hundreds.
    assert found.products[torch.float32] <= (0.03 * found.products.total() if name == "wan" else 0)
    assert found.attention.keys() == {torch.bfloat16}
    assert found.experts == ({"high", "low"} if name == "wan" else {"transformer"})


def test_what_a_step_keeps_is_what_was_planned(whole: Rehearsal) -> None:
    assert whole.kept == pytest.approx(whole.planned.activations, rel=0.15)
    assert whole.peak == pytest.approx(whole.planned.step, rel=0.15)
    assert waits(whole.step) - waits(whole.step, "/diffusers/", "swapper.py") == 1, whole.step
