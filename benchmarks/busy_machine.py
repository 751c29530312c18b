"""A step of the demo beside a busy neighbour, with threads that spin while they wait or sleep.

    python benchmarks/busy_machine.py [--dtype auto|float32|bfloat16] [--steps 5]

Every figure is the median of a fresh process, or its first step where steps are very slow. As on a
CPU that has no more than AVX2: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from byg_train.machine import SPINS, WAITING

STEPS = (
    "import json; from byg_train.training.speed import demo_steps;"
    "print(json.dumps(demo_steps('cpu', {dtype!r}, {steps}, {limit})))"
)
NEIGHBOURS = {
    "nobody": None,
    "a Python loop": "while True: pass",
    "products of matrices in two threads": (
        "import torch; torch.set_num_threads(2); a = torch.randn(1024, 1024)\nwhile True: a @ a"
    ),
}
# What torch does by itself, sleeping at once, and what byg_train asks for.
SETTINGS = {
    "as torch waits": {},
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "asleep soon": {"GOMP_SPINCOUNT": SPINS},
}
# Seconds past which no further step is begun.
LIMIT = 20


@contextmanager
def neighbour(code: str | None) -> Iterator[None]:
    """Another process that never rests."""
    if code is None:
        yield
        return
    child = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(5)  # until torch is loaded
    try:
        yield
    finally:
        child.kill()
        child.wait()


def seconds(dtype: str, steps: int, settings: dict[str, str]) -> float:
    """The usual step of a fresh process."""
    plain = {name: value for name, value in os.environ.items() if name not in WAITING}
    code = STEPS.format(dtype=dtype, steps=steps, limit=LIMIT)
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env={**plain, **settings}, stdout=subprocess.PIPE, check=True)
    first, *others = json.loads(out.stdout)
    return median(others or [first])


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    print(f"| neighbour | {' | '.join(SETTINGS)} |")
    print(f"| --- |{' ---: |' * len(SETTINGS)}", flush=True)
    for name, code in NEIGHBOURS.items():
        with neighbour(code):
            found = [seconds(options.dtype, options.steps, s) for s in SETTINGS.values()]
        print(f"| {name} | {' | '.join(f'{s:.2f} s' for s in found)} |", flush=True)


if __name__ == "__main__":
    main()
