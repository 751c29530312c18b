"""What the node pack adds to ComfyUI's start: python benchmarks/import_pack.py [--runs 5]

Each run is a process of its own that starts a real ComfyUI without its server (tests/fetch_host.py
fetches it), then loads the pack as ComfyUI loads a custom node.

    loading the pack: median 0.065 s, 0.062 to 0.066 s of CPU over 3 starts; it brings 39 modules

(two CPU cores, Python 3.11, torch 2.13 on the CPU; ComfyUI 0.3.75.)
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import fetch_host  # noqa: E402


def once() -> None:
    """Print the seconds of CPU that loading takes in this process, and how many modules it brings.

    Of CPU, so that what else the machine does hardly counts.
    """
    from comfy_host import load_pack, start_host

    with tempfile.TemporaryDirectory() as base:
        for folder in ("models/loras", "input", "custom_nodes"):
            (Path(base) / folder).mkdir(parents=True)
        start_host(str(fetch_host.host_folder()), base)
        before, begin = set(sys.modules), time.process_time()
        load_pack()
        seconds = time.process_time() - begin
    print(seconds, len(set(sys.modules) - before))


def main() -> None:
    """Print the median over some processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="one run, in this process")
    options = parser.parse_args()
    if options.once:
        once()
        return
    command = [sys.executable, __file__, "--once"]
    rows = []
    for _ in range(options.runs):
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, modules = run.stdout.split()[-2:]
        rows.append((float(seconds), int(modules)))
    times = sorted(seconds for seconds, _ in rows)
    print(f"loading the pack: median {statistics.median(times):.3f} s, {times[0]:.3f} to", end=" ")
    print(f"{times[-1]:.3f} s of CPU over {len(times)} starts; it brings {rows[0][1]} modules")


if __name__ == "__main__":
    main()
