"""Data sets of other trainers, with the habits of their tools."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.odd.case import Case, captioned, picture

CONFIG = {"job": "extension", "config": {"process": [{"datasets": [{"folder_path": "pics"}]}]}}


def _import(kind: str, source: Path, root: Path, *more: object) -> list[object]:
    return ["data", "import", source, "--from", kind, "--output", root / "out", *more]


def imported(number: int, caption: str | None = None) -> Callable[[Path, str], str | None]:
    """Wants so many rows, and one caption in all of them."""

    def holds(folder: Path, printed: str) -> str | None:
        lines = (folder / "out" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        told = {row["src_caption"] for row in rows}
        if len(rows) == number and caption in (None, *told) and len(told) <= 1 + (caption is None):
            return None
        return f"{rows}, wanted {number} with {caption!r}"

    return holds


# ---------------------------------------------------------------- ai-toolkit


def _config(name: str, text: str | bytes, root: Path) -> list[object]:
    for i in range(2):
        captioned(root / "pics" / f"{i}.png", i)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return _import("ai-toolkit", root / name, root)


def _dataset(fields: dict[str, Any], name: str, root: Path) -> list[object]:
    config = {"config": {"process": [{"datasets": [{"folder_path": "pics", **fields}]}]}}
    return _config(name, json.dumps(config), root)


def _json_captions(text: str, root: Path) -> list[object]:
    words = _dataset({"caption_ext": "json"}, "c.yaml", root)
    for i in range(2):
        (root / "pics" / f"{i}.json").write_text(text, encoding="utf-8")
    return words


def _ai_toolkit() -> Iterator[Case]:
    text, good = json.dumps(CONFIG), imported(2, "a cat on grass")
    yaml = "config:\n  process:\n  - datasets:\n    - folder_path: pics\n"
    for name, file, data in (
        ("job_config.json of the interface", "job_config.json", text),
        ("a .json with a BOM", "c.json", text.encode("utf-8-sig")),
        ("a .yaml", "c.yaml", yaml),
        ("a .yml with a BOM", "c.yml", yaml.encode("utf-8-sig")),
        ("a .yaml in UTF-16", "c.yaml", yaml.encode("utf-16")),
    ):
        yield Case(f"ai-toolkit: {name}", partial(_config, file, data), 0, (), good)
    for name, file, data, words in (
        ("cut JSON", "c.json", text[:30], "not valid JSON"),
        ("broken YAML", "c.yaml", "config: [", "not valid YAML"),
        ("a tab in YAML", "c.yaml", "config:\n\tprocess: 1", "not valid YAML"),
        ("YAML in cp1252", "c.yaml", "# für\n".encode("cp1252") + yaml.encode(), "Windows-1252"),
        ("an empty YAML", "c.yaml", "", "no config.process"),
        ("a YAML of a list", "c.yaml", "- 1\n- 2\n", "no config.process"),
        ("process of texts", "c.yaml", "config:\n  process: [a, b]\n", "no config.process"),
        ("a deep JSON", "c.json", "[" * 100_000, "not valid JSON"),
    ):
        yield Case(f"ai-toolkit: {name}", partial(_config, file, data), 2, (file, words))
    for fields, words in (
        ({"folder_path": "gone"}, "folder_path 'gone'"),
        ({"folder_path": None}, "folder_path None"),
        ({"folder_path": 7}, "folder_path 7"),
        ({"num_repeats": "two"}, "num_repeats 'two'"),
        ({"num_repeats": 0}, "num_repeats 0"),
        ({"control_path": "x"}, "pairs"),
    ):
        lay = partial(_dataset, fields, "c.json")
        yield Case(f"ai-toolkit: {fields}", lay, 2, (words,))
    caption = json.dumps({"caption": "a cat on grass", "caption_short": "cat"})
    yield Case("ai-toolkit: caption_ext json", partial(_json_captions, caption), 0, (), good)
    for name, text in {
        "without caption": "{}",
        "broken": "{",
        "a list": "[1]",
        "a number": '{"caption": 7}',
    }.items():
        yield Case(
            f"ai-toolkit: a caption's json {name}", partial(_json_captions, text), 2, ("0.json",)
        )


# ---------------------------------------------------------------- musubi-tuner


def _musubi(toml: str, root: Path) -> list[object]:
    for i in range(2):
        captioned(root / "sets" / "pics" / f"{i}.png", i)
    (root / "sets" / "d.toml").write_text(toml.replace("ROOT", str(root)))
    return _import("musubi", root / "sets" / "d.toml", root)


def _jsonl(lines: list[Any], root: Path) -> list[object]:
    picture(root / "sets" / "0.png")
    (root / "sets" / "d.jsonl").write_text(
        "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    )
    return _import("musubi", root / "sets" / "d.jsonl", root)


def _musubi_cases() -> Iterator[Case]:
    for name, line in {
        "beside the file": 'image_directory = "pics"',
        "absolute": 'image_directory = "ROOT/sets/pics"',
        "with backslashes": "image_directory = '.\\pics'",
        "with a slash at the end": 'image_directory = "pics/"',
    }.items():
        toml = f"[[datasets]]\n{line}\n"
        yield Case(
            f"musubi: a folder {name}", partial(_musubi, toml), 0, (), imported(2, "a cat on grass")
        )
    for name, toml, words in (
        ("a folder that is gone", '[[datasets]]\nimage_directory = "gone"', "does not exist"),
        ("a folder that is a file", '[[datasets]]\nimage_directory = "d.toml"', "does not exist"),
        ("a Windows folder", "[[datasets]]\nimage_directory = 'C:\\x\\y'", "does not exist"),
        ("datasets of numbers", "datasets = [1]", "no [[datasets]]"),
        ("no datasets", "x = 1", "no [[datasets]]"),
        (
            "sd-scripts' subsets",
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "pics"',
            "no files",
        ),
        (
            "repeats in words",
            '[[datasets]]\nimage_directory = "pics"\nnum_repeats = "2"',
            "num_repeats '2'",
        ),
        ("pairs", '[[datasets]]\nimage_directory = "pics"\ncontrol_directory = "x"', "pairs"),
        (
            "another ending",
            '[[datasets]]\nimage_directory = "pics"\ncaption_extension = ".cap"',
            "0.cap",
        ),
    ):
        yield Case(f"musubi: {name}", partial(_musubi, toml), 2, (words,))
    good = {"image_path": "0.png", "caption": "a cat"}
    yield Case("musubi: a line", partial(_jsonl, [good]), 0, (), imported(1, "a cat"))
    for name, line, words in (
        ("without a path", {"caption": "x"}, "image_path or video_path None"),
        ("with a path upwards", {**good, "image_path": "../0.png"}, "a path inside"),
        ("with a missing file", {**good, "image_path": "1.png"}, "no file"),
        ("without a caption", {"image_path": "0.png"}, "no caption"),
        ("with a number as caption", {**good, "caption": 7}, "no caption"),
        ("of a pair", {**good, "control_path": "x"}, "a pair"),
        ("that is broken", "{", "a broken line"),
    ):
        yield Case(f"musubi: a line {name}", partial(_jsonl, [good, line]), 2, (words,))


# ---------------------------------------------------------------- Hugging Face


def _parquet(kind: str, options: dict[str, Any], root: Path) -> list[object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = io.BytesIO()
    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    pages[0].save(data, kind, **({"append_images": pages[1:], **options} if options else {}))
    cells = [{"bytes": data.getvalue(), "path": None}]
    (root / "hub").mkdir()
    table = pa.table({"image": cells, "text": ["a cat"]})
    pq.write_table(table, root / "hub" / "train-00000-of-00001.parquet")
    return _import("huggingface", root / "hub", root)


def _broken_parquet(data: bytes, root: Path) -> list[object]:
    (root / "hub").mkdir()
    (root / "hub" / "train.parquet").write_bytes(data)
    return _import("huggingface", root / "hub", root)


def _parquet_cases() -> Iterator[Case]:
    many = {"save_all": True}
    for kind, options in (
        ("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {}), ("MPO", many),
        ("TIFF", many), ("PNG", many), ("WEBP", many), ("JPEG2000", {}), ("PPM", {}), ("TGA", {}),
    ):  # fmt: skip
        name = f"{kind} of {'two pictures' if options else 'one picture'}"
        lay = partial(_parquet, kind, options)
        yield Case(f"parquet: {name}", lay, 0, (), imported(1, "a cat"))
    for data in (b"", b"PAR1", b"hello"):
        yield Case(f"parquet: {data!r}", partial(_broken_parquet, data), 2, ("train.parquet",))


def cases() -> Iterator[Case]:
    yield from _ai_toolkit()
    yield from _musubi_cases()
    yield from _parquet_cases()
