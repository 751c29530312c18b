"""Peak memory of `data caption` over 10,000 pictures: python benchmarks/caption_memory.py

The run is a process of its own, against a server that answers at once; the pictures are small, but
each is read, shown and told in full, and every answer carries a long thought.

    first run: 10000 items, 38 s of CPU, peak 294 MiB
    second run, nothing to ask: 10000 items, 4 s of CPU, peak 309 MiB
    journal 45 MB

(two CPU cores, Python 3.11, torch 2.13 on the CPU; torch alone is 250 MiB of it).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from chat_server import Answer, Asked, ChatServer, good_fields  # noqa: E402

# Characters that a thinking model spends before its answer.
THOUGHT = 4000


def answer(asked: Asked, before: int) -> Answer:
    """A usable tuple after a thought; nothing of the question is kept."""
    return Answer(f"<think>{'hm, ' * (THOUGHT // 4)}</think>{json.dumps(good_fields(asked))}")


def main() -> None:
    """Caption a folder twice, and print CPU time and peak memory of either run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ChatServer(answer, keep=False) as server:
        root = Path(folder)
        Image.new("RGB", (64, 64), "teal").save(root / "first.png")
        data = (root / "first.png").read_bytes()
        (root / "first.png").unlink()
        for i in range(options.items):
            (root / f"{i}.png").write_bytes(data)
            (root / f"{i}.txt").write_text(f"a car, number {i}")
        for what in ("first run", "second run, nothing to ask"):
            command = [sys.executable, "-m", "byg_train", "data", "caption", folder]
            where = ["--endpoint", server.url, "--model", "m"]
            more = ["--concurrency", str(options.concurrency)]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([*command, *where, *more], cwd=ROOT, **quiet)
            _, status, usage = os.wait4(process.pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            mib = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
            seconds = usage.ru_utime + usage.ru_stime
            print(f"{what}: {options.items} items, {seconds:.0f} s of CPU, peak {mib:.0f} MiB")
        journal = root / ".byg_caption" / "journal.jsonl"
        print(f"journal {journal.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
