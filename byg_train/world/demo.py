"""The demos: the tiny world's training sets as files, and what a LoRA does on held-out names.

python -m byg_train.world.demo RUN [--queries 100] [--flowedit]     measures a run again
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ..config import ConfigError, read_settings
from ..data.manifest import write_manifest
from ..family import family_of, registry
from ..files import atomic
from ..media.writer import LOSSLESS, write_clip
from ..progress import Progress
from . import clips, scenes
from .judge import CLIPS, PICTURES, Judge, between_styles
from .names import HELD_OUT, SUBJECTS
from .report import report

# Of so many labels, the judge's first, there is an item of split `test` each.
LOOKED_AT = 4
# Names that neither the base of clips nor the report's queries know.
STRANGE = tuple(name for name in SUBJECTS if name not in (*clips.KNOWN, *HELD_OUT))


@dataclass(frozen=True)
class Demo:
    """A training set of the tiny world, and who judges what was learned from it."""

    judge: Judge
    suffix: str  # of its files
    items: int
    # What is trained on: (edit type, source style, target style, share); None is any.
    shares: tuple[tuple[str, str | None, str | None, float], ...]
    training_edit: Callable[[random.Random, str], Any]

    def prepare(
        self, folder: Path, items: int | None = None, seed: int = 0, *, pairs: bool = False
    ) -> Path:
        """Render the training set into a folder: files without loss and metadata.jsonl, unpaired.

        The base has never seen what an item leads to. The few items of split `test` show held-out
        names and are only looked at. With `pairs` the true targets are there too: for the
        supervised baseline alone, in a folder of its own.
        """
        if (folder / "metadata.jsonl").exists():
            if not self.drew(folder):
                raise ConfigError(
                    f"{folder} holds other types of edit than this preset draws, as an older "
                    "version did: remove it, or choose another folder"
                )
            return folder
        rng, rows, items = random.Random(seed), [], items or self.items
        todo = [part[:3] for part in self.shares for _ in range(round(items * part[3]))]
        with atomic(folder) as temporary, Progress(len(todo), "drawing") as progress:
            temporary.mkdir()
            for kind, before, after in todo:
                edit = self.draw_lot(rng, kind, before, after)
                rows.append(self.write_item(temporary, len(rows), edit))
                if pairs:
                    rows[-1]["target_file_name"] = self._write_target(temporary, rows[-1], edit)
                progress.advance()
            for label in [*self.judge.labels][:LOOKED_AT]:
                edit = self.judge.query(rng, label)
                rows.append(self.write_item(temporary, len(rows), edit, "test"))
            write_manifest(temporary, rows)
        return folder

    def drew(self, folder: Path) -> bool:
        """Whether what was drawn into a folder has no other types of edit than this demo."""
        lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        drawn = {json.loads(line)["edit_type"] for line in lines if '"train"' in line}
        return drawn <= {part[0] for part in self.shares}

    def prepare_probe(self, folder: Path, each: int) -> Path:
        """Render so many edits of every label, of known names, with their true targets."""
        if (folder / "metadata.jsonl").exists():
            return folder
        rows = []
        with atomic(folder) as temporary:
            temporary.mkdir()
            for label in self.judge.labels:
                rng = random.Random(f"1 {label}")
                for _ in range(each):
                    edit = self.judge.query(rng, label, self.judge.world.KNOWN)
                    row = self.write_item(temporary, len(rows), edit)
                    rows.append(row | {"edit_type": label})
                    rows[-1]["target_file_name"] = self._write_target(temporary, row, edit)
            write_manifest(temporary, rows)
        return folder

    def draw_lot(self, rng: random.Random, kind: str, before: str | None, after: str | None) -> Any:
        """A training edit from one style to another."""
        return between_styles(lambda: self.training_edit(rng, kind), before, after)

    def write_item(
        self, folder: Path, index: int, edit: Any, split: str = "train"
    ) -> dict[str, str]:
        """Write the source's file; returns the manifest's row."""
        name = f"{index:05d}{self.suffix}"
        self._write(folder / name, edit.source)
        return {
            "file_name": name,
            "src_caption": self.judge.caption(edit.source),
            "tgt_caption": self.judge.caption(edit.target),
            "instruction": edit.instruction,
            "reverse_instruction": edit.reverse_instruction,
            "edit_type": edit.edit_type,
            "split": split,
        }

    def _write_target(self, folder: Path, row: dict[str, str], edit: Any) -> str:
        name = f"targets/{row['file_name']}"
        (folder / "targets").mkdir(exist_ok=True)
        self._write(folder / name, edit.target)
        return name

    def _write(self, path: Path, scene: Any) -> None:
        frames = self.judge.levels(scene)
        if len(frames) == 1:
            Image.fromarray(frames[0]).save(path)
        else:
            # Halved chroma, as clips for players have it, would blur colours of so few pixels.
            write_clip(path, frames, Fraction(clips.FPS), codec=LOSSLESS)


def _clip_lot(rng: random.Random, kind: str) -> scenes.Edit:
    """Grounds and colours need no knowledge of the subject, and any subject teaches to keep it."""
    if kind != "style" and rng.random() < 0.5:
        return clips.random_edit(rng, kind, STRANGE)
    return clips.training_edit(rng, kind)


def equally_shared(demo: Demo) -> Demo:
    """The same demo with as many items of every label.

    What is added, removed or replaced is small: learned late, and where it is rare not at all.
    """
    labels = demo.judge.labels.values()
    return replace(demo, shares=tuple((*label, 1 / len(labels)) for label in labels))


OF_PICTURES = Demo(
    PICTURES,
    ".png",
    1600,
    (
        ("background", None, None, 0.2),
        ("style", "3d", "ink", 0.26),
        ("style", "ink", "3d", 0.2),
        ("style", "flat", "ink", 0.03),
        ("style", "ink", "flat", 0.03),
        ("colour", None, None, 0.16),
        ("add", None, None, 0.04),
        ("remove", None, None, 0.04),
        ("replace", None, None, 0.04),
    ),
    scenes.training_edit,
)
OF_CLIPS = Demo(
    CLIPS,
    ".mp4",
    500,
    (
        ("background", None, None, 0.3),
        ("style", "3d", "ink", 0.2),
        ("style", "ink", "3d", 0.2),
        ("style", "flat", "ink", 0.03),
        ("style", "ink", "flat", 0.03),
        ("colour", None, None, 0.24),
    ),
    _clip_lot,
)
# What can be learned in the minutes of a demo, when nothing else is.
FIRST = ("background", "add", "remove")
# Every embedded base has one: preset -> all types of edit in its world, on which studies compare.
WHOLE = {
    preset: OF_CLIPS if family.is_video else OF_PICTURES
    for family in registry().values()
    if family.embedded
    for preset in (family.embedded.preset, *family.embedded.more_presets)
} | {
    "demo_long": equally_shared(OF_PICTURES),
    "demo_video_long": replace(equally_shared(OF_CLIPS), items=OF_PICTURES.items),
}
# Preset -> what it draws, trains on and is measured by.
DEMOS = WHOLE | {"demo": equally_shared(replace(OF_PICTURES, judge=PICTURES.only(*FIRST)))}


def demo_of(run: Path) -> Demo:
    """The demo that a run is one of; of a run on other data, all edits in its base's world."""
    settings = read_settings(run / "config.toml")
    demo, data = DEMOS.get(settings["preset"]), run / "data"
    if demo and (data / "metadata.jsonl").exists() and demo.drew(data):
        return demo
    return WHOLE[family_of(settings["model"]["family"]).embedded.preset]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--queries", type=int, default=100, help="edits of each type")
    parser.add_argument("--flowedit", action="store_true", help="measure FlowEdit as well")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.queries < 1:
        parser.error("--queries: wanted at least 1")
    try:
        judge = demo_of(args.run).judge
    except ConfigError as error:
        parser.exit(1, f"error: {error}\n")
    report(args.run, judge, args.device, args.queries, flowedit=args.flowedit)


if __name__ == "__main__":
    main()
