"""Latents and text embeddings, encoded once and kept on disk.

An entry's name is the hash of everything that its content depends on: the model's fingerprint, and
either the text, or the file's bytes, the bucket and the segment. So entries never go stale, runs
share them, and two runs may fill one cache at once. An entry gets its name only when it is
complete. Files are not synced to disk: a truncated entry is detected and encoded again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ..config import DataConfig
from ..media import MediaError
from ..media.fit import Size, buckets, nearest_bucket
from ..media.pixels import from_levels
from ..models.backbone import Backbone, Text
from . import DataError
from .items import WORKERS, Item
from .segments import read_segment

# Part of every entry's name; raise it when the same file would be decoded to other pixels.
VERSION = "1"
# Limits of one encoding: the number of items, and the pixels of all their frames (or one item).
AT_ONCE, PIXELS_AT_ONCE = 16, 1 << 20
# Limit in bytes of the pixels that are decoded ahead; a single turn may exceed it.
AHEAD = 256 << 20
# Age in seconds from which on a temporary file counts as abandoned.
STALE = 3600
# Bytes of entries that stay in memory after they are read.
KEPT = 256 << 20


class Turn(NamedTuple):
    """Items of one bucket that are encoded at once."""

    items: list[Item]
    missing: dict[Path, Future[Tensor]]  # entry -> its pixels, being decoded
    size: int  # bytes of these pixels


class Cache:
    """Entries of one model in one folder; several models may share a folder."""

    def __init__(self, folder: Path, backbone: Backbone, config: DataConfig) -> None:
        self.folder, self.backbone = folder, backbone
        aspect = config.max_aspect if config.buckets else 1.0
        self.buckets = buckets(config.resolution, backbone.multiple, aspect)
        self._frames = config.frames
        self._kept: dict[Path, dict[str, Tensor]] = {}
        self._room = KEPT

    def prepare(
        self, items: Sequence[Item], texts: Iterable[str], on_progress: Callable[[int], None]
    ) -> None:
        """Encode what is missing or damaged of all items and of some more texts.

        `on_progress(n)` is called whenever n more items are done; these sum to len(items).
        """
        _remove_stale(self.folder)
        whole: set[Path] = set()
        self._encode_texts(texts, whole)
        pool = ThreadPoolExecutor(WORKERS)
        try:
            for turn in self._turns(items, whole, pool):
                self._encode_texts([text for item in turn.items for text in item.texts], whole)
                self._encode_pixels(turn)
                on_progress(len(turn.items))
        finally:
            pool.shutdown(cancel_futures=True)

    def learn(self, texts: Iterable[str]) -> None:
        """Encode the texts that are missing or damaged."""
        self._encode_texts(texts, set())

    def bucket(self, item: Item) -> Size:
        """The size at which an item is trained."""
        return nearest_bucket(item.width, item.height, self.buckets)

    def by_bucket(self, items: Iterable[Item]) -> dict[Size, list[Item]]:
        """The items of each size, in their order."""
        groups: dict[Size, list[Item]] = {}
        for item in items:
            groups.setdefault(self.bucket(item), []).append(item)
        return groups

    def latents(self, item: Item) -> Tensor:
        """Return the latents of an item, (C, F, h, w), float32."""
        return self._read(self._latents_entry(item), str(item.path))["latents"]

    def text(self, text: str) -> Text:
        """The embeddings of one text, without a batch axis, in the type that the encoders gave."""
        return self._read(self._entry("text", text), repr(text))

    # ------------------------------------------------------------ filling

    def _chunks(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Yield all items, bucket by bucket, as many as may be encoded at once."""
        for size, group in self.by_bucket(items).items():
            number = max(1, min(AT_ONCE, PIXELS_AT_ONCE // self._pixels_of(size)))
            yield from (group[i : i + number] for i in range(0, len(group), number))

    def _pixels_of(self, size: Size) -> int:
        return size.width * size.height * self._frames

    def _turns(
        self, items: Sequence[Item], whole: set[Path], pool: ThreadPoolExecutor
    ) -> Iterator[Turn]:
        """Yield all items in turns; the next turns are decoded while one is encoded."""
        waiting: deque[Turn] = deque()
        for chunk in self._chunks(items):
            entries = {self._latents_entry(item): item for item in chunk}
            missing = sorted(self._missing(entries, whole))
            pixels = {entry: pool.submit(self._pixels, entries[entry]) for entry in missing}
            # Pictures wait as float32, frames of clips in one byte.
            each = 3 * self._pixels_of(self.bucket(chunk[0])) * (4 if self._frames == 1 else 1)
            waiting.append(Turn(chunk, pixels, len(missing) * each))
            while len(waiting) > 1 and (
                not waiting[0].missing or sum(turn.size for turn in waiting) > AHEAD
            ):
                yield waiting.popleft()
        yield from waiting

    def _missing(self, entries: Iterable[Path], whole: set[Path]) -> set[Path]:
        """Return the entries that are missing or damaged; afterwards `whole` holds all of them."""
        missing = {entry for entry in entries if entry not in whole and not _intact(entry)}
        whole.update(entries)
        return missing

    @torch.no_grad()
    def _encode_texts(self, texts: Iterable[str], whole: set[Path]) -> None:
        entries = {self._entry("text", text): text for text in texts}
        missing = sorted(self._missing(entries, whole))
        for i in range(0, len(missing), AT_ONCE):
            batch = missing[i : i + AT_ONCE]
            encoded = self.backbone.encode_text([entries[entry] for entry in batch])
            for row, entry in enumerate(batch):
                _write(entry, {name: tensor[row] for name, tensor in encoded.items()})

    @torch.no_grad()
    def _encode_pixels(self, turn: Turn) -> None:
        if not turn.missing:
            return
        decoded = [future.result() for future in turn.missing.values()]
        parts = [from_levels(p) if p.dtype == torch.uint8 else p for p in decoded]
        pixels = torch.cat(parts) if len(parts) > 1 else parts[0]  # a clip alone is large enough
        latents = self.backbone.encode_pixels(pixels).float()
        for entry, z in zip(turn.missing, latents, strict=True):
            _write(entry, {"latents": z})

    def _pixels(self, item: Item) -> Tensor:
        """Decode an item: (1, 3, F, H, W), float32 in [-1, 1] for a picture, uint8 for a clip."""
        try:
            return read_segment(item.path, item.digest, item.segment, self.bucket(item))
        except (OSError, MediaError) as error:
            raise DataError(f"{item.path}: {error}; start again") from error

    # ------------------------------------------------------------ entries

    def _latents_entry(self, item: Item) -> Path:
        width, height = self.bucket(item)
        part = " {}+{}@{}".format(*item.segment.key) if item.segment.key else ""
        return self._entry("latents", f"{item.digest} {width}x{height}{part}")

    def _entry(self, kind: str, content: str) -> Path:
        key = "\0".join((VERSION, self.backbone.fingerprint, kind, content))
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / name[2:4] / f"{name}.safetensors"

    def _read(self, entry: Path, what: str) -> dict[str, Tensor]:
        if entry in self._kept:
            return self._kept[entry]
        try:
            tensors = load(entry.read_bytes())
        except FileNotFoundError:
            raise DataError(f"the cache {self.folder} lacks {what}; was it prepared?") from None
        except SafetensorError:
            entry.unlink(missing_ok=True)
            raise DataError(
                f"the cache entry of {what} was damaged and is removed; resume the run, and it "
                "is made anew"
            ) from None
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size <= self._room:
            self._room -= size
            self._kept[entry] = tensors
        return tensors


def _intact(entry: Path) -> bool:
    """Whether an entry is there and as long as its header says; a damaged one is removed."""
    try:
        with safe_open(entry, framework="pt"):
            return True
    except FileNotFoundError:
        return False
    except SafetensorError:
        entry.unlink(missing_ok=True)
        return False


def _write(entry: Path, tensors: dict[str, Tensor]) -> None:
    # Another process may write the same entry, even with the same id on another machine.
    temporary = entry.with_name(f"{entry.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        rows = {name: tensor.cpu().clone().contiguous() for name, tensor in tensors.items()}
        temporary.write_bytes(save(rows))
        temporary.replace(entry)
    except OSError as error:
        raise DataError(
            f"cannot write the cache in {entry.parent}: {error}; free space there, or name another "
            "folder as data.cache"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_stale(folder: Path) -> None:
    """Remove the temporary files of killed writers; those of running ones are younger."""
    for path in folder.glob("*/*/*.tmp"):
        if time.time() - path.stat().st_mtime > STALE:
            path.unlink(missing_ok=True)
