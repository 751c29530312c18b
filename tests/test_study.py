"""The user study: what is compared, who is asked what, and votes that last."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from study_folders import items_of, make_folders, picture

from byg_train.data import DataError
from byg_train.evaluate.tasks import short_names
from byg_train.study.ballot import Ballot, rater_name
from byg_train.study.items import find_items
from byg_train.study.votes import VoteFile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_folders(tmp_path)
    return tmp_path


def ballot_of(root: Path, per_rater: int | None = None) -> Ballot:
    items = items_of(root)
    return Ballot(items, VoteFile.begin(root / "v.sqlite", ("first", "second"), items), per_rater)


def manifest(root: Path, *rows: dict[str, Any]) -> None:
    path = root / "sources" / "metadata.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))


# ---------------------------------------------------------------- what is compared


def test_items_pair_files_of_the_same_name(root: Path) -> None:
    shutil.move(root / "second/pictures/0.png", root / "second/pictures/0.PNG")
    picture(root / "first/.thumbs/0.png", (0, 0, 0))
    (root / "first/notes.txt").write_text("not a picture")
    items = items_of(root)
    assert [item.name for item in items] == [f"pictures/{i}" for i in range(4)]
    assert items[0].b.name == "0.PNG"
    assert items[1].source == root / "sources/pictures/1.png"
    assert items[1].instruction == "Make number 1 <b>nicer</b>"
    assert {item.group for item in items} == {"picture"}


def test_several_edits_of_one_source_have_results_of_their_own(root: Path) -> None:
    manifest(
        root,
        *({"file_name": f"pictures/{i}.png", "instruction": "A"} for i in range(3)),
        {"file_name": "pictures/0.png", "instruction": "B", "result": "pictures/3"},
    )
    items = items_of(root)
    assert (items[3].instruction, items[3].source.name) == ("B", "0.png")
    assert len({item.digest() for item in items}) == 4


def test_one_instruction_for_all(root: Path) -> None:
    (root / "sources/metadata.jsonl").unlink()
    items = items_of(root, "Turn it into a photo")
    assert {item.instruction for item in items} == {"Turn it into a photo"}
    with pytest.raises(DataError, match="has no metadata.jsonl"):
        items_of(root)


def test_everything_that_does_not_fit_is_listed(root: Path) -> None:
    (root / "first/pictures/0.png").unlink()
    picture(root / "first/pictures/2.webp", (0, 0, 0))
    picture(root / "first/extra.png", (0, 0, 0))
    picture(root / "second/extra.png", (0, 0, 0))
    manifest(
        root,
        {"file_name": "pictures/1.png", "instruction": "A"},
        {"file_name": "pictures/1.png", "instruction": "B"},
        {"file_name": "pictures/2.png", "instruction": " "},
        {"file_name": "../secret.png", "instruction": "A"},
        {"file_name": "/etc/passwd.png", "instruction": "A"},
        {"file_name": "C:\\secret.png", "instruction": "A"},
        {"file_name": "pictures/9.png", "instruction": "A"},
    )
    with pytest.raises(DataError) as caught:
        items_of(root)
    lines = str(caught.value).splitlines()
    assert "cannot be compared" in lines[0]
    for wanted in (
        "pictures/0: only in",
        "pictures/2: 2.png and 2.webp in",
        "metadata.jsonl:2: a second edit with results named pictures/1",
        "metadata.jsonl:3: no file_name or no instruction",
        "metadata.jsonl:4: file_name '../secret.png' leads out",
        "metadata.jsonl:5: file_name '/etc/passwd.png' leads out",
        "metadata.jsonl:6: file_name 'C:\\\\secret.png' leads out",
        "metadata.jsonl:7: no file pictures/9.png",
        "pictures/3: not among the edits",
        "extra: not among the edits",
    ):
        assert any(wanted in line for line in lines), wanted


def test_empty_folders_are_no_study(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    picture(tmp_path / "sources/a.png", (0, 0, 0))
    with pytest.raises(DataError, match="no png, jpg"):
        items_of(tmp_path, "A")
    with pytest.raises(DataError, match="third is not a folder"):
        find_items(tmp_path / "first", tmp_path / "third", tmp_path / "sources", "A")


def test_names_of_methods_tell_them_apart() -> None:
    for a, b, names in (
        ("/r/byg", "/r/flow", ["byg", "flow"]),
        ("/r/byg/out", "/r/flow/out", ["byg/out", "flow/out"]),
    ):
        assert list(short_names([Path(a), Path(b)]).values()) == names


# ---------------------------------------------------------------- votes that last


def test_a_study_goes_on_with_its_votes(root: Path) -> None:
    ballot = ballot_of(root)
    question = ballot.next("ann")
    ballot.vote("ann", question.id, "left", 2.5)
    again = ballot_of(root)
    assert again.done("ann") == 1
    assert again.votes.study == ballot.votes.study
    assert question.id not in {q.id for q in answer_all(again, "ann")}
    assert Counter(again.votes.counts().values()) == {1: 4}


def answer_all(ballot: Ballot, rater: str, side: str = "left") -> list:
    questions = []
    while question := ballot.next(rater):
        questions.append(question)
        ballot.vote(rater, question.id, side, 1.0)
    return questions


def test_other_contents_under_the_same_names_are_another_study(root: Path) -> None:
    ballot_of(root)
    with pytest.raises(DataError, match="first .A. against second .B.") as caught:
        swapped = find_items(root / "second", root / "first", root / "sources", None)
        VoteFile.begin(root / "v.sqlite", ("second", "first"), swapped)
    assert len(caught.value.problems) == 4
    picture(root / "first/pictures/2.png", (1, 2, 3))
    with pytest.raises(DataError) as caught:
        ballot_of(root)
    assert [problem.where for problem in caught.value.problems] == ["pictures/2"]


def test_items_may_be_added_to_a_study(root: Path) -> None:
    answer_all(ballot_of(root), "ann")
    make_folders(root, pictures=6)
    ballot = ballot_of(root)
    assert (ballot.done("ann"), ballot.quota) == (4, 6)
    assert len(answer_all(ballot, "ann")) == 2


def test_folders_may_move(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    answer_all(ballot_of(root), "ann")
    elsewhere = tmp_path_factory.mktemp("moved") / "there"
    shutil.move(root, elsewhere)
    assert ballot_of(elsewhere).next("ann") is None


def test_what_is_no_file_of_votes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file of votes"):
        VoteFile(tmp_path / "none")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 9)
    (tmp_path / "empty").touch()
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE t (x)").connection.commit()
    for name in ("text", "empty", "other"):
        with pytest.raises(DataError, match="is not a study's file of votes"):
            VoteFile(tmp_path / name)


def test_threads_vote_at_once(root: Path) -> None:
    ballot = ballot_of(root)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: answer_all(ballot, f"rater {i}"), range(8)))
    assert set(ballot.votes.counts().values()) == {8}


# ---------------------------------------------------------------- who is asked what


def test_sides_and_order_are_drawn_for_every_rater(tmp_path: Path) -> None:
    make_folders(tmp_path, pictures=24)
    ballot, seen, orders = ballot_of(tmp_path), [], []
    for rater in (f"rater {i}" for i in range(6)):
        questions = answer_all(ballot, rater)
        orders.append([question.id for question in questions])
        left = {q.id: ballot.file(rater, q.id, "left").parts[-3] for q in questions}
        seen.append([left[id_] for id_ in sorted(left)])
        for q in questions:
            files = {slot: ballot.file(rater, q.id, slot) for slot in ("source", "left", "right")}
            assert {path.parts[-3] for path in files.values()} == {"sources", "first", "second"}
            assert len({path.name for path in files.values()}) == 1
    share = Counter(method for sides in seen for method in sides)["first"] / 144
    assert 0.4 < share < 0.6
    assert len({tuple(sides) for sides in seen}) == 6  # not the same for two raters
    assert len({tuple(order) for order in orders}) == 6
    by_item = list(zip(*seen, strict=True))
    assert sum(len(set(sides)) == 2 for sides in by_item) > 18  # nor for an item


def test_a_vote_is_for_the_method_that_stood_there(root: Path) -> None:
    ballot = ballot_of(root)
    for rater, side in (("ann", "left"), ("ben", "right")):
        answer_all(ballot, rater, side)
    for vote in ballot.votes.all():
        id_ = ballot._ids[vote.item]
        side = "left" if vote.rater == "ann" else "right"
        shown = ballot.file(vote.rater, id_, side).parts[-3]
        assert shown == {"a": "first", "b": "second"}[vote.won]
        assert (vote.won == vote.on_left) == (side == "left")
        assert vote.group == "picture"


def test_the_least_seen_items_come_first(tmp_path: Path) -> None:
    """119 items, raters of 30 each: nobody needs to plan who sees what."""
    make_folders(tmp_path, pictures=10)
    ballot = ballot_of(tmp_path, per_rater=5)
    for rater in "abcd":
        assert len(answer_all(ballot, rater)) == 5
        assert ballot.next(rater) is None
    assert set(ballot.votes.counts().values()) == {2}
    spare = next(id_ for id_ in ballot._names if ballot._names[id_] not in ballot.votes.by("a"))
    with pytest.raises(ValueError, match="answered everything"):
        ballot.vote("a", spare, "left", 1)


def test_a_vote_may_be_changed_by_going_back(root: Path) -> None:
    ballot = ballot_of(root)
    first, second = ballot.next("ann"), None
    assert (first.previous, first.chosen) == (None, None)
    ballot.vote("ann", first.id, "left", 1)
    second = ballot.next("ann")
    assert second.previous == first.id
    ballot.vote("ann", second.id, "right", 1)
    assert ballot.last("ann") == second.id
    back = ballot.again("ann", second.id)
    assert (back.chosen, back.previous) == ("right", first.id)
    assert ballot.again("ann", first.id).previous is None
    before = [vote.won for vote in ballot.votes.all()]
    ballot.vote("ann", first.id, "right", 1)
    assert len(ballot.votes.all()) == 2
    changed = {vote.item: vote.won for vote in ballot.votes.all()}
    assert changed[ballot._names[first.id]] != before[0]
    assert ballot.again("ben", first.id) is None


def test_raters_are_the_same_person_on_phone_and_desk() -> None:
    assert rater_name("  Ann  Lee ") == rater_name("ann lee")
    for bad in ("", "   ", "x" * 41, "a\x00b"):
        with pytest.raises(ValueError, match="wanted a name"):
            rater_name(bad)
