"""The methods that are compared, the LoRA and baselines, and a folder of one method's results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import ConfigError
from ..family import family_of
from ..files import copy_file, write_json
from ..media import MediaError
from ..media.reader import opened_whole
from ..media.source_clip import open_source_clip
from ..models.backbone import resolve_base
from .editor import Editor
from .flowedit import FlowEditSettings, edit_by_flowedit
from .opening import EditModel
from .sources import ClipToEdit, PictureToEdit, model_fps

# Method -> the texts of an edit that it is given. A copy of the source needs no model either.
METHODS = {
    "lora": ("instruction",),
    "flowedit": ("src_caption", "tgt_caption"),
    "text-to-image": ("tgt_caption",),
    "copy": (),
}
# The file in a folder of results that says how they were made.
ABOUT = "edits.json"


@dataclass(frozen=True)
class Results:
    """A folder of the results of one method."""

    folder: Path
    method: str  # one of METHODS
    model: EditModel | None  # None for copies
    sources: Mapping[str, Path]  # name of a result, without its ending -> the file to edit
    texts: Mapping[str, Sequence[str]]  # by the same names: what METHODS names

    def path(self, name: str) -> Path:
        """The file of a result."""
        if self.model is None:
            return self.folder / f"{name}{self.sources[name].suffix}"
        is_video = family_of(self.model.info.family).is_video
        return self.folder / f"{name}{'.mp4' if is_video else '.png'}"

    def left(self) -> list[str]:
        """The names of the results that are not there."""
        return [name for name in self.sources if not self.path(name).exists()]

    def begin(self, made: dict[str, Any]) -> None:
        """Note how results are `made`; ConfigError if those that are there were made otherwise."""
        about, texts = self.folder / ABOUT, dict(self.texts)
        left = set(self.left())
        if not about.exists() and (there := texts.keys() - left):
            raise ConfigError(
                f"{self.folder} holds {self.path(min(there)).name}, and no {ABOUT} says how it was "
                "made: choose a new folder for the results"
            )
        if about.exists() and len(left) < len(texts):
            record = json.loads(about.read_text(encoding="utf-8"))
            pairs = [(name, record["made"].get(name), value) for name, value in made.items()]
            pairs += [
                (name, record["asked"].get(name, words), words)
                for name, words in texts.items()
                if name not in left
            ]
            for name, before, now in pairs:
                if before != now:
                    raise ConfigError(
                        f"{self.folder} holds results that were made otherwise ({name}: {before} "
                        f"there, {now} now); choose another folder, or delete them"
                    )
            texts = record["asked"] | texts
        write_json(about, {"made": made, "asked": texts})

    def fill(
        self, names: Sequence[str], *, device: str, seed: int, steps: int | None
    ) -> Iterator[Path]:
        """Make some results, and yield each as it is written; `seed` and `steps` as `edit_by`."""
        if self.model is None:
            for name in names:
                yield copy_file(self.sources[name], self.path(name))
            return
        resolve_base(self.model.base)
        editor = self.model.load(device)
        editor.learn(text for name in names for text in self.texts[name])
        for name in names:
            source = open_source(self.sources[name], self.model)
            x = editor.backbone.encode_pixels(source.pixels)
            y = edit_by(self.method, editor, x, self.texts[name], seed, steps)
            source.save(self.path(name), source.result(editor.decoded(y)))
            yield self.path(name)


def open_source(path: Path, model: EditModel) -> PictureToEdit | ClipToEdit:
    """A picture or clip as the model sees it."""
    if family_of(model.info.family).is_video:
        clip = open_source_clip(path, None, model_fps(model.info))
        return ClipToEdit(clip, model.info)
    try:
        return PictureToEdit(opened_whole(path), model.info)
    except MediaError as error:
        raise ConfigError(f"{path} cannot be used: {error}") from None


def edit_by(
    method: str, editor: Editor, x: Tensor, texts: Sequence[str], seed: int, steps: int | None
) -> Tensor:
    """Latents of an edit, like those of the source.

    Args:
        method: one of METHODS, but not the copy.
        editor: has learned the texts.
        x: latents of the source, (1, C, F, h, w).
        texts: what METHODS names.
        seed: seed of the noise.
        steps: of FlowEdit; None: as published. The others sample as the editor's settings say.
    """
    if method == "flowedit":
        src, tgt = texts
        settings = FlowEditSettings.of_family(editor.info.family, steps)
        return edit_by_flowedit(editor, x, [src], [tgt], seed=seed, settings=settings)
    if method == "text-to-image":
        return editor.sample(x, list(texts), seed=seed, role="base")
    return editor.sample(x, list(texts), x, seed=seed)
