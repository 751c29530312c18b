"""The user study: what is compared, who is asked what, votes that last, and the page over HTTP."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from study_folders import make_folders, picture, served
from typer.testing import CliRunner

from byg_train.cli import app
from byg_train.commands import study as study_module
from byg_train.commands.study import short_names
from byg_train.data import DataError
from byg_train.study.ballot import Ballot, rater_name
from byg_train.study.items import find_items
from byg_train.study.server import StudyServer
from byg_train.study.votes import VoteFile

ROOT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_folders(tmp_path)
    return tmp_path


def items_of(root: Path, instruction: str | None = None) -> list:
    return find_items(root / "first", root / "second", root / "sources", instruction)


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
    with pytest.raises(DataError, match="has no metadata.jsonl.*or pass --instruction"):
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
    assert short_names(Path("/r/byg"), Path("/r/flow")) == ("byg", "flow")
    assert short_names(Path("/r/byg/out"), Path("/r/flow/out")) == ("byg/out", "flow/out")


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
    with pytest.raises(DataError, match="first .A. against second .B.*--votes") as caught:
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


# ---------------------------------------------------------------- over HTTP


class Browser:
    """One connection to a study's server."""

    def __init__(self, server: StudyServer) -> None:
        self.base = urlsplit(server.address)
        self.connection = http.client.HTTPConnection(self.base.netloc, timeout=60)

    def ask(
        self,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        whole: bool = False,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        method = "GET" if body is None else "POST"
        sent = {"Content-Type": "application/json"} if body is not None else {}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        url = path if whole else self.base.path + path
        self.connection.request(method, url, data, {**sent, **(headers or {})})
        response = self.connection.getresponse()
        return response, response.read()

    def json(self, path: str, body: Any = None) -> dict[str, Any]:
        response, data = self.ask(path, body)
        assert response.status == 200, data
        return json.loads(data)

    def status(self, path: str, body: Any = None, **more: Any) -> int:
        return self.ask(path, body, **more)[0].status


def test_a_rater_goes_through_the_study(root: Path) -> None:
    with served(root) as server:
        browser, votes = Browser(server), server.ballot.votes
        told = browser.json("api/next?rater=Ann")
        for done in range(4):
            item = told["item"]
            assert (told["done"], told["total"], told["ask"]) == (done, 4, "Which one is better?")
            assert item["media"] == {"source": "image", "left": "image", "right": "image"}
            for slot in ("source", "left", "right"):
                response, data = browser.ask(f"media/{item['id']}/{slot}?rater=Ann")
                assert response.headers["Content-Type"] == "image/png"
                assert data == server.ballot.file("ann", item["id"], slot).read_bytes()
            vote = {"rater": "Ann", "item": item["id"], "side": "left", "seconds": 1.5}
            told = browser.json("api/vote", vote)
        assert (told["item"], told["done"], told["previous"]) == (None, 4, item["id"])
        back = browser.json(f"api/again?rater=ann&item={item['id']}")
        assert back["item"]["chosen"] == "left"
        assert [vote.rater for vote in votes.all()] == ["ann"] * 4
        assert {vote.seconds for vote in votes.all()} == {1.5}


def test_nothing_tells_the_methods_apart(root: Path) -> None:
    with served(root) as server:
        browser = Browser(server)
        response, data = browser.ask("api/next?rater=ann")
        item = json.loads(data)["item"]
        heads = str(response.headers)
        for slot in ("left", "right"):
            response, _ = browser.ask(f"media/{item['id']}/{slot}?rater=ann")
            heads += str(response.headers)
        for word in ("first", "second", '"a"', '"b"', "pictures"):
            assert word not in data.decode()
            assert word not in heads
        page = b"".join(browser.ask(name)[1] for name in ("", "page.js", "page.css"))
        assert b"first" not in page.replace(b"first-child", b"")


def test_the_page_comes_with_its_rules(root: Path) -> None:
    with served(root) as server:
        browser = Browser(server)
        for name, kind in (("", "html"), ("page.css", "css"), ("page.js", "javascript")):
            response, data = browser.ask(name)
            assert response.status == 200
            assert kind in response.headers["Content-Type"]
            assert len(data) > 1000
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "media/{id}/left/../../../../etc/passwd?rater=ann",
        "media/..%2f..%2fetc%2fpasswd/left?rater=ann",
        "media/{id}/..%2f..%2fvotes.sqlite?rater=ann",
        "media/{id}/a?rater=ann",
        "media/0/left?rater=ann",
        "../votes.sqlite",
        "page.html",
        "server.py",
        "api/vote?rater=ann",
        "api/again?rater=ann&item={id}",
        "api/again?rater=ann",
    ],
)
def test_only_the_studys_own_files_are_served(root: Path, path: str) -> None:
    with served(root) as server:
        browser = Browser(server)
        id_ = browser.json("api/next?rater=ann")["item"]["id"]
        response, data = browser.ask(path.format(id=id_))
        assert response.status in (400, 404), data
        assert b"root:" not in data
        assert b"SQLite" not in data


def test_whoever_does_not_know_the_address_sees_nothing(root: Path) -> None:
    with served(root) as server:
        browser, token = Browser(server), server.token
        for path in ("/", "/other/", f"/{token[:-1]}/", f"/{token}x/", "/api/next?rater=ann"):
            assert browser.status(path, whole=True) == 404
        for path in ("//", "*", "x", "//[", "http://[/", "/\xe9/", f"/{token}"):
            with socket.create_connection(server.server_address, timeout=60) as raw:
                raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
                assert raw.recv(99).split()[1] in (b"400", b"404"), path
        assert browser.status("", headers={"Host": "evil.example:80"}) == 404
        for host in ("localhost", "127.0.0.1:99", "[::1]:80"):
            assert browser.status("", headers={"Host": host}) == 200


def test_votes_that_are_none(root: Path) -> None:
    with served(root) as server:
        browser = Browser(server)
        id_ = browser.json("api/next?rater=ann")["item"]["id"]
        good = {"rater": "ann", "item": id_, "side": "left", "seconds": 1}
        for change in (
            {"rater": " "}, {"rater": 7}, {"item": "nothing"}, {"item": None}, {"side": "a"},
            {"seconds": "soon"}, {"seconds": -1}, {"seconds": float("nan")}, {"seconds": None},
        ):  # fmt: skip
            assert browser.status("api/vote", {**good, **change}) == 400, change
        for body in (b"", b"[]", b"{", b"null", b"\xff"):
            assert browser.status("api/vote", body) == 400, body
        assert browser.status("api/next", good) == 404
        # What a form of another site could send:
        plain = json.dumps(good).encode()
        assert browser.status("api/vote", plain, headers={"Content-Type": "text/plain"}) == 415
        assert browser.status("api/vote", b" " * 5000) == 413
        browser = Browser(server)  # which closed the connection
        endless = {"Content-Type": "application/json", "Content-Length": "9" * 5000}
        assert browser.status("api/vote", b"", headers=endless) == 413
        assert Browser(server).status("api/next?rater=") == 400
        assert server.ballot.votes.all() == []
        assert Browser(server).status("api/vote", good) == 200


def test_a_vote_longer_than_an_hour_was_a_break(root: Path) -> None:
    with served(root) as server:
        browser = Browser(server)
        id_ = browser.json("api/next?rater=ann")["item"]["id"]
        body = {"rater": "ann", "item": id_, "side": "left", "seconds": 1e9}
        assert browser.status("api/vote", body) == 200
        assert server.ballot.votes.all()[0].seconds == 3600


@pytest.mark.parametrize(
    ("header", "status", "piece"),
    [
        ("bytes=0-1", 206, slice(0, 2)),
        ("bytes=0-", 206, slice(0, None)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=5-5", 206, slice(5, 6)),
        ("bytes=20-99999", 206, slice(20, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=99999-", 416, None),
        ("bytes=5-2", 416, None),
        ("bytes=-0", 416, None),
        pytest.param("bytes=" + "9" * 5000 + "-", 200, slice(None), id="bytes=999...-"),
    ],
)
def test_ranges_as_phones_ask_for_them(
    root: Path, header: str, status: int, piece: slice | None
) -> None:
    with served(root) as server:
        browser = Browser(server)
        id_ = browser.json("api/next?rater=ann")["item"]["id"]
        whole = server.ballot.file("ann", id_, "source").read_bytes()
        path = f"media/{id_}/source?rater=ann"
        response, data = browser.ask(path, headers={"Range": header})
        assert response.status == status
        if piece is not None:
            assert data == whole[piece]
            assert response.headers["Accept-Ranges"] == "bytes"
        if status == 206:
            first = range(len(whole))[piece][0]
            wanted = f"bytes {first}-{first + len(data) - 1}/{len(whole)}"
            assert response.headers["Content-Range"] == wanted
        assert browser.ask(path)[1] == whole  # the connection goes on


def test_a_result_that_vanished(root: Path) -> None:
    with served(root) as server:
        browser = Browser(server)
        id_ = browser.json("api/next?rater=ann")["item"]["id"]
        server.ballot.file("ann", id_, "left").unlink()
        assert browser.status(f"media/{id_}/left?rater=ann") == 404


def test_votes_that_cannot_be_written_are_told(root: Path) -> None:
    with served(root) as server:
        browser = Browser(server)
        id_ = browser.json("api/next?rater=ann")["item"]["id"]
        (root / "votes.sqlite").write_bytes(b"broken" * 1000)
        body = {"rater": "ann", "item": id_, "side": "left", "seconds": 1}
        response, data = browser.ask("api/vote", body)
        assert response.status == 500
        assert "the votes cannot be" in json.loads(data)["error"]


# ---------------------------------------------------------------- the command


def byg(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr, result.stderr


def test_mistakes_are_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    where = ("--sources", root / "sources")
    refused(byg("study", "first", "second"), "--sources is missing")
    refused(byg("study", "first", *where), "two folders", "report")
    refused(byg("study", "first", "first", *where), "compared with itself")
    refused(byg("study", "first", "second", *where, "--per-rater", 0), "--per-rater 0")
    refused(byg("study", "first", "second", *where, "--instruction", " "), "--instruction is empty")
    refused(byg("study", "first", "none", *where), "none is not a folder")
    refused(byg("study", "report"), "no file of votes study.sqlite")
    refused(byg("study", "first", "second", *where, "--port", 99999), "--port 99999")
    refused(byg("study", "report"), "holds no votes yet")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(byg("study", "first", "second", *where, "--port", port), f"--port {port}")


def start(root: Path, *more: str) -> tuple[subprocess.Popen[str], str, list[str]]:
    """The command in a process of its own: (process, address, what it said)."""
    command = [sys.executable, "-u", "-m", "byg_train", "study", root / "first", root / "second"]
    command += ["--sources", root / "sources", "--votes", root / "s.sqlite", "--port", "0", *more]
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    said = [process.stdout.readline() for _ in range(3)]
    return process, said[1].strip(), said


def test_the_command_serves_resumes_and_reports(root: Path) -> None:
    for rater, wins in (("ann", 2), ("ben", 3)):
        process, address, said = start(root, "--per-rater", "3")
        try:
            assert "4 comparisons of first (A) and second (B), 3 for each rater" in said[0]
            assert address.startswith("http://127.0.0.1:")
            base = urlsplit(address)
            connection = http.client.HTTPConnection(base.netloc, timeout=60)
            for done in range(3):
                connection.request("GET", f"{base.path}api/next?rater={rater}")
                item = json.loads(connection.getresponse().read())["item"]
                connection.request("GET", f"{base.path}media/{item['id']}/left?rater={rater}")
                left = connection.getresponse().read()
                a_left = left in [p.read_bytes() for p in (root / "first").rglob("*.png")]
                side = "left" if a_left == (done < wins) else "right"
                body = {"rater": rater, "item": item["id"], "side": side, "seconds": 2}
                head = {"Content-Type": "application/json"}
                connection.request("POST", f"{base.path}api/vote", json.dumps(body), head)
                assert connection.getresponse().read()
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0
        assert f"{3 if rater == 'ann' else 6} votes in" in rest
    told = byg("study", "report", "--votes", root / "s.sqlite")
    assert told.exit_code == 0, told.output
    text = " ".join(told.output.split())
    assert "A = first B = second" in text
    assert "A wins 5 of 6 votes, 83.3%; mean of 2 raters 83.3% ± 16.7% (SEM)" in text
    assert "p = 0.22 (two-sided binomial), 0.11 (one-sided)" in text
    for row in ("all │ 6 │ 83.3%", "picture │ 6 │ 83.3%", "ann │ 3 │ 66.7%", "ben │ 3 │ 100.0%"):
        assert row in text, text
    assert "Asked: 4 of 4 items" in text
    assert "median 2.0 s" in text


def cast(root: Path, table: list[tuple[str, str, str]]) -> Path:
    """A file of these votes (rater, item, won)."""
    votes = VoteFile.begin(root / "cast.sqlite", ("a", "b"), items_of(root))
    for rater, item, won in table:
        votes.cast(rater, item, won, "a", 3.0)
    return votes.path


def test_the_report_of_raters_who_agree(root: Path) -> None:
    table = [(r, f"pictures/{i}", "ab"[i == 3]) for r in ("ann", "ben", "cy") for i in range(4)]
    text = " ".join(byg("study", "report", "--votes", cast(root, table)).output.split())
    assert "Fleiss' kappa 1.00, Krippendorff's alpha 1.00" in text
    assert "By majority A wins 3 of 4 items, 0 tied; sign test p = 0.62" in text
    assert "The left side won 75.0%" in text


def test_the_report_says_what_it_needs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "find_spec", lambda name: None)
    path = cast(root, [("ann", "pictures/0", "a")])
    refused(byg("study", "report", "--votes", path), "scipy and statsmodels", '".[eval]"')


def test_the_report_of_one_rater(root: Path) -> None:
    path = cast(root, [("ann", "pictures/0", "a"), ("ann", "pictures/1", "b")])
    text = " ".join(byg("study", "report", "--votes", path).output.split())
    assert "Agreement of raters: not known" in text
    assert "Asked: 2 of 4 items" in text


def test_the_report_of_the_papers_study(root: Path) -> None:
    """The one table that fits all its numbers: 119 items, two votes each, by 8 raters."""
    table = [(i, won) for i in range(119) for won in ("aa", "ab", "bb")[(i >= 77) + (i >= 102)]]
    one = items_of(root)[0]
    items = [replace(one, name=f"{i}", group="clips") for i in range(119)]
    votes = VoteFile.begin(root / "paper.sqlite", ("ByG", "Ditto"), items)
    for number, (item, won) in enumerate(table):
        votes.cast(f"rater {number % 8}", str(item), won, "ab"[number % 2], 1.0)
    text = " ".join(byg("study", "report", "--votes", votes.path).output.split())
    assert "A wins 179 of 238 votes, 75.2%" in text
    assert "p = 3.1e-15 (two-sided binomial), 1.5e-15 (one-sided)" in text
    assert "By majority A wins 77 of 94 items, 25 tied; sign test p = 2.7e-10" in text
    assert "Fleiss' kappa 0.44" in text
    assert "clips │ 238 │ 75.2% │ 69.4% to 80.3%" in text
