"""`data check --fix`: what is mechanical is repaired, and no line is lost."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from cli_runs import byg
from data_sets import TEXTS, row, save
from hypothesis import given, settings
from hypothesis import strategies as st

from byg_train.data.repair import repair


def test_repair_does_what_is_mechanical_and_keeps_the_rest(tmp_path: Path) -> None:
    save(tmp_path / "sub" / "a.png")
    broken, good = '{"file_name": "a.png",  ', json.dumps(row("sub/a.png", extra=[1]), indent=None)
    absolute = str((tmp_path / "sub" / "a.png").resolve())
    before = "\n".join(
        [
            good,
            broken,
            json.dumps(row("sub\\a.png", instruction="  Add a\n hat ", split="Validation")),
            json.dumps(row(absolute, instruction="Add a cafe\u0301", repeats="3")),
            json.dumps(row("./sub/a.png", edit_type=" Color ")),
            json.dumps(row("../a.png", instruction="Add a bus")),
        ]
    )
    (tmp_path / "metadata.jsonl").write_text(before, encoding="utf-8")
    result = byg("data", "check", tmp_path, "--fix")
    assert "removed: the same tuple again: 1" in result.stderr
    assert (tmp_path / "metadata.jsonl.bak").read_text(encoding="utf-8") == before
    lines = (tmp_path / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == [good, broken]
    hat, cafe, bus = (json.loads(line) for line in lines[2:])
    assert (hat["file_name"], hat["instruction"], hat["split"]) == (
        "sub/a.png",
        "Add a hat",
        "test",
    )
    assert (cafe["file_name"], cafe["instruction"], cafe["repeats"]) == (
        "sub/a.png",
        "Add a caf\u00e9",
        3,
    )
    assert bus["file_name"] == "../a.png"  # where that leads is no matter of spelling


values = st.one_of(st.text(max_size=12), st.integers(), st.none(), st.just(" a  b "))


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.dictionaries(
                st.sampled_from(["file_name", *TEXTS, "split", "repeats", "edit_type", "x"]), values
            ).map(json.dumps),
            st.text(string.printable, max_size=20).map(lambda s: s.replace("\n", " ")),
        )
    )
)
def test_repair_loses_no_line_and_is_done_after_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("repair") / "metadata.jsonl"
    path.write_bytes("\n".join(lines).encode())
    done = repair(path)
    after = [line for line in path.read_bytes().decode().split("\n") if line.strip()]
    removed = done["removed: the same tuple again"]
    assert len(after) == len([line for line in lines if line.strip()]) - removed
    assert not repair(path)


@pytest.mark.parametrize("name", ["metadata.csv", None])
def test_repair_asks_for_a_manifest(tmp_path: Path, name: str | None) -> None:
    save(tmp_path / "x" / "a.png")
    if name:
        (tmp_path / name).write_text("file_name\n")
    result = byg("data", "check", tmp_path, "--fix")
    assert result.exit_code == 2 and "metadata.jsonl" in result.stderr
