"""The published benchmarks as folders of tasks: GEdit-Bench and ImgEdit-Bench.

Either is read from the hub or from what somebody downloaded before. What is written has the
layout that `tasks.read_tasks` wants; names of results are those that the benchmarks' own scripts
expect. (GEdit-Bench's also want the sources, which lie among the tasks, beside the results.)
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from ..data import DataError
from ..data.manifest import Parquet, write_manifest
from ..files import atomic

GEDIT, IMGEDIT = "stepfun-ai/GEdit-Bench", "sysuyy/ImgEdit"
# Of ImgEdit's hub repository the one file with the benchmark, and of its suites the one of 737.
ARCHIVE, SUITE = "Benchmark.tar", "singleturn/singleturn.json"
# What the 737 edits' list is called on the hub, and in the authors' repository.
LISTS = ("singleturn.json", "basic_edit.json")
LANGUAGES = ("en", "cn")
GEDIT_COLUMNS = {"task_type", "key", "instruction", "instruction_language", "input_image"}


class NoDownloadError(DataError):
    """A benchmark that is neither on this machine nor can be downloaded."""


class Whole(NamedTuple):
    """The contents of a complete benchmark."""

    name: str
    edits: int  # of one language
    groups: dict[str, int | None]  # edits of each; None where only their sum is published


# 1212 rows in two languages, as the data card says; the tasks as the benchmark's own scorer
# (github.com/stepfun-ai/Step1X-Edit, GEdit-Bench) lists them, which tells no numbers.
WHOLE_GEDIT = Whole(
    "GEdit-Bench",
    606,
    dict.fromkeys((
        "background_change", "color_alter", "material_alter", "motion_change", "ps_human",
        "style_change", "subject-add", "subject-remove", "subject-replace", "text_change",
        "tone_transfer",
    )),
)  # fmt: skip
# As the list in the authors' repository has them (github.com/PKU-YuanGroup/ImgEdit).
WHOLE_IMGEDIT = Whole(
    "ImgEdit-Bench",
    737,
    {
        "extract": 117, "style": 100, "add": 95, "adjust": 94, "background": 94, "replace": 92,
        "remove": 86, "action": 36, "compose": 23,
    },
)  # fmt: skip


class Published(NamedTuple):
    """One task of a benchmark, with the bytes of its source picture."""

    file_name: str
    result: str
    instruction: str
    group: str
    picture: Callable[[], bytes]
    intersection: bool = False

    @property
    def row(self) -> dict[str, Any]:
        """The fields of its line in metadata.jsonl."""
        fields = {name: getattr(self, name) for name in ("file_name", "result", "instruction")}
        return {**fields, "group": self.group, "intersection": self.intersection}


def write_tasks(tasks: Iterator[Published], folder: Path) -> Counter[str]:
    """Write a new folder of tasks, all or nothing; returns the number of tasks in each group."""
    if folder.exists():
        raise DataError(f"{folder} exists; choose a new folder, or use what is in it")
    rows, written = [], set()
    with atomic(folder) as temporary:
        for task in tasks:
            path = temporary / task.file_name
            if task.file_name not in written:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_checked(task.picture(), task.file_name))
                written.add(task.file_name)
            rows.append(task.row)
        if not rows:
            raise DataError(f"no tasks for {folder}")
        write_manifest(temporary, rows)
    return Counter(row["group"] for row in rows)


def unlike(whole: Whole, counts: Counter[str]) -> str | None:
    """Describe which groups differ in size from the published benchmark; None if none does."""
    differences = []
    for group in dict.fromkeys((*whole.groups, *counts)):
        number, wanted = counts[group], whole.groups.get(group, 0)
        if number != wanted and (wanted is not None or not number):
            differences.append(f"{group} {number} of {'some' if wanted is None else wanted}")
    if counts.total() == whole.edits and not differences:
        return None
    by_group = f" ({', '.join(differences)})" if differences else ""
    return (
        f"{whole.name} has {whole.edits} edits, and here are {counts.total()}{by_group}: scores of "
        "these are not the benchmark's"
    )


def _checked(data: bytes, name: str) -> bytes:
    try:
        with Image.open(BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise DataError(f"{name} is no picture ({error}); download the benchmark again") from None
    return data


# ---------------------------------------------------------------- GEdit-Bench


def gedit(source: str, language: str) -> Iterator[Published]:
    """Read GEdit-Bench's edits in one language, from the hub or a folder with its parquet files.

    Sources are the `input_image`s, which the benchmark's own scorer compares results with; results
    are called fullset/TASK/LANGUAGE/KEY, as it wants them.
    """
    if language not in LANGUAGES:
        raise DataError(f"language {language}: GEdit-Bench has {' and '.join(LANGUAGES)}")
    for file in sorted(_gedit_folder(source).rglob("*.parquet")):
        for row in _rows(file):
            if row["instruction_language"] == language:
                yield _gedit_task(row)


def _gedit_folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _from_hub(source, "*.parquet")
    if next(folder.rglob("*.parquet"), None) is None:
        raise DataError(f"{folder} holds no parquet files; wanted the files of {GEDIT}")
    return folder


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    table = Parquet(file)
    if missing := GEDIT_COLUMNS - set(table.columns):
        raise DataError(f"{file} lacks the columns {', '.join(sorted(missing))} of {GEDIT}")
    wanted = [*GEDIT_COLUMNS, "Intersection_exist"]
    return table.rows([name for name in wanted if name in table.columns])


def _gedit_task(row: dict[str, Any]) -> Published:
    task, language, key = row["task_type"], row["instruction_language"], row["key"]
    name = f"fullset/{task}/{language}/{key}"
    cell = row["input_image"]
    return Published(
        f"{name}_SRCIMG.png",
        name,
        row["instruction"],
        task,
        lambda: _as_png(cell["bytes"] if isinstance(cell, dict) else cell, name),
        bool(row.get("Intersection_exist")),
    )


def _as_png(data: bytes, name: str) -> bytes:
    if data.startswith(b"\x89PNG"):
        return data
    buffer = BytesIO()
    with Image.open(BytesIO(_checked(data, name))) as picture:
        picture.convert("RGB").save(buffer, "png")
    return buffer.getvalue()


# ---------------------------------------------------------------- ImgEdit-Bench


def imgedit(source: str) -> Iterator[Published]:
    """Read the 737 single-turn edits from the hub, from its Benchmark.tar, or from a folder.

    A folder holds singleturn.json (basic_edit.json in the authors' repository), or has it in
    singleturn/ or Benchmark/singleturn/, with the pictures beside. Results are called KEY.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        yield from _imgedit_folder(path)
        return
    archive = path if path.is_file() else _from_hub(source, ARCHIVE) / ARCHIVE
    yield from _imgedit_archive(archive)


def _imgedit_folder(folder: Path) -> Iterator[Published]:
    places = [folder / part / name for part in ("", "singleturn", "Benchmark/singleturn")
              for name in LISTS]  # fmt: skip
    listing = next((path for path in places if path.is_file()), None)
    if listing is None:
        names = " or ".join(LISTS)
        raise DataError(f"{folder} holds no {names}; wanted the singleturn folder of ImgEdit")

    def picture(name: str) -> bytes:
        try:
            return (listing.parent / name).read_bytes()
        except OSError:
            raise DataError(f"{listing} names {name}, which is not beside it") from None

    yield from _imgedit_tasks(listing.read_bytes(), str(listing), picture)


def _imgedit_archive(archive: Path) -> Iterator[Published]:
    if not tarfile.is_tarfile(archive):
        raise DataError(f"{archive} is no tar file; wanted {ARCHIVE} of {IMGEDIT}")
    with tarfile.open(archive) as file:
        members = {PurePosixPath(m.name).as_posix(): m for m in file.getmembers() if m.isfile()}
        listing = next((name for name in members if name.endswith(SUITE)), None)
        if listing is None:
            raise DataError(f"{archive} holds no {SUITE}; wanted {ARCHIVE} of {IMGEDIT}")
        root = listing.removesuffix(PurePosixPath(SUITE).name)

        def picture(name: str) -> bytes:
            member = members.get(root + name)
            if member is None:
                raise DataError(f"{archive} lacks {root}{name}; download it again")
            return file.extractfile(member).read()

        listed = file.extractfile(members[listing]).read()
        yield from _imgedit_tasks(listed, f"{archive}: {listing}", picture)


def _imgedit_tasks(
    listed: bytes, where: str, picture: Callable[[str], bytes]
) -> Iterator[Published]:
    try:
        edits = [(k, e["id"], e["prompt"], e["edit_type"]) for k, e in json.loads(listed).items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        shape = '{"KEY": {"id": "FILE", "prompt": "TEXT", "edit_type": "TYPE"}, ...}'
        raise DataError(f"{where} is not what was expected; wanted {shape}") from None
    for key, name, prompt, kind in edits:
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise DataError(f"{where}: {name!r} leads out of the folder")
        yield Published(name, key, prompt, kind, lambda name=name: picture(name))


# ---------------------------------------------------------------- the hub


def _from_hub(name: str, pattern: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=[pattern]))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise NoDownloadError(
            f"{name} is neither a folder nor can it be downloaded from the hub "
            f"({str(error).splitlines()[0]}); download {pattern} of the data set {name} where "
            "there is a network"
        ) from None
