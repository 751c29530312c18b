"""The benchmark of full sizes: its path with tiny networks, and what it says without CUDA."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

NAMES = ["Wan2.2 T2V-A14B", "FLUX.1-dev", "FLUX.1-dev", "Z-Image"]
PATH = Path(__file__).parents[1] / "benchmarks" / "full_size.py"


@pytest.fixture(scope="module")
def full_size() -> ModuleType:
    spec = importlib.util.spec_from_file_location("full_size", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_its_path_runs_with_tiny_networks(
    full_size: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    assert full_size.main(["--tiny"]) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert "python benchmarks/full_size.py --tiny" in first
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows[2:]] == NAMES
    assert {len(row) for row in rows} == {len(full_size.HEADS)}
    # Two frames of 4 x 2 tokens and their source; 256 of text beside FLUX's 4 x 2 and their source;
    # for Z-Image in whole blocks of 32, with one in place of the source's text.
    assert [row[2] for row in rows[2:]] == ["32", "272", "272", "352"]
    for row in rows[2:]:
        forward, supervised, full = (float(re.fullmatch(r"(\S+) s", row[i])[1]) for i in (3, 4, 5))
        assert full > supervised > 0 and full > forward > 0
    assert [row[-1] for row in rows[2:]] == ["2", "0", "0", "0"]  # to the low expert, and back


def test_full_sizes_are_those_of_the_paper(full_size: ModuleType) -> None:
    sizes = [(case.height, case.width, case.frames) for case in full_size.chosen(None, False)]
    assert sizes == [(320, 576, 81), (512, 512, 1), (1024, 1024, 1), (512, 512, 1)]
    assert [case.name for case in full_size.chosen("wan", False)] == ["Wan2.2 T2V-A14B"]


def test_without_cuda_it_says_so(
    full_size: ModuleType, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert full_size.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "no CUDA device" in said.err and len(said.err.splitlines()) == 1
