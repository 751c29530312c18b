"""Three hundred malformed or odd inputs: each gives a right result or one clear sentence.

    python -m benchmarks.odd_inputs [--kind text-files] [--every 10] [--table]

Every kind is a module of `benchmarks/odd/` with a function `cases`. Nothing is loaded that takes
minutes: the inputs meet the commands in this process. `--every N` tries each N-th case, `--table`
prints the counts as docs/data.md has them. The exit code is 1 if any case fails.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.odd.case import Case, verdict

# Name of the module -> what its inputs are, in the order of the table.
KINDS = {
    "text_files": "text files: encodings, marks, blanks, endings",
    "manifests": "manifests: metadata.jsonl and .csv",
    "pictures": "pictures: formats, names, colours, turns",
    "clips": "clips: codecs, names, turns, matrices, transparency, cuts",
    "names": "names, sizes, files that nothing is made of",
    "folders": "foreign folders, kohya's names, runs inside the data",
    "imports": "data sets of ai-toolkit, musubi-tuner, Hugging Face",
    "moved": "runs whose data or base were moved, or are others now",
    "loras": "LoRA files: ranks and alphas per module, NaN, broken pairs",
    "servers": "answers of servers: parts, thoughts, error pages",
    "early": "settings that look like others, and places that cannot be written",
}


def cases(kind: str) -> list[Case]:
    """The cases of a kind; names are unique."""
    made = list(importlib.import_module(f"benchmarks.odd.{kind}").cases())
    names = [case.name for case in made]
    assert len(set(names)) == len(names), f"{kind}: two cases of one name"
    return made


def failures(kind: str, every: int = 1) -> Iterator[tuple[Case, str | None]]:
    """Try each N-th case of a kind; yields what is wrong, or None."""
    for case in cases(kind)[::every]:
        with tempfile.TemporaryDirectory() as folder:
            yield case, verdict(case, Path(folder))


def main() -> None:
    """Try all and print what failed, or the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=KINDS, nargs="*", default=list(KINDS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    logging.getLogger("byg_train").setLevel(logging.INFO)
    logging.basicConfig(format="%(message)s")
    counts: dict[str, tuple[int, int]] = {}
    for kind in options.kind:
        tried = list(failures(kind, options.every))
        wrong = [(case, why) for case, why in tried if why]
        counts[kind] = len(tried), len(wrong)
        for case, why in wrong:
            print(f"{kind}: {case.name}: {why}", file=sys.stderr)
    if options.table:
        print("| kind | inputs | right result or one clear sentence |\n|---|---|---|")
    for kind, (number, bad) in counts.items():
        bar = ("| ", " | ", " |") if options.table else ("", ": ", "")
        print(f"{bar[0]}{KINDS[kind]}{bar[1]}{number}{bar[1]}{number - bad}{bar[2]}")
    print(
        f"{sum(n for n, _ in counts.values())} inputs, {sum(b for _, b in counts.values())} wrong"
    )
    sys.exit(any(bad for _, bad in counts.values()))


if __name__ == "__main__":
    main()
