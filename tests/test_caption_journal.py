"""The journal: nothing that was stored is lost, however the process ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from byg_train.data import DataError
from byg_train.data.vlm.journal import Journal


def entry(name: str, **more: Any) -> dict[str, Any]:
    told = {"result": {"caption": f"{name} ü"}} if "problem" not in more else {}
    return {"file_name": name, "size": 5, "step": "edit", "model": "m", **told,
            "tokens": [7, 3], "answer": "...", **more}  # fmt: skip


def read(root: Path) -> Journal:
    journal = Journal(root)
    journal.read()
    return journal


def test_what_was_stored_is_known_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(entry("a"))
        journal.append(entry("b", problem="it is empty"))
        journal.append(entry("b", problem="it is late"))
    with Journal(tmp_path) as journal:
        assert journal.known("a", 5).results == {"edit": {"caption": "a ü"}}
        b = journal.known("b", 5)
        assert (b.results, b.tries["edit", "m"], b.problem) == ({}, 2, "it is late")
        assert b.tries["edit", "other"] == 0
        assert journal.tokens == {"asked": 21, "answered": 9}
        assert (journal.holds("a"), journal.holds("c")) == (True, False)


def test_a_file_of_another_size_is_another_file(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(entry("a"))
        assert journal.known("a", 6).results == {}


def test_a_line_torn_anywhere_costs_that_line_alone(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for name in "ab":
            journal.append(entry(name))
        whole = journal.path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        journal.path.write_bytes(whole[:end])
        with Journal(tmp_path) as torn:
            known_b = bool(torn.known("b", 5).results)
            # The last line counts as soon as all of its JSON is there.
            assert known_b == (end == len(whole) - 1)
            assert torn.known("a", 5).results
            torn.append(entry("c"))
        again = read(tmp_path)
        assert again.known("a", 5).results
        assert again.known("c", 5).results
        assert again.torn == (first < end < len(whole) - 1)


def test_zeros_that_a_power_cut_left_are_skipped(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(entry("a"))
    with journal.path.open("ab") as file:
        file.write(b"\0" * 50 + b"\n17\n[]\n{}\n\n")
    with Journal(tmp_path) as journal:
        assert journal.known("a", 5).results
        assert journal.torn == 4


def test_two_processes_do_not_caption_one_folder(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(DataError, match="captioned by another process"):
        Journal(tmp_path).__enter__()
    with Journal(tmp_path):
        pass


def test_an_answer_is_on_disk_before_it_counts(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(entry("a"))
        (line,) = journal.path.read_text(encoding="utf-8").splitlines()
        assert json.loads(line) == entry("a")
