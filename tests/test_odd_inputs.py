"""A sample of the odd inputs of benchmarks/odd: a right result, or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.odd.case import Case, verdict
from benchmarks.odd_inputs import KINDS, cases

EVERY = 8  # of the cases of a kind; python -m benchmarks.odd_inputs tries all
SAMPLE = [(kind, case) for kind in KINDS for case in cases(kind)[::EVERY]]


@pytest.mark.parametrize(("kind", "case"), SAMPLE, ids=[f"{k}: {c.name}" for k, c in SAMPLE])
def test_an_odd_input_has_its_outcome(kind: str, case: Case, tmp_path: Path) -> None:
    assert verdict(case, tmp_path) is None


def test_there_are_many() -> None:
    assert sum(len(cases(kind)) for kind in KINDS) > 100
