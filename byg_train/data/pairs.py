"""Check that items have what an objective needs: true edits, or all four texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..config import TrainConfig
from ..media.formats import Formats
from . import DataError, Problem, Row, counted
from .items import Dataset, Item, check_files
from .media_kind import kind_of
from .names import leads_out
from .rows import DIFFER, TEXTS, data_folder, equal_captions
from .rule_codes import EQUAL_CAPTIONS, MISSING_FIELD, NO_FILE, OUTSIDE

FIELD = "target_file_name"


def for_objective(data: Dataset, config: TrainConfig, multiple: int) -> Dataset:
    """The data as `method.objective` trains on it; DataError with every item that cannot be used.

    Supervised items get their `target`: the file that the row's `target_file_name` names, trained
    on in the source's bucket. Rows with one may leave out captions and reverse instruction, which
    unpaired training needs, of held-out items too.
    """
    pairs = config.method.needs_pairs
    check = _targets(config, multiple) if pairs else _texts
    ready, problems = {}, []
    for item in dict.fromkeys(data.train if pairs else [*data.train, *data.test]):
        checked = check(item)
        if isinstance(checked, Problem):
            problems.append(checked)
        else:
            ready[item] = checked
    train = [ready[item] for item in data.train if item in ready]
    test = data.test if pairs else [item for item in data.test if item in ready]
    if problems and (config.data.on_bad_item == "stop" or not train):
        number = counted(len(problems), "item")
        raise DataError(
            f"{number} cannot be trained on with method.objective={config.method.objective}",
            problems,
        )
    parts = [data.fingerprint, *sorted({item.target.digest for item in train if item.target})]
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return replace(
        data,
        train=train,
        test=test,
        problems=[*data.problems, *problems],
        fingerprint=fingerprint if pairs else data.fingerprint,
    )


def _texts(item: Item) -> Item | Problem:
    empty = [name for name in TEXTS if not getattr(item, name)]
    if empty:
        return Problem(item.path.name, f"no {', '.join(empty)}", "all four texts", MISSING_FIELD)
    if equal_captions(item.src_caption, item.tgt_caption):
        found = f"equal captions {item.src_caption!r}"
        return Problem(item.path.name, found, DIFFER, EQUAL_CAPTIONS)
    return item


def _targets(config: TrainConfig, multiple: int) -> Callable[[Item], Item | Problem]:
    root, kind = data_folder(config.data.path), kind_of(config.data)
    known: dict[Path, str | Problem] = {}

    def check(item: Item) -> Item | Problem:
        name = item.target_name
        if not name:
            wanted = "the file of its true edit"
            return Problem(item.path.name, f"no {FIELD}", wanted, MISSING_FIELD)
        path = root / name
        if path not in known:
            known[path] = _inspected(path, name, kind, config, multiple)
        digest = known[path]
        if isinstance(digest, Problem):
            return digest
        # In the source's bucket, whatever its own size.
        return replace(item, target=replace(item, path=path, digest=digest))

    return check


def _inspected(
    path: Path, name: str, kind: Formats, config: TrainConfig, multiple: int
) -> str | Problem:
    """Check a target file; returns the digest of its bytes."""
    if leads_out(name):
        found = f"a {FIELD} that leads out of the data folder"
        return Problem(name, found, "a path inside it", OUTSIDE)
    if not kind.holds(path) or not path.is_file():
        wanted = f"{kind.words}, in the data folder"
        return Problem(name, f"no {kind.one} of that name", wanted, NO_FILE)
    row = Row(name, {"file_name": name})
    facts, problems = check_files([(row, path)], kind, multiple, config.data)
    return problems[0] if problems else facts[path].digest
