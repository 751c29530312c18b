"""What every option costs and saves at full size on a GPU: fills docs/performance.md row by row.

    python benchmarks/sweep.py                 needs CUDA: at most 12 minutes, the worthiest first
    python benchmarks/sweep.py --tiny --rows 2 --output FILE    tiny networks on any machine

Real shapes and random weights, as `full_size.py` has them. A row is written as soon as it is
measured; what does not fit, or lacks a package, is a row too. No row is begun that would not be
done in time, by the time of the longest so far.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from full_size import CASES, Case, chosen, measure

from byg_train.config import ConfigError
from byg_train.files import atomic

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
TITLE = "## Options at full size on a GPU"
HEADS = ("model", "settings", "F", "full step of an item", "in F", "peak", "planned")
ALL_KEPT = "model.gradient_checkpointing=false"
HALF = "model.checkpointed_blocks=0.5"


class Point(NamedTuple):
    """A row: which of `full_size.CASES`, and under which settings."""

    case: Case
    settings: tuple[str, ...] = ()


def points(tiny: bool) -> list[Point]:
    """The most worth knowing first."""
    wan, flux, large, z_image = chosen(None, True) if tiny else CASES
    of_flux = ["model.storage=fp8", "model.storage=nf4", ALL_KEPT, HALF, "model.compile=true"]
    low_wan = ("model.placement=streamed", "model.boundaries_on_cpu=true")  # as --vram 24 has it
    return [
        Point(flux),
        *(Point(flux, (setting,)) for setting in of_flux),
        Point(wan),
        Point(z_image),
        Point(wan, low_wan),
        Point(wan, ("model.keep_attention=true",)),
        Point(large),
        Point(flux, ("model.storage=int8",)),
        Point(z_image, (ALL_KEPT,)),
    ]


def cells(point: Point, tiny: bool) -> tuple[str, ...]:
    """One row, measured, or why it is not."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = f"{point.case.name} {point.case.height} x {point.case.width}"
    settings = " ".join(point.settings) or "as in the preset"
    try:
        with TemporaryDirectory() as folder:
            row = measure(point.case, Path(folder), device, tiny, point.settings)
    except torch.OutOfMemoryError:
        return size, settings, "does not fit", "", "", "", ""
    except ConfigError as error:
        return size, settings, str(error).split(",")[0], "", "", "", ""
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    gigabytes = [f"{count / 1e9:.1f} GB" for count in (row.step_bytes, row.planned_bytes)]
    in_f = f"{row.full / row.forward:.1f}"
    return size, settings, f"{row.forward:.3g} s", f"{row.full:.3g} s", in_f, *gigabytes


def sweep(
    todo: list[Point], measured: Callable[[Point], tuple[str, ...]], seconds: float
) -> Iterator[tuple[str, ...]]:
    """Rows, as long as there is time for one more like the longest."""
    end, longest = time.monotonic() + seconds, 0.0
    for point in todo:
        began = time.monotonic()
        if began + longest > end:
            return
        yield measured(point)
        longest = max(longest, time.monotonic() - began)


def append(document: Path, row: tuple[str, ...], setting: str) -> None:
    """Add a row to the table of `setting` at the document's end; begins the section if need be."""
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    head = f"{TITLE}\n\n{setting}\n\n{_line(HEADS)}\n{_line(['---', '---', *['---:'] * 5])}\n"
    if head not in text:
        text = f"{text.rstrip()}\n\n{head}".lstrip()
    with atomic(document) as temporary:
        temporary.write_text(f"{text.rstrip()}\n{_line(row)}\n", encoding="utf-8")


def _line(row: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(row)} |"


def main(words: list[str] | None = None) -> int:
    """Fill the document; the shell's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--output", type=Path, default=DOCUMENT)
    parser.add_argument("--rows", type=int, help="only so many")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and items")
    options = parser.parse_args(words)
    if not torch.cuda.is_available() and not options.tiny:
        print("This machine has no CUDA device, which the full sizes need: --tiny", file=sys.stderr)
        return 2
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    setting = f"{device}, torch {torch.__version__}, `python benchmarks/sweep.py`; random weights."
    todo = points(options.tiny)[: options.rows]
    for row in sweep(todo, lambda point: cells(point, options.tiny), 60 * options.minutes):
        append(options.output, row, setting)
        print(_line(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
