"""Labelled picture grids. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, EDGE = (250, 249, 246), (43, 43, 48), (214, 212, 206)
# Pictures at least so many times smaller than a cell are enlarged in crisp pixels.
CRISP = 2


def labelled_grid(
    rows: Sequence[Sequence[Image.Image]],
    columns: Sequence[str],
    row_labels: Sequence[str] | None = None,
    cell: int = 192,
) -> Image.Image:
    """A grid with `columns` above, `row_labels` on the left, and one picture per cell.

    Pictures keep their aspect within cell x cell pixels. Labels of any length are wrapped; a row
    grows where its label is taller than its pictures.
    """
    _check(rows, columns, row_labels)
    gap, size = max(4, cell // 16), max(11, cell // 12)
    font = ImageFont.load_default(size)
    fitted = [[_fitted(picture, cell) for picture in row] for row in rows]
    heads = [_wrapped(text, font, cell) for text in columns]
    sides = [_wrapped(text, font, cell) for text in row_labels or [""] * len(rows)]
    indent = max(round(font.getlength(line)) for text in sides for line in text.split("\n"))
    left = gap + (indent + gap if indent else 0)
    top = gap + max(_height(text, font) for text in heads) + gap * 3 // 4
    heights = [
        max(_height(text, font), *(picture.height for picture in row))
        for text, row in zip(sides, fitted, strict=True)
    ]
    width = left + len(columns) * (cell + gap)
    sheet = Image.new("RGB", (width, top + sum(heights) + gap * len(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, text in enumerate(heads):
        at = (left + i * (cell + gap) + cell // 2, top - gap * 3 // 4)
        pen.text(at, text, INK, font, anchor="md", align="center")
    for text, row, height in zip(sides, fitted, heights, strict=True):
        pen.text((gap, top + height // 2), text, INK, font, anchor="lm")
        for i, picture in enumerate(row):
            x = left + i * (cell + gap) + (cell - picture.width) // 2
            _place(sheet, picture, x, top + (height - picture.height) // 2)
        top += height + gap
    return sheet


def _check(
    rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], labels: Sequence[str] | None
) -> None:
    if not rows or not columns:
        raise ValueError("a grid needs at least one row and one column")
    for i, row in enumerate(rows):
        if len(row) != len(columns):
            raise ValueError(f"row {i} has {len(row)} pictures for {len(columns)} columns")
    if labels is not None and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} row labels for {len(rows)} rows")


def _place(sheet: Image.Image, picture: Image.Image, x: int, y: int) -> None:
    """Paste a picture with a hairline around it, so that the edge of a white one is visible."""
    sheet.paste(picture, (x, y))
    edge = (x - 1, y - 1, x + picture.width, y + picture.height)
    ImageDraw.Draw(sheet).rectangle(edge, outline=EDGE)


def _fitted(picture: Image.Image, cell: int) -> Image.Image:
    """Scale a picture to the cell, its aspect kept; tiny ones are enlarged pixel by pixel."""
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    method = Image.Resampling.NEAREST if scale >= CRISP else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize(size, method)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text` in lines of at most `width` pixels; a word that is longer than a line is cut."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def _height(text: str, font: ImageFont.FreeTypeFont) -> int:
    pen = ImageDraw.Draw(Image.new("L", (1, 1)))
    return round(pen.textbbox((0, 0), text, font, anchor="la")[3])
