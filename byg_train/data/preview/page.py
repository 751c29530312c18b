"""The preview page of a data set: files, texts, problems, and what is excluded.

It is one HTML file without external resources. It loads its media from the server that serves it,
or contains them.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...media.clips import frames, probe
from ...media.fit import Size
from ...media.formats import CLIPS, Formats
from ...media.reader import read_picture
from ...media.writer import clip_bytes
from ..check import Finding, Report
from ..excluded import HEAD, Entry, file_key
from ..findings import DUPLICATE
from ..rows import TEXTS
from ..rule_codes import UNREADABLE

PAGE = Path(__file__).with_name("preview.html")
# No external resources, and no script but the page's own, whatever a caption contains.
POLICY = (
    "default-src 'none'; img-src 'self' data:; media-src 'self' data:; "
    "style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; script-src 'sha256-{hash}'"
)
# Longest sides in pixels: on a card of the page, and in the view of a single file.
THUMB, FULL = 480, 1600
QUALITY = 80
# Longest side, seconds and frames per second of a clip, for the same two sizes.
CLIP_SIDE = {THUMB: 400, FULL: 960}
SECONDS = {THUMB: 5, FULL: 20}
RATE = {THUMB: 12, FULL: 30}


def pictures(report: Report) -> list[dict[str, Any]]:
    """List every file of a data set with its tuples and the findings about either."""
    by_file: dict[str, dict[str, Any]] = {}
    tuples: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in report.rows:
        name = row.fields.get("file_name")
        if not isinstance(name, str) or not name.strip():
            continue
        key = file_key(name, report.root)
        own = by_file.setdefault(key, {"file": key, "problems": [], "edits": []})
        texts = {n: text for n in TEXTS if isinstance(text := row.fields.get(n), str)}
        edit = {
            "texts": texts,
            "kind": str(row.fields.get("edit_type") or ""),
            "split": str(row.fields.get("split") or "train"),
            "problems": [],
        }
        if texts:
            own["edits"].append(edit)
            tuples.setdefault((row.where, texts.get("instruction", "")), []).append(edit)
    for finding in report.findings:
        _attach(finding, by_file.get(file_key(finding.file_name, report.root)), tuples)
    return list(by_file.values())


def _attach(
    finding: Finding,
    picture: dict[str, Any] | None,
    tuples: dict[tuple[str, str], list[dict[str, Any]]],
) -> None:
    """Attach a finding to its tuple, or to the file if it is about the file."""
    if not finding.file_name or picture is None:
        return
    edits = tuples.get((finding.where, finding.instruction), [])
    about_picture = finding.rule in (UNREADABLE, DUPLICATE)
    problem = {
        name: getattr(finding, name) for name in ("rule", "level", "found", "wanted", "field")
    }
    if finding.length and edits:
        text = edits[0]["texts"][finding.field]
        # JavaScript counts UTF-16 code units.
        problem["at"] = _utf16(text[: finding.start])
        problem["length"] = _utf16(text[finding.start : finding.start + finding.length])
    if finding.other:
        problem["other"] = finding.other
    for owner in [picture] if about_picture or not edits else edits:
        if problem not in owner["problems"]:
            owner["problems"].append(problem)


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def page(
    report: Report,
    excluded: set[Entry],
    *,
    served: bool,
    addresses: Callable[[int, str], dict[str, str]],
) -> str:
    """Render the page.

    Args:
        report: the data set with its findings, including excluded tuples.
        excluded: the entries of excluded.txt.
        served: whether a server stores decisions; otherwise the page offers them as a download.
        addresses: maps index and name of a readable file to its `thumb` and `full` addresses.
    """
    shown = pictures(report)
    shown_files = {p["file"] for p in shown}
    for index, picture in enumerate(shown):
        if facts := report.facts.get(picture["file"]):
            picture.update(width=facts.width, height=facts.height)
            if facts.clip:
                picture["length"] = f"{float(facts.clip.duration):.1f} s, {facts.clip.fps:.4g} fps"
            picture.update(addresses(index, picture["file"]))
    data = {
        "title": report.root.resolve().name,
        "root": report.root.name,
        "many": report.kind.many,
        "moving": report.kind is CLIPS,
        "served": served,
        "head": HEAD,
        "excluded": sorted(name if text is None else f"{name}\t{text}" for name, text in excluded),
        "notes": [
            {"where": f.where, "found": f.found, "wanted": f.wanted}
            for f in report.findings
            if file_key(f.file_name, report.root) not in shown_files
        ],
        "pictures": shown,
    }
    # The browser stores decisions under a key that is unique to this set and its texts.
    text = [data["excluded"], [[p["file"], [e["texts"] for e in p["edits"]]] for p in shown]]
    digest = hashlib.sha256(json.dumps([str(report.root.resolve()), text]).encode()).hexdigest()
    return filled({**data, "key": f"byg {digest[:24]}"})


def filled(data: dict[str, Any]) -> str:
    """Fill the template; no text can break out of the script block that contains it."""
    text = PAGE.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    inert = json.dumps(data).replace("<", "\\u003c")
    for name, value in (
        ("@POLICY@", POLICY.format(hash=digest)),
        ("@TITLE@", f"{html.escape(data['title'], quote=False)}: preview"),
        ("@DATA@", inert),
    ):
        text = text.replace(name, value, 1)
    return text


def inside(
    report: Report, on_file: Callable[[], None] = lambda: None
) -> Callable[[int, str], dict[str, str]]:
    """Return data URLs for a page that contains its media; `on_file` is called for each."""

    def addresses(index: int, name: str) -> dict[str, str]:
        on_file()
        mime, data = thumbnail(report.root / name, THUMB, report.kind)
        return {"thumb": f"data:{mime};base64,{base64.b64encode(data).decode()}"}

    return addresses


def thumbnail(path: Path, side: int, kind: Formats) -> tuple[str, bytes]:
    """MIME type and bytes of a file that opens; `side` is THUMB or FULL, nothing is enlarged."""
    return _clip_thumbnail(path, side) if kind is CLIPS else _picture_thumbnail(path, side)


def _picture_thumbnail(path: Path, side: int) -> tuple[str, bytes]:
    """Encode as WebP, at most `side` pixels on the longer side."""
    copy = read_picture(path, at_least=Size(2 * side, 2 * side))
    tiny = max(copy.size) <= side
    copy.thumbnail((side, side))
    out = BytesIO()
    copy.save(out, "WEBP", lossless=tiny and max(copy.size) <= THUMB, quality=QUALITY)
    return "image/webp", out.getvalue()


def _clip_thumbnail(path: Path, side: int) -> tuple[str, bytes]:
    """Encode the beginning of a clip as WebM, without sound."""
    facts = probe(path)
    rate = min(Fraction(RATE[side]), facts.frames / facts.duration).limit_denominator(1001)
    count = min(facts.frames_at(rate), round(SECONDS[side] * rate))
    scale = min(1.0, CLIP_SIDE[side] / max(facts.width, facts.height))
    size = [max(2, round(s * scale) // 2 * 2) for s in (facts.width, facts.height)]
    pictures = map(Image.fromarray, frames(path, rate, 0, count))
    copies = (p.resize(size, Image.Resampling.BILINEAR, reducing_gap=2) for p in pictures)
    return "video/webm", clip_bytes(map(np.asarray, copies), rate)
