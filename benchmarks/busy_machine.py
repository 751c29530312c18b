"""A step of the demo beside a busy neighbour, with threads that spin while they wait or sleep.

    python benchmarks/busy_machine.py [--dtype auto|float32|bfloat16] [--steps 5]

Every figure is the median of a fresh process. `ATEN_CPU_CAPABILITY=avx2` before the command makes
torch's own kernels those of a CPU without AVX-512, and `ONEDNN_MAX_CPU_ISA=AVX2` oneDNN's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from byg_train.machine import WAITING

STEP = (
    "import json, sys; from byg_train.training.doctor import demo_steps;"
    "print(json.dumps(demo_steps('cpu', {dtype!r}, {steps}, float('inf'))[1:]))"
)
NEIGHBOURS = {
    "alone": None,
    "a Python loop": "while True: pass",
    "a product of matrices in two threads": (
        "import torch; torch.set_num_threads(2); a = torch.randn(1024, 1024)\nwhile True: a @ a"
    ),
}
# What torch does by itself, and what byg_train asks for.
SETTINGS = {"torch's own": {}, "asleep": {"OMP_WAIT_POLICY": "PASSIVE"}}


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
    """The median step of a fresh process."""
    plain = {name: value for name, value in os.environ.items() if name not in WAITING}
    code = STEP.format(dtype=dtype, steps=steps)
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env={**plain, **settings}, stdout=subprocess.PIPE, check=True)
    return median(map(float, out.stdout.decode().strip("[]\n").split(",")))


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    print(f"| beside | {' | '.join(f'waiting threads: {name}' for name in SETTINGS)} |")
    print(f"| --- |{' ---: |' * len(SETTINGS)}", flush=True)
    for name, code in NEIGHBOURS.items():
        with neighbour(code):
            found = [seconds(options.dtype, options.steps, s) for s in SETTINGS.values()]
        print(f"| {name} | {' | '.join(f'{s:.2f} s' for s in found)} |", flush=True)


if __name__ == "__main__":
    main()
