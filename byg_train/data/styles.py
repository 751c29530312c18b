"""Style folders -> rows: every file is edited into every other style, with templated texts."""

from __future__ import annotations

import logging
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ..config import nearest, read_toml
from ..media.formats import CLIPS, PICTURES, Formats
from . import DataError, Problem, Row
from .media_kind import foreign_folder, holds_foreign_alone, media_files, visible_files
from .names import CaptionError, Captions
from .rule_codes import NO_FILES, REPEATS

log = logging.getLogger("byg_train")
HERE = Path(__file__).parent
# The built-in templates of style folders, by what lies in them.
BUILT_IN = {PICTURES: HERE / "styles.toml", CLIPS: HERE / "styles_clips.toml"}
# The file of a data folder's own templates.
OWN = "styles.toml"
# The edit type of appendix D.1.
STYLE_CHANGE = "style_change"
# How kohya's trainers call a folder: repeats, then what it shows. A longer number is a year.
KOHYA = re.compile(r"(\d{1,3})_(?=.*[^\W\d_])(.+)")
# The placeholders that each template may use.
FIELDS = {"phrase": (), "caption": ("caption", "style"), "instruction": ("style", "from_style")}


class Style(NamedTuple):
    """A style folder and its texts."""

    folder: Path
    phrase: str  # "3d cartoon"
    caption: str  # template
    instruction: str  # template for edits into this style
    repeats: int = 1  # of its files in an epoch, where the folder's name says so

    def tell(self, caption: str) -> str:
        """Fill in the caption of a file in this style."""
        return self.caption.format(caption=caption.rstrip(" .,"), style=self.phrase)

    def ask(self, now: Style) -> str:
        """Fill in the instruction that turns a file in style `now` into this style."""
        return self.instruction.format(style=self.phrase, from_style=now.phrase)


def style_folders(root: Path, kind: Formats) -> tuple[list[Path], list[Problem]]:
    """Find the folders that hold files of a kind; visible ones without any are problems."""
    folders, problems = [], []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if foreign_folder(folder) or holds_foreign_alone(folder):
            continue
        if next(media_files(folder, kind), None):
            folders.append(folder)
            continue
        kinds = Counter(path.suffix.lower() or "unnamed" for path in visible_files(folder))
        files = ", ".join(f"{number} {ending}" for ending, number in sorted(kinds.items()))
        found = f"no {kind.many} (only {files} files)" if files else f"no {kind.many}"
        problems.append(
            Problem(f"{folder.name}/", found, f"{kind.words} files in a style folder", NO_FILES)
        )
    return folders, problems


def style_rows(
    root: Path,
    folders: list[Path],
    templates: Path | None,
    kind: Formats,
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
    styles = load_styles(folders, templates or own_templates(root), kind)
    captions, rows, problems = Captions(), [], []
    for now in styles:
        problems += _repeats(now)
        for path in media_files(now.folder, kind):
            name = path.relative_to(root).as_posix()
            given = stand_in is None or captions.file(path)
            caption = _caption(captions, path, name, problems) if given else stand_in
            if caption:
                rows += [
                    Row(name, restyled(name, caption, now, to)) for to in styles if to is not now
                ]
    return rows, problems


def _repeats(style: Style) -> list[Problem]:
    """Tell how a folder of kohya's is read; its files may not be repeated 0 times."""
    if style.repeats == 0:
        wanted = "1 or more of them, or a name without a number"
        return [Problem(f"{style.folder.name}/", "a name that says 0 repeats", wanted, REPEATS)]
    if KOHYA.fullmatch(style.folder.name) and style.repeats == short_name(style.folder)[1]:
        log.info(
            "%s is read as kohya's trainers do: style %r, every file %s times in an epoch; a table "
            "[styles.%s] in %s gives it another phrase and no repeats",
            style.folder, style.phrase, style.repeats, style.folder.name, OWN,
        )  # fmt: skip
    return []


def style_words(root: Path, name: str, templates: Path | None, kind: Formats) -> Style:
    """The texts of one style folder, which need not exist yet."""
    templates = templates or own_templates(root)
    named = read_toml(templates).get("styles") if templates else None
    names = {name, *(named if isinstance(named, dict) else ())}
    if root.is_dir():
        names |= {folder.name for folder in style_folders(root, kind)[0]}
    styles = load_styles([root / other for other in sorted(names)], templates, kind)
    return next(style for style in styles if style.folder.name == name)


def own_templates(root: Path) -> Path | None:
    """The templates file of a data folder, if it has one."""
    path = root / OWN
    return path if path.is_file() else None


def _caption(captions: Captions, path: Path, name: str, problems: list[Problem]) -> str:
    try:
        return captions.read(path)
    except CaptionError as error:
        wanted = f"a caption in {path.with_suffix(captions.endings[0]).name} beside it"
        problems.append(Problem(name, error.found, wanted, error.rule))
        return ""


def restyled(name: str, caption: str, now: Style, to: Style) -> dict[str, Any]:
    """The tuple that turns a file in style `now` into style `to`."""
    repeats = {} if now.repeats == 1 else {"repeats": now.repeats}
    return {
        "file_name": name,
        "src_caption": now.tell(caption),
        "tgt_caption": to.tell(caption),
        "instruction": to.ask(now),
        "reverse_instruction": now.ask(to),
        "edit_type": STYLE_CHANGE,
        **repeats,
    }


# ---------------------------------------------------------------- templates


def load_styles(folders: list[Path], templates: Path | None, kind: Formats) -> list[Style]:
    """The texts of every folder: built-in templates, overridden by a templates file."""
    built_in = read_toml(BUILT_IN[kind])
    usual = built_in.pop("styles", {})
    own = read_toml(templates) if templates else {}
    where = str(templates or BUILT_IN[kind])
    tables = own.pop("styles", {})
    _known(own, list(built_in), where)
    _known(tables, [n for f in folders for n in dict.fromkeys((f.name, short_name(f)[0]))],
           f"{where} [styles]")  # fmt: skip
    styles = []
    for folder in folders:
        # A person who names the folder in full knows it as a name.
        name, repeats = (folder.name, 1) if folder.name in tables else short_name(folder)
        table, at = tables.get(name, {}), f"{where} [styles.{name}]"
        _known(table, list(FIELDS), at)
        words = {**built_in, **own, "phrase": spaced(name), **usual.get(name, {}), **table}
        for field, text in words.items():
            _check_text(field, text, at if field in table else where)
        styles.append(Style(folder, **words, repeats=repeats))
    for phrase, number in Counter(style.phrase for style in styles).items():
        if number > 1:
            raise DataError(f"{number} style folders are called {phrase!r}; give each a phrase")
    return styles


def short_name(folder: Path) -> tuple[str, int]:
    """The style that a folder is named after, and its repeats: `10_photo` -> `photo`, 10."""
    match = KOHYA.fullmatch(folder.name)
    return (match[2], int(match[1])) if match else (folder.name, 1)


def spaced(name: str) -> str:
    """A folder's name as words: `3d-cartoon` -> `3d cartoon`."""
    return name.replace("-", " ").replace("_", " ")


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
