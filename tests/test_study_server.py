"""The user study over HTTP: the page, its questions and files, and whoever asks for more."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from study_folders import make_folders, served

from byg_train.study.server import StudyServer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_folders(tmp_path)
    return tmp_path


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


@pytest.mark.slow
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


def test_what_is_skipped_is_not_asked_and_not_done(root: Path) -> None:
    with served(root) as server:
        browser = Browser(server)
        first = browser.json("api/next?rater=ann")["item"]["id"]
        told = browser.json(f"api/next?rater=ann&skipped={first}")
        for done in (1, 2, 3):
            item = told["item"]["id"]
            assert item != first
            vote = {"rater": "ann", "item": item, "side": "left", "seconds": 1}
            told = browser.json(f"api/vote?skipped=nothing,{first}", vote)
            assert (told["done"], told["total"]) == (done, 4)
        assert told["item"] is None
        assert browser.json("api/next?rater=ann")["item"]["id"] == first  # another browser


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


@pytest.mark.slow
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
