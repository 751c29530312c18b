"""Run a ComfyUI, with or without torchvision and torchaudio: start_host.py TREE ARGUMENTS..."""

from __future__ import annotations

import runpy
import sys

from stand_ins import stand_in

if __name__ == "__main__":
    tree, *arguments = sys.argv[1:]
    stand_in()
    # The tests' folder off the path: the tree's own modules have names like ours.
    sys.path[0] = tree
    sys.argv = [f"{tree}/main.py", *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")
