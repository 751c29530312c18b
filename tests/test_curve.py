"""The long runs' curves: what is measured once stays, and the table is of the last points."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from benchmarks import table4
from byg_train.config import ConfigError
from byg_train.world.demo import WHOLE
from byg_train.world.judge import Judge

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def curve() -> ModuleType:
    spec = importlib.util.spec_from_file_location("curve", ROOT / "benchmarks" / "curve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def point(steps: int, edit: float, keep: float, identity: float | None = None) -> dict:
    scores = {"edit": edit, "keep": keep, "joint": edit * keep}
    found = {"file": f"{steps}.safetensors", "lora": "a", "queries": 8, "steps": steps}
    labels = {"background": scores, "colour": {name: 0.0 for name in scores}}
    return found | {"scores": labels} | ({} if identity is None else {"identity": identity})


CURVES = {
    "full": {
        "0": [point(100, 0.2, 1, 0.1), point(200, 0.4, 1, 0.2)],
        "1": [point(200, 0.8, 1, 0.4)],
    },
    "flowedit": {"0": [point(0, 0.5, 0.8)]},
}


def test_the_table_has_every_row_at_its_last_step(curve: ModuleType) -> None:
    rows = [
        [cell.strip() for cell in line.split("|")] for line in curve.markdown(CURVES).split("\n")
    ]
    cells = {row[1]: row[2:-1] for row in rows if len(row) > 7}
    assert cells["ByG (full)"] == [
        "200", "2", "0.300 ± 0.100", "0.500 ± 0.000", "0.300 ± 0.100", "0.300 ± 0.100",
    ]  # fmt: skip
    assert cells["FlowEdit"] == ["-", "1", "0.250", "0.400", "0.200", "-"]
    assert "| ByG (full) |      0.600 |  0.000 |" in curve.markdown(CURVES)


def test_what_is_measured_is_not_measured_again(
    curve: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def methods(path: Path, judge: Judge) -> None:
        measured.append(path.name)
        raise InterruptedError

    digests = {"100.safetensors": "a", "200.safetensors": "a"}
    monkeypatch.setattr(curve, "Methods", methods)
    monkeypatch.setattr(curve, "digest", lambda path: digests.get(path.name, "c"))
    known = CURVES["full"]["0"]
    files = [Path("100.safetensors"), Path("200.safetensors")]
    assert curve.points(files, 8, known) == known and not measured
    assert curve.points(files[:1], 8, known) == known[:1]  # a shorter run's, after a longer one
    for more, queries in (([*files, Path("300.safetensors")], 8), (files, 9)):
        with pytest.raises(InterruptedError):
            curve.points(more, queries, known)
    assert measured == ["300.safetensors", "100.safetensors"]
    digests["200.safetensors"] = "b"  # another run's, under the same name
    with pytest.raises(InterruptedError):
        curve.points(files, 8, known)
    assert measured[2:] == ["200.safetensors"]


def test_baselines_are_measured_again_for_other_queries_or_another_world(
    curve: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def methods(*_: object, **__: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(curve, "Methods", methods)
    about = {"steps": 0, "queries": 8, "lora": curve.digest(curve.TINY.warmup), "scores": {}}
    known = {name: {"0": [about]} for name in curve.BASELINES}
    assert curve.baseline_points(0, 8, known=known) == {name: [about] for name in known}
    fewer = {name: seeds for name, seeds in known.items() if name != "copy"}
    other = {name: {"0": [about | {"lora": "another"}]} for name in known}
    for seed, queries, of in ((0, 9, known), (1, 8, known), (0, 8, fewer), (0, 8, other)):
        with pytest.raises(InterruptedError):
            curve.baseline_points(seed, queries, known=of)


def test_json_table_and_picture_hold_what_is_known_so_far(
    curve: ModuleType, tmp_path: Path
) -> None:
    assert curve.read(tmp_path / "out") == {}
    curve.write(CURVES, tmp_path / "out")
    assert curve.read(tmp_path / "out") == CURVES
    about = json.loads((tmp_path / "out.json").read_text())
    assert about["command"] and about["machine"] and about["dtype"] in ("bfloat16", "float32")
    assert (tmp_path / "out.md").read_text() == curve.markdown(CURVES)
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_a_file_that_holds_no_curves_is_said_to_hold_none(
    curve: ModuleType, tmp_path: Path
) -> None:
    for content in ("{", "{}", "[]"):
        (tmp_path / "out.json").write_text(content)
        with pytest.raises(ConfigError, match="holds no curves"):
            curve.read(tmp_path / "out")


def test_a_row_is_trained_as_the_study_has_it(curve: ModuleType, tmp_path: Path) -> None:
    config = curve.settings(
        "no-cycle", tmp_path, 3, 900, 300, ["method.lambda_cycle=9", "lora.rank=8"]
    )
    assert (config.method.lambda_cycle, config.lora.rank, config.seed) == (0, 8, 3)
    assert (config.train.steps, config.train.checkpoint_every) == (900, 300)
    assert curve.settings("supervised", tmp_path, 0, 9, 3).method.objective == "supervised"


def test_the_wide_world_has_its_base_and_warmup_in_a_folder(
    curve: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="base is missing: docs/tiny-world.md"):
        curve.wide_world(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "warmup.safetensors").touch()
    world = curve.wide_world(tmp_path)
    config = curve.settings("full", tmp_path, 0, 9, 3, world.assignments)
    assert config.model.path == str(tmp_path / "base")
    assert config.warmup.lora == str(world.warmup) == str(tmp_path / "warmup.safetensors")
    curve.equally_shared(world.demo).prepare(tmp_path / "data", items=70)
    told = (tmp_path / "data" / "metadata.jsonl").read_text()
    assert " animal " in told or " food " in told


def test_the_committed_curve_can_be_read(curve: ModuleType) -> None:
    rows = json.loads((ROOT / "docs" / "curve.json").read_text())["rows"]
    assert "6000" in curve.markdown(rows)


def test_shares_may_be_equal(curve: ModuleType, tmp_path: Path) -> None:
    curve.equally_shared(WHOLE["demo"]).prepare(tmp_path / "data", items=35)
    rows = [json.loads(line) for line in (tmp_path / "data" / "metadata.jsonl").open()]
    counts = Counter(row["edit_type"] for row in rows if row["split"] == "train")
    assert counts == {
        "style": 10,
        **dict.fromkeys(("background", "colour", "add", "remove", "replace"), 5),
    }


def test_table_4_is_drawn_seed_by_seed_less_the_full_method(tmp_path: Path) -> None:
    """A seed that only one of both has is not compared."""
    rows = {"no-cycle": {"1": [point(200, 0.6, 0.9)], "2": [point(200, 1, 1)]}}
    found = table4.less_full(CURVES | rows, "no-cycle", "edit")
    assert (found.mean, found.n) == (pytest.approx(-0.1), 1)  # the second type of edit has 0
    assert table4.less_full(CURVES, "no-routing", "keep").n == 0
    shorter = {"no-cycle": {"1": [point(100, 0.6, 0.9)]}}
    assert table4.less_full(CURVES | shorter, "no-cycle", "edit").n == 0
    table4.draw([CURVES | rows, CURVES], tmp_path / "table4.png")
    with Image.open(tmp_path / "table4.png") as drawn:
        assert drawn.width > 1000 and len(drawn.convert("RGB").getcolors(1 << 20)) > 50
