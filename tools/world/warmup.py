"""What the shipped warm-up LoRAs learned to copy: pictures of every name but the held-out ones.

    python -m tools.world.warmup FOLDER             [--clips, for the pair of Wan; --wide]

Copying asks nothing of the base, so it need not know the names; and who has seen more of them
copies unknown ones better. The README has the training's command.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from byg_train.data.manifest import write_manifest
from byg_train.files import atomic
from byg_train.world.demo import DEMOS, Demo
from byg_train.world.names import HELD_OUT, SUBJECTS
from byg_train.world.wide_demo import OF_WIDE

ITEMS, CLIPS = 6000, 1500
SEEN = tuple(name for name in SUBJECTS if name not in HELD_OUT)


def write_pictures(folder: Path, items: int = ITEMS, seed: int = 0) -> None:
    """Render sources of random edits, of all types in turn, into a new folder."""
    _write(folder, items, seed, DEMOS["demo"])


def write_wide(folder: Path, items: int = ITEMS, seed: int = 0) -> None:
    """The same, of the wide world."""
    _write(folder, items, seed, OF_WIDE)


def write_clips(folder: Path, items: int = CLIPS, seed: int = 0) -> None:
    """The same, in motion."""
    _write(folder, items, seed, DEMOS["demo_video"])


def _write(folder: Path, items: int, seed: int, demo: Demo) -> None:
    rng, world = random.Random(seed), demo.judge.world
    types = world.EDIT_TYPES
    with atomic(folder) as temporary:
        temporary.mkdir()
        edits = (world.random_edit(rng, types[i % len(types)], SEEN) for i in range(items))
        rows = [demo.write_item(temporary, i, edit) for i, edit in enumerate(edits)]
        write_manifest(temporary, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--clips", action="store_true", help="clips, not pictures")
    other.add_argument("--wide", action="store_true", help="pictures of the wide world")
    args = parser.parse_args()
    (write_clips if args.clips else write_wide if args.wide else write_pictures)(args.folder)


if __name__ == "__main__":
    main()
