"""A set to look through, with something wrong in it, served, and what a page says of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from byg_train.config import DataConfig
from byg_train.data.check import Limits, Report, check, estimated
from byg_train.data.media_kind import PICTURES
from byg_train.data.preview.server import PreviewServer
from byg_train.data.rows import read_rows

NASTY = "a </script><script>alert(1)</script> & \u2028 'ball' 🦊 \\u003c"


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


def make_set(folder: Path) -> Path:
    """Three pictures, one with two tuples, one broken, and a line that is none."""
    save(folder / "a.png", "teal", (512, 512)), save(folder / "sub" / "b.jpg", "red", (600, 900))
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


def report(root: Path) -> Report:
    return check(root, *read_rows(root, None, PICTURES), Limits(estimated(256), 16, DataConfig()))


@contextmanager
def serving(root: Path) -> Iterator[PreviewServer]:
    """The page of a set, from a thread of its own."""
    with PreviewServer(report(root)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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
