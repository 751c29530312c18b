"""The methods that are compared: the LoRA, and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..config import ConfigError
from ..family import family_of
from ..media import MediaError
from ..media.pictures import opened_whole
from .clip import ClipToEdit, open_clip
from .editor import Editor
from .flowedit import FlowEditSettings, edit_by_flowedit
from .opening import EditModel
from .picture import PictureToEdit

# Method -> the texts of an edit that it is given. A copy of the source needs no model either.
METHODS = {
    "lora": ("instruction",),
    "flowedit": ("src_caption", "tgt_caption"),
    "text-to-image": ("tgt_caption",),
    "copy": (),
}


def open_source(path: Path, model: EditModel) -> PictureToEdit | ClipToEdit:
    """A picture or clip as the model sees it."""
    if family_of(model.info.family).is_video:
        return ClipToEdit(open_clip(path, model.info), model.info)
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
