"""What a base of the wide world draws: what its captions say, and all else by lot?

    python -m tools.world.show_wide runs/wide/base --output runs/wide/base.png

Every caption is drawn several times, from other noise. Of each picture the subject, its place and
whether it is mirrored are found by the nearest true drawing.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
from PIL import Image

from byg_train.media.grid import labelled_grid
from byg_train.media.pixels import from_unit
from byg_train.media.writer import write_picture
from byg_train.world.judge import Frames
from byg_train.world.scenes import Scene, caption, is_symmetric
from byg_train.world.wide import KIND, KNOWN, PLACES, random_scene
from byg_train.world.wide_demo import WIDE

from .lots import base_scene
from .show import open_editor, sample, shows_ground, shows_style

SHOWN = 12  # captions of the picture


def found(asked: Scene, out: Frames) -> Scene:
    """The scene that was drawn: the nearest over all that the caption may leave open."""
    scenes = (
        replace(asked, subject=subject, place=place, mirrored=mirrored)
        for subject, place, mirrored in product(KNOWN, PLACES, (False, True))
    )
    return min(scenes, key=lambda scene: float(((out - WIDE.drawn(scene)) ** 2).sum()))


def share(truths: Sequence[bool]) -> str:
    return f"{np.mean(truths):.1%} of {len(truths)}"


def summary(asked: Sequence[Scene], outs: Sequence[Frames], each: int) -> str:
    """How often pictures are as asked, and how much they vary in the rest."""
    drawn = [found(*pair) for pair in zip(asked, outs, strict=True)]
    named = [(a, d) for a, d in zip(asked, drawn, strict=True) if not a.called]
    kinds = [(a, d) for a, d in zip(asked, drawn, strict=True) if a.called]
    pairs = [
        pair
        for first in range(0, len(drawn), each)
        for pair in combinations(drawn[first : first + each], 2)
    ]
    places = Counter(scene.place for scene in drawn)
    lines = {
        "asked ground": share(list(map(shows_ground, [WIDE] * len(asked), asked, outs))),
        "asked style": share(list(map(shows_style, [WIDE] * len(drawn), drawn, outs))),
        "asked subject, when named": share([a.subject == d.subject for a, d in named]),
        "asked kind, when only told that": share([a.called == KIND[d.subject] for a, d in kinds]),
        "subjects among those": f"{len({d.subject for _, d in kinds})} of {len(KNOWN)}",
        "mirrored, of what has two sides": share(
            [scene.mirrored for scene in drawn if not is_symmetric(scene)]
        ),
        "at each place": ", ".join(str(places[place]) for place in PLACES),
        "two of one caption at other places": share([a.place != b.place for a, b in pairs]),
        "two of one kind are other subjects": share(
            [a.subject != b.subject for a, b in pairs if a.called]
        ),
    }
    return "\n".join(f"{name}: {text}" for name, text in lines.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--captions", type=int, default=32)
    parser.add_argument("--each", type=int, default=8, help="pictures of each caption")
    args = parser.parse_args()
    rng = random.Random(0)
    scenes = [base_scene(rng, draw_lot=random_scene) for _ in range(args.captions)]
    asked = [scene for scene in scenes for _ in range(args.each)]
    editor = open_editor("demo", [f"model.path={args.base}"])
    outs = sample(editor, WIDE, asked)
    print(summary(asked, outs, args.each))
    cells = [Image.fromarray(from_unit(out[0])) for out in outs]
    rows = [cells[i : i + args.each] for i in range(0, SHOWN * args.each, args.each)]
    labels = [caption(scene) for scene in scenes[:SHOWN]]
    write_picture(args.output, labelled_grid(rows, [""] * args.each, labels, cell=96))


if __name__ == "__main__":
    main()
