"""What servers answer, in the shapes that they give it: texts, parts, thoughts, error pages."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

# Where servers put a model's thoughts, and the words that say that tokens ran out.
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
CUT = ("length", "max_tokens", "max_output_tokens", "MAX_TOKENS")
# Fields of an error's body in which servers speak to people; best first.
SAID = ("message", "msg", "detail", "details", "error", "errors", "error_description", "title")
# Characters of a server's words that a message quotes.
QUOTED = 300
PAGE = re.compile(r"<(script|style|head)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Reply(NamedTuple):
    """A model's answer, unparsed."""

    text: str
    cut: bool  # truncated by the token limit
    asked: int  # tokens of the question, pictures included; 0 if the server does not say
    answered: int  # tokens of the answer, thoughts included


class NoAnswerError(Exception):
    """Raised where one question got no answer; others may still get theirs."""


class RefusedError(NoAnswerError):
    """The server will not answer this question, however often it is asked."""


def read_reply(completion: object) -> Reply:
    """Read the first choice of a completion, any part of which may be absent or of another shape.

    Without a text the thoughts count, which some servers take a whole answer for; not if they were
    cut, since then the model never came to its answer.
    """
    choices, usage = _get(completion, "choices"), _get(completion, "usage")
    first = choices[0] if isinstance(choices, (list, tuple)) and choices else None
    message = _get(first, "message")
    if message is None:
        raise NoAnswerError(f"no chat completion came back: {shortened(_told(completion))!r}")
    cut = _get(first, "finish_reason") in CUT
    text = _text(_get(message, "content")) or _text(_get(message, "refusal"))
    if not text.strip() and not cut:
        text = next(filter(None, (_text(_get(message, name)) for name in THOUGHTS)), "")
    return Reply(text, cut, *(_count(usage, f"{name}_tokens") for name in ("prompt", "completion")))


def server_words(error: object) -> str:
    """What a server said with an error status, in its own words."""
    words = _told(getattr(error, "body", None))
    code = f"error {getattr(error, 'status_code', '')}".strip()
    return shortened(f"{code}: {words}") if words else f"{code}, without a word"


def shortened(text: str) -> str:
    """A text on one line, of a length that fits into a message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= QUOTED else f"{flat[:QUOTED]}..."


def _get(found: object, name: str) -> Any:
    return found.get(name) if isinstance(found, dict) else getattr(found, name, None)


def _text(content: object) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) if isinstance(part, str) else _part(part) for part in content)
    return _part(content)


def _part(part: object) -> str:
    for name in ("text", "value", "content", "refusal"):
        inside = _get(part, name)
        if isinstance(inside, str):
            return inside
        if isinstance(inside, (dict, list)):
            return _text(inside)
    return ""


def _count(usage: object, name: str) -> int:
    number = _get(usage, name)
    return number if isinstance(number, int) and number > 0 else 0


def _told(body: object) -> str:
    """The words in the body of an error, or the whole of it where none are in a known place."""
    if isinstance(body, str):
        return html.unescape(PAGE.sub(" ", body)) if "<" in body else body
    if isinstance(body, (dict, list)):
        return "; ".join(_sentences(body)) or json.dumps(body, default=str)
    return "" if body is None else str(body)


def _sentences(body: dict | list) -> Iterator[str]:
    parts = body if isinstance(body, list) else [body[name] for name in SAID if body.get(name)][:1]
    where = ".".join(map(str, place)) if isinstance(place := _get(body, "loc"), list) else ""
    for part in parts:
        if words := _told(part):
            yield f"{where}: {words}" if where else words
