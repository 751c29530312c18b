"""A signal to the tests' own process, on every system."""

from __future__ import annotations

import os
import signal
import sys


def send(number: int) -> None:
    """Python's handler runs before this returns.

    Which `raise_signal` does not promise: later may be in a place that swallows exceptions. On
    Windows there is no other way, for `os.kill` ends the process.
    """
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)
