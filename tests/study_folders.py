"""A small study on disk: sources, results of two methods, a server over it, and its page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image

from byg_train.study.ballot import Ballot
from byg_train.study.items import Comparison, find_items
from byg_train.study.server import StudyServer
from byg_train.study.votes import VoteFile

if TYPE_CHECKING:
    from playwright.sync_api import Page

FPS, FRAMES = 12, 12
COLOURS = {"sources": (120, 120, 120), "first": (220, 40, 40), "second": (40, 60, 220)}


def colour(method: str, number: int) -> tuple[int, int, int]:
    """No two files are alike."""
    r, g, b = COLOURS[method]
    return r, g + 3 * number, b


def picture(path: Path, rgb: tuple[int, int, int], size: tuple[int, int] = (48, 32)) -> None:
    """One plain picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, rgb).save(path)


def video(path: Path, rgb: tuple[int, int, int], frames: int = FRAMES) -> None:
    """A short VP8 clip that grows brighter, so that every frame tells its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libvpx", FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            level = np.array(rgb) * (0.4 + 0.6 * i / frames)
            array = np.broadcast_to(level.astype(np.uint8), (48, 64, 3)).copy()
            file.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
        file.mux(stream.encode())


def make_folders(root: Path, pictures: int = 4, videos: int = 0) -> tuple[Path, Path, Path]:
    """(first, second, sources) under `root`."""
    lines = []
    for i in range(pictures + videos):
        name = f"pictures/{i}.png" if i < pictures else f"clips/{i}.webm"
        for method in COLOURS:
            write = picture if i < pictures else video
            write(root / method / name, colour(method, i))
        group = "picture" if i < pictures else "clip"
        row = {"file_name": name, "instruction": f"Make number {i} <b>nicer</b>", "group": group}
        lines.append(json.dumps(row))
    (root / "sources" / "metadata.jsonl").write_text("\n".join(lines))
    return root / "first", root / "second", root / "sources"


def items_of(root: Path, instruction: str | None = None) -> list[Comparison]:
    """What is compared under `root`."""
    return find_items(root / "first", root / "second", root / "sources", instruction)


@contextmanager
def served(root: Path, per_rater: int | None = None) -> Iterator[StudyServer]:
    """A server over the folders under `root`, on a port of its own."""
    items = items_of(root)
    votes = VoteFile.begin(root / "votes.sqlite", ("first", "second"), items)
    server = StudyServer(Ballot(items, votes, per_rater), "Which one is better?")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ---------------------------------------------------------------- the page


def begin(page: Page, server: StudyServer, name: str = "Ann") -> None:
    """Open the page, and be shown the first question."""
    page.goto(server.address)
    page.fill("#name", name)
    page.keyboard.press("Enter")
    ready(page)


def ready(page: Page) -> None:
    """Everything is there to be seen."""
    page.wait_for_selector(".choice:enabled")


def answered(page: Page, count: int) -> None:
    """So many votes have been taken."""
    page.wait_for_function("n => document.querySelector('#progress').value === n", arg=count)
