"""Commands that one command runs for its own work, and stops with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

PACKAGE = Path(__file__).parents[2]


class Subprocesses:
    """Processes of this package, which are asked to save and stop when the command is stopped."""

    def __init__(self, threads: int) -> None:
        self.threads, self._running, self._stopped = threads, set(), False
        self._lock = threading.Lock()

    def run(self, arguments: list[str], log: Path) -> bool:
        """Run a module with its output in a log; whether it ended well."""
        log.parent.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, (str(PACKAGE), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": path}
        with log.open("ab") as file:
            with self._lock:
                if self._stopped:
                    return False
                child = subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C reaches it once, by `stop`
                )
                self._running.add(child)
            code = child.wait()
            with self._lock:
                self._running.discard(child)
        return code == 0

    def stop(self) -> None:
        """Ask all to stop, and wait until they have saved."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for child in running:
            child.terminate()  # not Ctrl-C's signal, which background jobs ignore
        for child in running:
            child.wait()
