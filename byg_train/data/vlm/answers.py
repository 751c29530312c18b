"""Extract the requested texts from a model's answer, however it wrapped them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..text_rules import ERROR, violations
from .edit_types import Offer, known_type

EDIT_FIELDS = ("edit_type", "src_caption", "instruction", "tgt_caption", "reverse_instruction")
# Other names that models give to our fields.
ALIASES = {
    "type": "edit_type",
    "edit": "instruction",
    "edit_instruction": "instruction",
    "source_caption": "src_caption",
    "target_caption": "tgt_caption",
    "inverse_instruction": "reverse_instruction",
    "description": "caption",
}
# Bounds on the work that a hostile answer can cause, far above what real answers need: braces that
# open no JSON, and characters that json_repair may read.
BRACES, REPAIRABLE = 1000, 8000
# Characters of an answer that an error message quotes.
QUOTED = 60


class AnswerError(ValueError):
    """An answer that cannot be used; the message is fit to be shown to the model."""


def read_edit(text: str, cut: bool, offer: Offer) -> dict[str, str]:
    """Read the five texts of appendix D.1 from an answer.

    Args:
        text: the unparsed answer, thoughts and prose included.
        cut: whether the token limit truncated it.
        offer: the edit types that the model could choose from.
    """
    fields = read_fields(text, cut, EDIT_FIELDS)
    kind = known_type(fields["edit_type"])
    if kind not in offer.types:
        allowed = " or ".join(offer.types)
        raise AnswerError(f"edit_type is {fields['edit_type'][:QUOTED]!r}; wanted {allowed}")
    fields["edit_type"] = kind
    if fields["src_caption"].casefold() == fields["tgt_caption"].casefold():
        raise AnswerError("src_caption and tgt_caption are equal")
    for v in violations(fields, kind):
        if v.level == ERROR:
            raise AnswerError(f"{v.field} says {v.words!r}; wanted {v.wanted}")
    return fields


def read_clip(text: str, cut: bool, styles: Sequence[str]) -> dict[str, str]:
    """Read the caption of a clip and, if `styles` are given, its style among them."""
    fields = read_fields(text, cut, ("caption", "style") if styles else ("caption",))
    if styles:
        known = {_letters(style): style for style in styles}
        if _letters(fields["style"]) not in known:
            allowed = " or ".join(styles)
            raise AnswerError(f"style is {fields['style'][:QUOTED]!r}; wanted {allowed}")
        fields["style"] = known[_letters(fields["style"])]
    return fields


def read_fields(text: str, cut: bool, names: Sequence[str]) -> dict[str, str]:
    """Read the named texts from the last object in an answer that has all of them.

    The last one counts because models correct themselves, and some repeat the question first.
    """
    said = spoken(text)
    candidates = [_named(found) for found in _objects(said)]
    whole = [found for found in candidates if all(name in found for name in names)]
    if not whole and not cut:
        # Never repair a truncated answer: that would invent its end.
        candidates = [_named(found) for found in _repaired(said)] or candidates
        whole = [found for found in candidates if all(name in found for name in names)]
    if whole:
        return {name: _text(name, whole[-1][name]) for name in names}
    if cut:
        raise AnswerError("it was too long and was cut off; be brief")
    if not candidates:
        raise AnswerError(f"it has no JSON object: {_excerpt(said)}")
    lacking = ", ".join(name for name in names if name not in candidates[-1])
    raise AnswerError(f"the JSON object lacks {lacking}")


def spoken(text: str) -> str:
    """The answer without the thoughts before it; their opening tag may be in the prompt."""
    for tag in ("think", "thinking"):
        text = text.rpartition(f"</{tag}>")[2].partition(f"<{tag}>")[0]
    return text


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield every valid JSON object in a text in order, also inside fences, lists and wrappers."""
    decoder = json.JSONDecoder(strict=False)  # line breaks inside of texts are common
    at, vain = text.find("{"), 0
    while at >= 0 and vain < BRACES:
        try:
            value, end = decoder.raw_decode(text, at)
            yield from _within(value)
        except (ValueError, RecursionError):
            end, vain = at + 1, vain + 1
        at = text.find("{", end)


def _repaired(text: str) -> list[dict[str, Any]]:
    """Repair JSON with wrong quotes or commas whose last brace is present; list its objects."""
    import json_repair

    start, end = text.find("{"), text.rfind("}") + 1
    if not 0 <= start < end <= start + REPAIRABLE:
        return []
    # With text behind it and an open quotation mark before it, the brace is part of a cut text.
    if text[end:].strip() and re.sub(r"\\.", "", text[start:end]).count('"') % 2:
        return []
    try:
        return list(_within(json_repair.loads(text[start:end])))
    except (ValueError, RecursionError):
        return []


def _within(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a decoded value, nested ones after those that contain them."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left += reversed(value.values())
        elif isinstance(value, list):
            left += reversed(value)


def _named(found: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the fields of an object to the names that we ask for."""
    plain = {str(k).strip().casefold().replace(" ", "_").replace("-", "_"): v
             for k, v in found.items()}  # fmt: skip
    return {ALIASES.get(name, name): value for name, value in plain.items()} | {
        name: value for name, value in plain.items() if name not in ALIASES
    }


def _text(name: str, value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise AnswerError(f"{name} is {json.dumps(value)[:QUOTED]}; wanted a text")
    # No control characters and no halves of characters, which no file could hold.
    text = " ".join("".join(c for c in " ".join(value.split()) if c.isprintable()).split())
    if not text:
        raise AnswerError(f"{name} is empty")
    return text


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _excerpt(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat[:QUOTED] + "..." if len(flat) > QUOTED else flat)
