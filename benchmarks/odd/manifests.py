"""Manifests as hands, scripts and spreadsheets leave them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.odd.case import TEXTS, Case, check, found, manifest, picture, row, tuples

GOOD = json.dumps(row())
# Lines of metadata.jsonl beside a good one -> the rule that they break, and words of it.
LINES = {
    "cut off": (GOOD[:40], "broken line", "metadata.jsonl:2"),
    "no JSON": ("a cat", "broken line", "metadata.jsonl:2"),
    "a list": ("[1, 2]", "broken line", "[1, 2]"),
    "a number": ("7", "broken line", "metadata.jsonl:2"),
    "null": ("null", "broken line", "metadata.jsonl:2"),
    "single quotes": (str(row()), "broken line", "metadata.jsonl:2"),
    "a comma at the end": (GOOD + ",", "broken line", "Extra data"),
    "brackets a hundred thousand deep": ("[" * 100_000, "broken line", "metadata.jsonl:2"),
    "no file_name": (json.dumps(TEXTS), "missing field", "file_name"),
    "no instruction": (json.dumps({**row(), "instruction": None}), "missing field", "instruction"),
    "a number for a text": (json.dumps(row(src_caption=2023)), "not a text", "2023"),
    "NaN for a text": (json.dumps(row(src_caption=float("nan"))), "not a text", "nan"),
    "a list for a text": (json.dumps(row(instruction=["a"])), "not a text", "instruction"),
    "an empty text": (json.dumps(row(tgt_caption="  ")), "empty text", "tgt_caption"),
    "zero-width text": (json.dumps(row(tgt_caption="\u200b\u2060")), "empty text", "tgt_caption"),
    "NULs for a text": (json.dumps(row(tgt_caption="\0\0")), "empty text", "tgt_caption"),
    "a NUL in a text": (json.dumps(row(tgt_caption="a\0b")), "control character", "U+0000"),
    "an escape in a text": (json.dumps(row(instruction="\x1b[1mx")), "control character", "U+001B"),
    "half an emoji": (json.dumps(row(instruction="x \ud83d")), "control character", "U+D83D"),
    "equal captions": (json.dumps(row(tgt_caption=TEXTS["src_caption"])), "equal captions", "ball"),
    "an unknown split": (json.dumps(row(split="dev")), "split", "dev"),
    "repeats of 0": (json.dumps(row(repeats=0)), "repeats", "0"),
    "repeats in words": (json.dumps(row(repeats="two")), "repeats", "two"),
    "repeats true": (json.dumps(row(repeats=True)), "repeats", "True"),
    "a missing file": (json.dumps(row("b.png")), "no file", "b.png"),
    "a path upwards": (json.dumps(row("../a.png")), "outside of the folder", "../a.png"),
    "an absolute path": (json.dumps(row("/etc/passwd")), "outside of the folder", "passwd"),
    "a Windows path upwards": (json.dumps(row("..\\a.png")), "outside of the folder", "a.png"),
    "the same again": (GOOD, "twice", "metadata.jsonl:1"),
}
HEADER = ("file_name", *TEXTS, "repeats", "split")
CELLS = ["a.png", *TEXTS.values(), "", ""]


def _line(line: str, root: Path) -> list[object]:
    picture(root / "a.png")
    return check(manifest(root, GOOD, line))


def _jsonl(data: bytes, root: Path) -> list[object]:
    picture(root / "a.png")
    (root / "metadata.jsonl").write_bytes(data)
    return check(root)


def _csv(data: bytes | str, root: Path) -> list[object]:
    picture(root / "a.png")
    data = data.encode() if isinstance(data, str) else data
    (root / "metadata.csv").write_bytes(data)
    return check(root)


def table(delimiter: str = ",", head: str = "", **cells: str) -> str:
    """A CSV file of one row, some of its cells changed."""
    text = io.StringIO()
    text.write(head)
    changed = [cells.get(name, cell) for name, cell in zip(HEADER, CELLS, strict=True)]
    csv.writer(text, delimiter=delimiter).writerows([HEADER, changed])
    return text.getvalue()


def cases() -> Iterator[Case]:
    for name, (line, rule, words) in LINES.items():
        yield Case(f"a line: {name}", partial(_line, line), 1, (), found(rule, words))
    yield from _whole_jsonl()
    yield from _read_csv()
    yield from _refused_csv()


def _whole_jsonl() -> Iterator[Case]:
    for name, data in {
        "with a BOM": GOOD.encode("utf-8-sig"),
        "in UTF-16": GOOD.encode("utf-16"),
        "with Windows line ends": f"{GOOD}\r\n\r\n".encode(),
        "with old Mac line ends": f"\r{GOOD}\r".encode(),
        "without a line end": GOOD.encode(),
    }.items():
        yield Case(f"metadata.jsonl {name}", partial(_jsonl, data), 0, (), tuples(1))
    for name, data, words in (
        ("empty", b"", "is empty"),
        ("of blank lines", b"\n \n\t\n", "is empty"),
        ("in UTF-16 without a BOM", GOOD.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("of NULs among lines", GOOD.encode() + b"\n\0\0\0", "NUL byte"),
    ):
        yield Case(f"metadata.jsonl {name}", partial(_jsonl, data), 2, ("metadata.jsonl", words))
    umlaut = json.dumps(row(instruction="für"), ensure_ascii=False).encode("cp1252")
    broken = found("encoding", "metadata.jsonl:2", "Windows-1252")
    lines = b"\n".join((GOOD.encode(), umlaut))
    yield Case("metadata.jsonl with a line in cp1252", partial(_jsonl, lines), 1, (), broken)
    pretty = json.dumps([row()], indent=1).encode()
    told = found("broken line", "metadata.jsonl:1")
    yield Case("metadata.jsonl of one JSON list", partial(_jsonl, pretty), 1, (), told)


def _read_csv() -> Iterator[Case]:
    for name, text in {
        "with commas": table(),
        "with semicolons": table(";"),
        "with tabs": table("\t"),
        "with bars": table("|"),
        "with Excel's sep=": table(";", "sep=;\r\n"),
        "with blank repeats": table(repeats="  "),
        "with repeats 2": table(repeats="2"),
        "with repeats 2.0": table(repeats="2.0"),
        "with repeats 2,0": table(";", repeats="2,0"),
        "with a year as caption": table(src_caption="2023"),
        "with NA as caption": table(src_caption="NA"),
        "with a comma in a text": table(src_caption="a cat, on grass"),
        "with a line end in a text": table(src_caption="a cat\non grass"),
        "with quotes in a text": table(src_caption='a "cat" on grass'),
        "with blanks around names": table().replace("src_caption", " src_caption "),
        "with an empty row": table() + ",,,,,,\r\n",
        "with an empty line": table() + "\r\n\r\n",
        "with a column more": table().replace("split", "split,note").replace("red,,", "red,,,x"),
    }.items():
        yield Case(f"metadata.csv {name}", partial(_csv, text), 0, (), tuples(1))
    for encoding in ("utf-8-sig", "utf-16"):
        data = table().encode(encoding)
        yield Case(f"metadata.csv in {encoding}", partial(_csv, data), 0, (), tuples(1))


def _refused_csv() -> Iterator[Case]:
    for name, text, words in (
        ("empty", "", "has no rows"),
        ("of a header alone", ",".join(HEADER), "has no rows"),
        ("without file_name", table().replace("file_name", "filename"), "did you mean 'filename'"),
        ("without a header", table().partition("\n")[2], "has no column file_name"),
        ("with a column twice", table().replace("split", "repeats"), "more than once"),
        ("with an open quote", table(src_caption="x").replace(",x,", ',"x,'), "is a quote open"),
        ("in cp1252", table(src_caption="für").encode("cp1252"), "Windows-1252"),
        ("in UTF-16 without a BOM", table().encode("utf-16-le"), "byte order mark"),
    ):
        yield Case(f"metadata.csv {name}", partial(_csv, text), 2, ("metadata.csv", words))
    for name, text, rule, words in (
        ("with an unquoted comma", table().replace("on grass", "on, grass", 1), "broken line", "8"),
        ("with a cell too few", table().replace("red,,", "red,"), "broken line", "6 cells"),
        ("with repeats many", table(repeats="many"), "repeats", "many"),
        ("with repeats 1.5", table(repeats="1.5"), "repeats", "1.5"),
        ("with an empty caption", table(src_caption=""), "missing field", "src_caption"),
    ):
        yield Case(f"metadata.csv {name}", partial(_csv, text), 1, (), found(rule, words))
