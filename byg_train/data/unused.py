"""Files of a data folder that nothing is made of, each with the reason; none is lost in silence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..media.formats import CLIPS, Formats, look
from . import Problem, Row, counted
from .excluded import EXCLUDED, FORMER, file_key, read_excluded, row_entry
from .manifest import NAMES, find_manifest
from .media_kind import visible_files
from .names import ENDINGS, folded

# Files that speak of a data folder, by the beginnings of their names.
ABOUT = (*NAMES, EXCLUDED, FORMER, "styles.toml", "readme", "license", "dropped.txt")
# Names of files that are listed for each reason; of the others the number is told.
LISTED = 3
IN_NO_TUPLE = "in no tuple"


class Unused(NamedTuple):
    """A file that is not used."""

    name: str  # relative to the folder
    why: str


def unused_files(
    root: Path, rows: Iterable[Row], kind: Formats, problems: Iterable[Problem] = ()
) -> list[Unused]:
    """The visible files of a data folder that no tuple, no problem and no excluded.txt speaks of.

    Captions of any picture or clip, pictures that clips are shown by, and files about the folder
    are no files to be used.
    """
    rows = list(rows)
    used = {entry[0] for row in rows if (entry := row_entry(row, root))}
    targets = (row.fields.get("target_file_name") for row in rows)
    used |= {file_key(name, root) for name in targets if isinstance(name, str)}
    used |= {name for name, _ in read_excluded(root)} | {problem.where for problem in problems}
    wanted = IN_NO_TUPLE if find_manifest(root) else "in no style folder"
    return list(_left_over(root, used, kind, wanted))


def unused_beside(root: Path, used: Iterable[str], kind: Formats) -> list[Unused]:
    """The visible files of a folder that are not among the files of a kind that were found."""
    return list(_left_over(root, set(used), kind, "not found"))


def _left_over(root: Path, used: set[str], kind: Formats, wanted: str) -> Iterator[Unused]:
    files = {path.relative_to(root).as_posix(): path for path in visible_files(root)}
    sorts = {name: look(path).sort for name, path in files.items()}
    media = {end for name, sort in sorts.items() if sort != "none" for end in _bare(name)}
    shown_by = {_bare(name)[0] for name in used} if kind is CLIPS else set()
    for name, path in files.items():
        if name in used or name.lower().startswith(ABOUT) or _bare(name)[0] in shown_by:
            continue
        if path.suffix.lower() in ENDINGS:
            if _bare(name)[0] not in media:
                yield Unused(name, "a caption without a picture or clip")
        elif sorts[name] == "none":
            yield Unused(name, look(path).why)
        elif kind.holds(path):
            yield Unused(name, wanted)
        else:
            yield Unused(name, f"a {sorts[name]}, and {kind.many} are used")


def by_reason(unused: Iterable[Unused]) -> dict[str, list[str]]:
    """Names by why they are not used."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for name, why in unused:
        reasons[why].append(name)
    return reasons


def told(names: Collection[str]) -> str:
    """`3 files: a.doc, b.doc and 1 more`."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{counted(len(names), 'file')}: {', '.join(list(names)[:LISTED])}{more}"


def _bare(name: str) -> tuple[str, str]:
    """A name without its ending, and with it, as captions are called after either."""
    path = Path(name)
    return folded(path.with_suffix("").as_posix()), folded(name)
