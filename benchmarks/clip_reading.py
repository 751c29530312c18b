"""Time and peak memory of bringing clips to pixels: python benchmarks/clip_reading.py

Clips of 1080p become segments of 81 frames of 576 x 320, first by threads and by processes, then
checked and encoded as before a training, by a stand-in for the model. The peak stays where it is
however many clips there are and however long they are.

    1 thread: {one}
    2 threads: {threads}
    2 processes: {processes}
    2 clips of 6 s: peak {few} MiB
    8 clips of 6 s: peak {many} MiB
    8 segments of one film of 45 s: peak {film} MiB

(two busy CPU cores, Python 3.11, PyAV 18, torch 2.13 on the CPU; torch alone is 250 MiB of it).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from clip_files import clip  # noqa: E402

from byg_train.config import DataConfig  # noqa: E402
from byg_train.data.cache import Cache  # noqa: E402
from byg_train.data.items import load_items  # noqa: E402
from byg_train.data.segments import Segment, content_digest, read_segment  # noqa: E402
from byg_train.media.fit import Size  # noqa: E402

FRAMES, FPS, SIZE = 81, 16, Size(576, 320)


class StandIn:
    """Takes pixels as a Wan does, and makes nothing of them."""

    multiple, fingerprint = 16, "stand-in"

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Latents of the right shape."""
        batch, _, frames, height, width = pixels.shape
        return torch.zeros(batch, 16, frames // 4 + 1, height // 8, width // 8)

    def encode_text(self, texts: list[str]) -> dict[str, Tensor]:
        """Embeddings of the right shape."""
        return {"prompt_embeds": torch.zeros(len(texts), 512, 8)}


def hd(path: Path, seconds: int) -> Path:
    """A clip of 1080p at 24 fps that pans over a texture."""
    texture = Image.effect_noise((480, 270), 80).convert("RGB").resize((1920, 1080))
    pixels = np.asarray(texture)
    return clip(
        path,
        24 * seconds,
        size=(1920, 1080),
        codec="libx264",
        draw=lambda i, size: np.roll(pixels, 8 * i, 1),
    )


def read(path: Path) -> float:
    """A segment of a clip."""
    pixels = read_segment(path, content_digest(path), Segment(0, FRAMES, FPS), SIZE)
    return float(pixels.float().mean())


def timed(path: Path, pool: Executor, workers: int) -> str:
    """Seconds for a clip, by so many workers at once."""
    number = 2 * workers
    with pool:
        list(pool.map(read, [path] * workers))  # they have to start
        start = time.monotonic()
        list(pool.map(read, [path] * number))
        return f"{(time.monotonic() - start) / number:.1f} s for a clip"


def prepare(folder: Path) -> None:
    """What a training does with a folder of clips before it begins."""
    config = DataConfig(path=folder, frames=FRAMES, fps=FPS, resolution=430, holdout=0,
                        extraction="chunk")  # fmt: skip
    data = load_items(config, multiple=16)
    Cache(folder / ".cache", StandIn(), config).prepare(data.train, [], lambda done: None)


def peak(folder: Path) -> str:
    """Peak memory of `prepare`, in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__, "--prepare", str(folder)])
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return f"peak {usage.ru_maxrss / (1 << 20 if sys.platform == 'darwin' else 1 << 10):.0f} MiB"


def copies(folder: Path, source: Path, number: int) -> Path:
    """Two styles with clips that differ in a byte behind their end."""
    for i in range(number):
        path = folder / ("photo", "cartoon")[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes() + bytes([i]))
        path.with_suffix(".txt").write_text("a texture moves")
    return folder


def main() -> None:
    """Print times and peaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.prepare:
        prepare(options.prepare)
        return
    n = options.workers
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        short, film = hd(root / "short.mp4", 6), hd(root / "film.mp4", 45)
        print("1 thread:", timed(short, ThreadPoolExecutor(1), 1), flush=True)
        print(f"{n} threads:", timed(short, ThreadPoolExecutor(n), n), flush=True)
        print(f"{n} processes:", timed(short, ProcessPoolExecutor(n), n), flush=True)
        for number in (8, 16):
            told = peak(copies(root / str(number), short, number))
            print(f"{number} clips of 6 s: {told}", flush=True)
        told = peak(copies(root / "films", film, 2))
        print(f"16 segments of two films of 45 s: {told}", flush=True)


if __name__ == "__main__":
    main()
