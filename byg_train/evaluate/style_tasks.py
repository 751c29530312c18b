"""Turn style folders into a folder of tasks, as in the benchmarks of section 5.1."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ..config import nearest
from ..data import DataError
from ..data.manifest import write_manifest
from ..data.media_kind import found_kind, media_files
from ..data.names import Captions
from ..data.styles import Style, load_styles, own_templates, style_folders
from ..files import atomic


def write_style_tasks(
    root: Path, folder: Path, *, through: str | None = None, to: Collection[str] = ()
) -> int:
    """Write tasks that turn every file into every other style; returns their number.

    Captions are filled into the data's templates where a file has a .txt beside it; results are
    called STYLE/NAME--OTHER.

    Args:
        root: style folders, as for training.
        folder: where the tasks go, with copies of the files.
        through: a style that stands at one end of every edit (section 5.1.2: photos), so there is
            no edit between two others. Tasks are grouped by direction.
        to: the styles that edits lead to (section 5.1.1: not 3d-cgi); empty: all.
    """
    if folder.exists():
        raise DataError(f"{folder} exists; choose a new folder, or use what is in it")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; wanted one with a folder for each style")
    kind = found_kind(root)
    folders, _ = style_folders(root, kind)
    if len(folders) < 2:
        raise DataError(f"{root} holds {len(folders)} style folders of {kind.many}; wanted two")
    names = [path.name for path in folders]
    for name in filter(None, (through, *to)):
        if name not in names:
            known = f"{nearest(name, names)} (there are {', '.join(names)})"
            raise DataError(f"{root} has no style folder {name!r}{known}")
    styles = load_styles(folders, own_templates(root), kind)
    pairs = [
        (now, other)
        for now in styles
        for other in styles
        if other is not now
        and (not to or other.folder.name in to)
        and through in (None, now.folder.name, other.folder.name)
    ]
    rows = []
    for now, other in pairs:
        rows += _rows(now, other, root, through, media_files(now.folder, kind))
    with atomic(folder) as temporary:
        for name in dict.fromkeys(row["file_name"] for row in rows):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, temporary / name)
        write_manifest(temporary, rows)
    return len(rows)


def _rows(
    now: Style, other: Style, root: Path, through: str | None, files: Iterator[Path]
) -> Iterator[dict[str, Any]]:
    ends = [s.folder.name if through in (None, s.folder.name) else "style" for s in (now, other)]
    captions = Captions()
    for path in files:
        name = path.relative_to(root)
        caption = captions.read(path) if captions.file(path) else ""
        yield {
            "file_name": name.as_posix(),
            "result": f"{name.with_suffix('').as_posix()}--{other.folder.name}",
            "instruction": other.ask(now),
            "src_caption": now.tell(caption) if caption else None,
            "tgt_caption": other.tell(caption) if caption else None,
            "group": " → ".join(ends),
        }
