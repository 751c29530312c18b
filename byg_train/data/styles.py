"""Style folders -> rows: every file is edited into every other style, with templated texts."""

from __future__ import annotations

import string
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ..config import nearest, read_toml
from . import DataError, Problem, Row
from .media_kind import MediaKind, style_files

# The file of a data folder's own templates.
OWN = "styles.toml"
# The edit type of appendix D.1.
STYLE_CHANGE = "style_change"
# The placeholders that each template may use.
FIELDS = {
    "phrase": (),
    "caption": ("caption", "style"),
    "instruction": ("style", "from_style"),
}


class Style(NamedTuple):
    """A style folder and its texts."""

    folder: Path
    phrase: str  # "3d cartoon"
    caption: str  # template
    instruction: str  # template for edits into this style

    def tell(self, caption: str) -> str:
        """Fill in the caption of a file in this style."""
        return self.caption.format(caption=caption.rstrip(" .,"), style=self.phrase)

    def ask(self, now: Style) -> str:
        """Fill in the instruction that turns a file in style `now` into this style."""
        return self.instruction.format(style=self.phrase, from_style=now.phrase)


def style_folders(root: Path, kind: MediaKind) -> tuple[list[Path], list[Problem]]:
    """Find the folders that hold files of a kind; visible ones without any are problems."""
    folders, problems = [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name.startswith("."):
            continue
        if next(style_files(folder, kind), None):
            folders.append(folder)
            continue
        kinds = Counter(p.suffix.lower() or "unnamed" for p in folder.iterdir() if p.is_file())
        files = ", ".join(f"{number} {ending}" for ending, number in sorted(kinds.items()))
        found = f"no {kind.many} (only {files} files)" if files else f"no {kind.many}"
        problems.append(
            Problem(f"{folder.name}/", found, f"{kind.formats.words} files in a style folder")
        )
    return folders, problems


def style_rows(
    root: Path,
    folders: list[Path],
    templates: Path | None,
    kind: MediaKind,
    stand_in: str | None = None,
) -> tuple[list[Row], list[Problem]]:
    """Make a row for each file and each other style; files without a caption are problems.

    Args:
        root: the data folder; names are relative to it.
        folders: one per style, at least two.
        templates: a styles.toml; None takes the data folder's, or else the built-in one.
        kind: pictures or clips.
        stand_in: the caption of files that have none.
    """
    styles = load_styles(folders, templates or _own(root), kind)
    rows, problems = [], []
    for now in styles:
        for path in style_files(now.folder, kind):
            name = path.relative_to(root).as_posix()
            beside = path.with_suffix(".txt")
            given = stand_in is None or beside.exists()
            caption = _caption(beside, name, problems) if given else stand_in
            if caption:
                rows += [
                    Row(name, restyled(name, caption, now, to)) for to in styles if to is not now
                ]
    return rows, problems


def style_words(root: Path, name: str, templates: Path | None, kind: MediaKind) -> Style:
    """The texts of one style folder, which need not exist yet."""
    templates = templates or _own(root)
    named = read_toml(templates).get("styles") if templates else None
    names = {name, *(named if isinstance(named, dict) else ())}
    if root.is_dir():
        names |= {folder.name for folder in style_folders(root, kind)[0]}
    styles = load_styles([root / other for other in sorted(names)], templates, kind)
    return next(style for style in styles if style.folder.name == name)


def _own(root: Path) -> Path | None:
    path = root / OWN
    return path if path.is_file() else None


def _caption(path: Path, name: str, problems: list[Problem]) -> str:
    wanted = f"a caption in {path.name} beside it"
    try:
        caption = " ".join(path.read_text(encoding="utf-8-sig").split())
    except FileNotFoundError:
        problems.append(Problem(name, "no caption", wanted))
        return ""
    except UnicodeDecodeError:
        problems.append(Problem(name, f"{path.name} is not UTF-8", wanted))
        return ""
    if not caption:
        problems.append(Problem(name, f"{path.name} is empty", wanted))
    return caption


def restyled(name: str, caption: str, now: Style, to: Style) -> dict[str, str]:
    """The tuple that turns a file in style `now` into style `to`."""
    return {
        "file_name": name,
        "src_caption": now.tell(caption),
        "tgt_caption": to.tell(caption),
        "instruction": to.ask(now),
        "reverse_instruction": now.ask(to),
        "edit_type": STYLE_CHANGE,
    }


# ---------------------------------------------------------------- templates


def load_styles(folders: list[Path], templates: Path | None, kind: MediaKind) -> list[Style]:
    """The texts of every folder: built-in templates, overridden by a templates file."""
    built_in = read_toml(kind.built_in)
    usual = built_in.pop("styles", {})
    own = read_toml(templates) if templates else {}
    where = str(templates or kind.built_in)
    tables = own.pop("styles", {})
    _known(own, list(built_in), where)
    _known(tables, [folder.name for folder in folders], f"{where} [styles]")
    styles = []
    for folder in folders:
        table, at = tables.get(folder.name, {}), f"{where} [styles.{folder.name}]"
        _known(table, list(FIELDS), at)
        phrase = folder.name.replace("-", " ").replace("_", " ")
        named = usual.get(folder.name, {})
        words = {**built_in, **own, "phrase": phrase, **named, **table}
        for field, text in words.items():
            _check_text(field, text, at if field in table else where)
        styles.append(Style(folder, **words))
    for phrase, number in Counter(style.phrase for style in styles).items():
        if number > 1:
            raise DataError(f"{number} style folders are called {phrase!r}; give each a phrase")
    return styles


def _known(table: Any, known: list[str], where: str) -> None:
    if not isinstance(table, dict):
        raise DataError(f"{where}: found {table!r}; wanted a table")
    for name in table:
        if name not in known:
            hint = f"{nearest(name, known)} (known: {', '.join(known)})"
            raise DataError(f"{where}: unknown {name!r}{hint}")


def _check_text(name: str, text: Any, where: str) -> None:
    """Check that a template uses only plain placeholders, and only known ones."""
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: {name} is {text!r}; wanted a text")
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise DataError(f"{where}: {name} {text!r} cannot be filled in: {error}") from None
    known = ", ".join(f"{{{field}}}" for field in FIELDS[name]) or "none"
    for _, field, form, conversion in parts:
        if field is not None and (field not in FIELDS[name] or form or conversion):
            raise DataError(
                f"{where}: unknown field {{{field}}} in {name} {text!r}; known: {known}"
            )
