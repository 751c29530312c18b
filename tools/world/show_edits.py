"""Draw a held-out edit of each type: sources, what LoRAs make of them, and the truth.

    python -m tools.world.show_edits LORA ... --output docs/pictures/edits.png

Unselected: of the edits that the tables measure, the first of each type on a square picture.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from PIL import Image

from byg_train.media.grid import labelled_grid
from byg_train.media.pixels import from_unit
from byg_train.media.writer import write_picture
from byg_train.world.judge import PICTURES, Frames
from byg_train.world.report import Methods
from byg_train.world.scenes import SIZE, Edit


def first_square(label: str) -> Edit:
    """The first edit of a type, as `Judge.measure` draws them, whose picture is square."""
    rng = random.Random(f"1 {label}")
    while (edit := PICTURES.query(rng, label)).source.canvas != (SIZE, SIZE):
        pass
    return edit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lora", type=Path, nargs="+")
    parser.add_argument("--names", nargs="+", help="what their rows are called; else their files")
    parser.add_argument("--flowedit", action="store_true", help="a row of FlowEdit's")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    edits = [first_square(label) for label in PICTURES.labels]
    methods = [Methods(lora) for lora in args.lora]
    names = args.names or [lora.stem for lora in args.lora]
    rows: dict[str, list[Frames]] = {"source": [PICTURES.drawn(e.source) for e in edits]}
    rows |= {name: of.edit("", edits) for name, of in zip(names, methods, strict=True)}
    if args.flowedit:
        rows["FlowEdit"] = methods[0].flowedit("", edits)
    rows["true edit"] = [PICTURES.drawn(e.target) for e in edits]
    pictures = [[Image.fromarray(from_unit(f[0])) for f in row] for row in rows.values()]
    sheet = labelled_grid(pictures, [e.instruction for e in edits], list(rows), cell=144)
    write_picture(args.output, sheet)


if __name__ == "__main__":
    main()
