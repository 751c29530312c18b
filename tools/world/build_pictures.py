"""Build `pictures/*.webp` from three public emoji packages (needs npm once, and resvg-py).

    npm pack @lobehub/fluent-emoji-3d@1.1.0 @lobehub/fluent-emoji-flat@1.1.0 \
             @iconify-json/fluent-emoji-high-contrast@1.2.6 emoji-datasource@16.0.0
    for f in *.tgz; do mkdir -p ${f%.tgz} && tar xzf $f -C ${f%.tgz}; done
    python -m tools.world.build_pictures FOLDER
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

from byg_train.family import WORLD
from byg_train.world.names import SHORT_NAME

CELL = 48
PICTURES = WORLD / "pictures"


def _square(picture: Image.Image) -> Image.Image:
    """Crop to what is drawn, pad to a square, shrink to one cell."""
    picture = picture.crop(picture.getchannel("A").getbbox())
    side = max(picture.size)
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.resize((CELL, CELL), Image.Resampling.LANCZOS)


def _svg(text: str) -> Image.Image:
    import resvg_py

    return Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=text, width=256))).convert("RGBA")


def _ink(glyph: Image.Image) -> Image.Image:
    """Black ink on a white sticker: holes that the outline encloses become paper."""
    alpha = ImageChops.add(glyph.getchannel("A"), Image.new("L", glyph.size))
    padded = Image.new("L", (glyph.width + 2, glyph.height + 2))
    padded.paste(alpha.point(lambda a: 255 if a > 60 else 0), (1, 1))
    ImageDraw.floodfill(padded, (0, 0), 128)
    outside = padded.crop((1, 1, glyph.width + 1, glyph.height + 1)).point(
        lambda v: 255 if v == 128 else 0
    )
    sticker = Image.new("RGBA", glyph.size, (250, 250, 250, 255))
    sticker.paste((20, 20, 22, 255), mask=alpha)
    sticker.putalpha(ImageChops.lighter(ImageChops.invert(outside), alpha))
    return sticker


def _find(folder: Path, codes: tuple[str, ...], suffix: str) -> Path:
    return next(p for c in codes if (p := folder / f"{c}{suffix}").exists())


def build(source: Path) -> None:
    """Write one lossless atlas per style: a row of cells in the order of `SHORT_NAME`."""
    datasource = json.loads((source / "emoji-datasource-16.0.0/package/emoji.json").read_text())
    code = {}
    for entry in datasource:
        full = entry["unified"].lower()
        code[entry["short_name"]] = (full, full.replace("-fe0f", ""))
    ink = source / "iconify-json-fluent-emoji-high-contrast-1.2.6/package"
    slug, icons = (json.loads((ink / f).read_text()) for f in ("chars.json", "icons.json"))
    atlases: dict[str, list[Image.Image]] = {"3d": [], "flat": [], "ink": []}
    for short in SHORT_NAME.values():
        codes = code[short]
        three = source / "lobehub-fluent-emoji-3d-1.1.0/package/assets"
        flat = source / "lobehub-fluent-emoji-flat-1.1.0/package/assets"
        atlases["3d"].append(_square(Image.open(_find(three, codes, ".webp")).convert("RGBA")))
        atlases["flat"].append(_square(_svg(_find(flat, codes, ".svg").read_text())))
        body = icons["icons"][next(slug[c] for c in codes if c in slug)]["body"]
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{body}</svg>'
        atlases["ink"].append(_square(_ink(_svg(svg.replace("currentColor", "#000")))))
    PICTURES.mkdir(exist_ok=True)
    for style, cells in atlases.items():
        columns = 16
        sheet = Image.new("RGBA", (CELL * columns, CELL * -(-len(cells) // columns)))
        for i, cell in enumerate(cells):
            sheet.paste(cell, (CELL * (i % columns), CELL * (i // columns)))
        sheet.save(PICTURES / f"{style}.webp", lossless=True, method=6, exact=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
