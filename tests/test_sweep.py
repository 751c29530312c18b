"""The sweep over options: its order, its time, its rows, which are written one by one."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        spec = importlib.util.spec_from_file_location("sweep", FOLDER / "sweep.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "sweep", module)
        spec.loader.exec_module(module)
    return module


def test_no_row_is_begun_that_would_not_be_done(
    sweep: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def measured(point: float) -> tuple[str, ...]:
        now[0] += point
        return (f"{point}",)

    rows = list(sweep.sweep([10.0, 30.0, 5.0, 20.0, 1.0], measured, 70))
    assert rows == [("10.0",), ("30.0",), ("5.0",)]  # 40 + 30 is just in time, 45 + 30 is not
    now[0] = 0
    assert len(list(sweep.sweep([10.0] * 9, measured, 55))) == 5


def test_rows_join_their_table_and_leave_the_rest(sweep: ModuleType, tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("# Performance\n\nMore.\n")
    for row in (("a",) * 7, ("b",) * 7):
        sweep.append(document, row, "Some GPU")
    text = document.read_text()
    assert text.startswith("# Performance\n\nMore.\n\n## Options at full size on a GPU\n\nSome GPU")
    assert text.count(sweep.TITLE) == 1 and text.count("---") == 7
    assert text.endswith("| a | a | a | a | a | a | a |\n| b | b | b | b | b | b | b |\n")


@pytest.mark.slow
def test_its_path_runs_with_tiny_networks(
    sweep: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sweep.main([]) == 2
    document = tmp_path / "performance.md"
    assert sweep.main(["--tiny", "--rows", "2", "--output", str(document)]) == 0
    rows = [line for line in document.read_text().splitlines() if "FLUX.1-dev" in line]
    assert ["as in the preset" in row for row in rows] == [True, False]
    assert "model.storage=fp8" in rows[1] and "fit" not in rows[1]
