"""The study of four-step editors: what its rows train, and its table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.few_steps_study import CLIPS_BYG, FEW, MANY, ROWS, collected, markdown, settings

BYG = Path("byg.safetensors")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_trains_what_its_title_says(name: str) -> None:
    row = ROWS[name]
    init = CLIPS_BYG if row.of_clips else BYG
    config = settings(row, Path("data"), 3, 7, init, ())
    w, is_student = config.method, name not in ("byg", "byg-clips")
    assert (w.objective == "npedit") == (config.sample.sampler == "renoise") == is_student
    assert config.seed == 3 and config.train.steps == (7 if name != "byg" else 280)
    assert (config.warmup.lora == str(init)) == row.from_byg
    if is_student:
        distils = name.startswith("dmd")
        assert (w.critic_weight > 0) == (not distils and not name.startswith("only-dmd"))
        assert (w.dmd_weight > 0) == (name != "only-critic")
        assert w.sees_source == distils
        assert w.identity_question == (name != "no-identity")
        assert (config.warmup.lora is None) == (name == "no-warmup")


def test_the_table_has_means_over_types_then_over_seeds(tmp_path: Path) -> None:
    for seed, joint in ((0, 0.1), (1, 0.3)):
        scores = {
            "colour": {"edit": 1.0, "keep": 0.5, "joint": 0.0},
            "add": {"edit": 0.0, "keep": 0.5, "joint": 2 * joint},
        }
        run = tmp_path / f"byg-seed{seed}"
        run.mkdir()
        found = {MANY: {"scores": scores}, FEW: {"scores": scores}}
        (run / "few_steps.json").write_text(json.dumps(found))
    (tmp_path / "npedit-seed0").mkdir()  # not scored yet
    lines = markdown(collected(argparse.Namespace(runs=tmp_path))).splitlines()
    assert len(lines) == 4
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["ByG", "euler, 20", "2", "0.500 ± 0.000", "0.500 ± 0.000", "0.200 ± 0.100"]
