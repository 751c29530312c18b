"""The preview's server: it answers who knows the token, and loses no decision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from preview_set import data_of, make_set, serving

from byg_train.config import DataConfig
from byg_train.data.excluded import read_excluded
from byg_train.data.items import load_items
from byg_train.data.preview.server import PreviewServer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_set(tmp_path / "my set")


@pytest.fixture
def server(root: Path) -> Iterator[PreviewServer]:
    with serving(root) as server:
        yield server


def ask(
    server: PreviewServer, path: str, body: object = None, host: str | None = None
) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    headers = {"Content-Type": "application/json"} | ({} if host is None else {"Host": host})
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, sent, headers)
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


def decide(server: PreviewServer, file: str, instruction: str | None, excluded: bool) -> int:
    body = {"file": file, "instruction": instruction, "excluded": excluded}
    return ask(server, f"/{server.token}/exclude", body)[0]


def test_the_server_listens_to_this_machine_and_to_who_knows_the_token(
    server: PreviewServer,
) -> None:
    assert server.server_address[0] == "127.0.0.1"
    status, body = ask(server, f"/{server.token}/")
    assert status == 200
    data = data_of(body.decode())
    assert data["served"] and len(data["pictures"]) == 3
    exclude = {"file": "a.png", "instruction": None, "excluded": True}
    for path in ("/", "/thumb/0", "//", "/x/", f"/{server.token}", f"/{server.token[:-1]}x/", "*"):
        assert ask(server, path)[0] == 404, path
    assert ask(server, "/exclude", exclude)[0] == 404
    assert ask(server, f"/{server.token[::-1]}/exclude", exclude)[0] == 404
    # A page elsewhere that has its name point here.
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        assert ask(server, f"/{server.token}/", host=host)[0] == 404
        assert ask(server, f"/{server.token}/exclude", exclude, host=host)[0] == 404
    assert ask(server, f"/{server.token}/", host="localhost:1234")[0] == 200
    assert not read_excluded(server.root)


def test_pictures_are_served_by_number_alone(server: PreviewServer, root: Path) -> None:
    (root.parent / "secret.png").write_bytes((root / "a.png").read_bytes())
    status, body = ask(server, f"/{server.token}/thumb/1")
    with Image.open(BytesIO(body)) as thumb:
        assert status == 200 and thumb.size == (320, 480)
    with Image.open(BytesIO(ask(server, f"/{server.token}/full/1")[1])) as full:
        assert full.size == (600, 900)
    for path in (
        "thumb/2",
        "thumb/3",
        "thumb/-1",
        "full/a.png",
        "full/../secret.png",
        "full/%2e%2e/secret.png",
        "../secret.png",
        "metadata.jsonl",
        "thumb/",
        "thumb/%C2%B2",
    ):
        assert ask(server, f"/{server.token}/{path}")[0] == 404, path


def test_a_decision_is_on_disk_when_it_is_answered_and_training_heeds_it(
    server: PreviewServer, root: Path
) -> None:
    assert decide(server, "c.png", None, True) == 200
    assert decide(server, "sub/b.jpg", "Add  a hat", True) == 200
    assert read_excluded(root) == {("c.png", None), ("sub/b.jpg", "Add a hat")}
    lines = (root / "metadata.jsonl").read_text(encoding="utf-8").split("\n")
    (root / "metadata.jsonl").write_text("\n".join(lines[:-1]), encoding="utf-8")
    data = load_items(DataConfig(path=root, holdout=0), multiple=16)
    assert [(i.path.name, i.instruction) for i in data.train] == [
        ("a.png", "Paint the ball blue"),
        ("b.jpg", "Paint the ball blue"),
    ]
    assert data.excluded == 2
    # Taking a picture back takes its tuples with it.
    assert decide(server, "sub/b.jpg", None, True) == 200
    assert decide(server, "sub/b.jpg", None, False) == 200
    assert read_excluded(root) == {("c.png", None)}
    assert sorted(data_of(ask(server, f"/{server.token}/")[1].decode())["excluded"]) == ["c.png"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'"a.png"',
        {"file": "other.png", "instruction": None, "excluded": True},
        {"file": "../a.png", "instruction": None, "excluded": True},
        {"file": "a.png", "instruction": "Add a hat", "excluded": True},
        {"file": "a.png\nb.png", "instruction": None, "excluded": True},
        {"file": "a.png", "instruction": None, "excluded": 1},
        {"file": 1, "instruction": None, "excluded": True},
        {"file": "a.png", "excluded": True},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_decision_of_this_set_changes_nothing(
    server: PreviewServer, body: object
) -> None:
    assert ask(server, f"/{server.token}/exclude", body)[0] == 400
    assert not (server.root / "excluded.txt").exists()


@pytest.mark.slow
def test_decisions_at_once_are_all_kept_and_a_persons_lines_too(
    server: PreviewServer, root: Path
) -> None:
    (root / "excluded.txt").write_text("from another set.png\n")
    entries = [("a.png", None), ("c.png", None), ("sub/b.jpg", "Add a hat"),
               ("sub/b.jpg", "Paint the ball blue")]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(decide, server, *e, True) for _ in range(10) for e in entries]
        assert {job.result() for job in jobs} == {200}
    assert read_excluded(root) == {("from another set.png", None), *entries}
    assert {p.name for p in root.iterdir()} == {
        "a.png",
        "c.png",
        "metadata.jsonl",
        "excluded.txt",
        "sub",
    }
