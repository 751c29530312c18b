"""The preview: a page that holds nothing back and trusts nothing, a server that loses nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli import app
from byg_train.config import DataConfig
from byg_train.data.check import check, check_loose, estimated
from byg_train.data.items import load_items
from byg_train.data.kinds import PICTURES
from byg_train.data.preview import PAGE, page, pictures
from byg_train.data.preview_server import PreviewServer
from byg_train.data.rows import read_rows
from byg_train.data.small import THUMB, small_copy
from byg_train.data.struck import HEAD, read_struck, write_struck

NASTY = "a </script><script>alert(1)</script> & \u2028 'ball' 🦊 \\u003c"


def byg(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def save(path: Path, colour: str, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def row(name: str, **fields: Any) -> dict[str, Any]:
    texts = {
        "src_caption": "a red ball",
        "tgt_caption": "a blue ball",
        "instruction": "Paint the ball blue",
        "reverse_instruction": "Paint the ball red",
    }
    return {"file_name": name, **texts, **fields}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures, one with two tuples, one broken, and a line that is none."""
    folder = tmp_path / "my set"
    save(folder / "a.png", "teal"), save(folder / "sub" / "b.jpg", "red", (600, 900))
    (folder / "c.png").write_text("no picture")
    rows = [
        row("a.png", src_caption=NASTY, edit_type="colour"),
        row("./sub/b.jpg", tgt_caption="🦊🦊 is now blue"),
        row("sub/b.jpg", instruction="Add a hat", edit_type="add"),
        row("c.png"),
    ]
    lines = [json.dumps(r, ensure_ascii=False) for r in rows]
    (folder / "metadata.jsonl").write_text("\n".join([*lines, "{"]), encoding="utf-8")
    return folder


def report(root: Path) -> Any:
    return check(root, *read_rows(root, None, PICTURES), estimated(256), 16, DataConfig())


def data_of(html: str) -> dict[str, Any]:
    """What the page's script would read, as a browser parses the page."""

    class Parser(HTMLParser):
        found = ""
        inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = tag == "script" and ("id", "data") in attrs

        def handle_data(self, data: str) -> None:
            self.found += data if self.inside else ""

        def handle_endtag(self, tag: str) -> None:
            self.inside = False

    parser = Parser()
    parser.feed(html)
    return json.loads(parser.found)


# ---------------------------------------------------------------- the page


def test_every_picture_with_its_tuples_and_problems(root: Path) -> None:
    a, b, c = pictures(report(root))
    assert [p["file"] for p in (a, b, c)] == ["a.png", "sub/b.jpg", "c.png"]
    assert a["edits"][0]["texts"]["src_caption"] == NASTY and a["problems"] == []
    assert [edit["kind"] for edit in b["edits"]] == ["", "add"]
    (slip,) = b["edits"][0]["problems"]
    assert (slip["rule"], slip["field"], slip["level"]) == (
        "change in caption",
        "tgt_caption",
        "error",
    )
    # As JavaScript counts: each fox is two.
    text = b["edits"][0]["texts"]["tgt_caption"].encode("utf-16-le")
    at = 2 * slip["at"]
    assert text[at : at + 2 * slip["length"]].decode("utf-16-le") == "now"
    assert b["edits"][1]["problems"] == []
    assert [problem["rule"] for problem in c["problems"]] == ["unreadable"]


def test_a_static_page_needs_nothing_else(root: Path, tmp_path: Path) -> None:
    write_struck(root, {("sub/b.jpg", "Add a hat")})
    out = tmp_path / "out.html"
    result = byg("data", "preview", root, "--static", out)
    assert result.exit_code == 0, result.output
    html = out.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)|url\(|@import|https?://", html)
    data = data_of(html)
    assert data["served"] is False and data["head"] == HEAD and data["title"] == "my set"
    assert data["struck"] == ["sub/b.jpg\tAdd a hat"]
    a, b, c = data["pictures"]
    assert a["edits"][0]["texts"]["src_caption"] == NASTY
    assert (b["width"], b["height"]) == (600, 900) and "thumb" not in c
    (note,) = data["notes"]
    assert note["where"] == "metadata.jsonl:5"
    with Image.open(BytesIO(base64.b64decode(b["thumb"].split(",")[1]))) as thumb:
        assert thumb.format == "WEBP" and thumb.size == (320, 480)
        assert min(thumb.convert("RGB").getpixel((9, 9))[:1]) > 240


def test_only_the_pages_own_script_runs(root: Path) -> None:
    html = page(report(root), set(), served=True, addresses=lambda i, name: {})
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1  # no text of the set has become one
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert scripts[0] in PAGE.read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_parses(tmp_path: Path) -> None:
    script = re.search(r"<script>(.*?)</script>", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    (tmp_path / "page.js").write_text(script, encoding="utf-8")
    subprocess.run(["node", "--check", tmp_path / "page.js"], check=True)


def test_the_page_of_another_set_forgets_what_a_browser_kept(root: Path) -> None:
    def key(struck: set) -> str:
        html = page(report(root), struck, served=False, addresses=lambda i, name: {})
        return data_of(html)["key"]

    assert key(set()) == key(set()) != key({("a.png", None)})


def test_small_copies_keep_small_pictures_exact_and_turn_upright(tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    picture = Image.effect_noise((30, 20), 90).convert("RGB")
    picture.save(small)
    with Image.open(BytesIO(small_copy(small, THUMB, PICTURES).data)) as copy:
        assert copy.convert("RGB").tobytes() == picture.tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (900, 300), "red").save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(BytesIO(small_copy(tmp_path / "turned.jpg", THUMB, PICTURES).data)) as copy:
        assert copy.size == (160, 480)


def test_a_single_style_can_be_looked_at(tmp_path: Path) -> None:
    save(tmp_path / "photo" / "a.png", "red").with_suffix(".txt").write_text("a  ball\n")
    save(tmp_path / "photo" / "b.png", "blue")
    (tmp_path / "photo" / "c.png").write_text("no picture")
    assert byg("data", "preview", tmp_path, "--static", tmp_path / "o.html").exit_code == 0
    a, b, c = pictures(check_loose(tmp_path, 16, DataConfig()))
    assert a["edits"][0]["texts"] == {"src_caption": "a ball"} and b["edits"] == []
    assert c["problems"][0]["rule"] == "unreadable"
    result = byg("data", "preview", tmp_path / "photo" / "nothing")
    assert result.exit_code == 2 and "does not exist" in result.stderr


# ---------------------------------------------------------------- the server


@pytest.fixture
def server(root: Path) -> Iterator[PreviewServer]:
    with PreviewServer(report(root)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: PreviewServer, path: str, body: object = None, host: str | None = None
) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    headers = {} if host is None else {"Host": host}
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, sent, headers)
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


def decide(server: PreviewServer, file: str, instruction: str | None, struck: bool) -> int:
    body = {"file": file, "instruction": instruction, "struck": struck}
    return ask(server, f"/{server.token}/strike", body)[0]


def test_the_server_listens_to_this_machine_and_to_who_knows_the_token(
    server: PreviewServer,
) -> None:
    assert server.server_address[0] == "127.0.0.1"
    status, body = ask(server, f"/{server.token}/")
    assert status == 200
    data = data_of(body.decode())
    assert data["served"] and len(data["pictures"]) == 3
    strike = {"file": "a.png", "instruction": None, "struck": True}
    for path in ("/", "/thumb/0", "//", "/x/", f"/{server.token}", f"/{server.token[:-1]}x/", "*"):
        assert ask(server, path)[0] == 404, path
    assert ask(server, "/strike", strike)[0] == 404
    assert ask(server, f"/{server.token[::-1]}/strike", strike)[0] == 404
    # A page elsewhere that has its name point here.
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        assert ask(server, f"/{server.token}/", host=host)[0] == 404
        assert ask(server, f"/{server.token}/strike", strike, host=host)[0] == 404
    assert ask(server, f"/{server.token}/", host="localhost:1234")[0] == 200
    assert not read_struck(server.root)


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
    assert read_struck(root) == {("c.png", None), ("sub/b.jpg", "Add a hat")}
    lines = (root / "metadata.jsonl").read_text(encoding="utf-8").split("\n")
    (root / "metadata.jsonl").write_text("\n".join(lines[:-1]), encoding="utf-8")
    data = load_items(DataConfig(path=root, holdout=0), multiple=16)
    assert [(i.path.name, i.instruction) for i in data.train] == [
        ("a.png", "Paint the ball blue"),
        ("b.jpg", "Paint the ball blue"),
    ]
    assert data.struck == 2
    # Taking a picture back takes its tuples with it.
    assert decide(server, "sub/b.jpg", None, True) == 200
    assert decide(server, "sub/b.jpg", None, False) == 200
    assert read_struck(root) == {("c.png", None)}
    assert sorted(data_of(ask(server, f"/{server.token}/")[1].decode())["struck"]) == ["c.png"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'"a.png"',
        {"file": "other.png", "instruction": None, "struck": True},
        {"file": "../a.png", "instruction": None, "struck": True},
        {"file": "a.png", "instruction": "Add a hat", "struck": True},
        {"file": "a.png\nb.png", "instruction": None, "struck": True},
        {"file": "a.png", "instruction": None, "struck": 1},
        {"file": 1, "instruction": None, "struck": True},
        {"file": "a.png", "struck": True},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_decision_of_this_set_changes_nothing(
    server: PreviewServer, body: object
) -> None:
    assert ask(server, f"/{server.token}/strike", body)[0] == 400
    assert not (server.root / "struck.txt").exists()


def test_decisions_at_once_are_all_kept_and_a_persons_lines_too(
    server: PreviewServer, root: Path
) -> None:
    (root / "struck.txt").write_text("from another set.png\n")
    entries = [("a.png", None), ("c.png", None), ("sub/b.jpg", "Add a hat"),
               ("sub/b.jpg", "Paint the ball blue")]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(decide, server, *e, True) for _ in range(10) for e in entries]
        assert {job.result() for job in jobs} == {200}
    assert read_struck(root) == {("from another set.png", None), *entries}
    assert {p.name for p in root.iterdir()} == {
        "a.png",
        "c.png",
        "metadata.jsonl",
        "struck.txt",
        "sub",
    }
