"""Pictures that move (GIF, APNG, animated WebP and AVIF) as clips; Pillow lays their frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from . import MediaError
from .formats import broken, moves, open_picture
from .rgb import to_rgb
from .video import FrameFacts, Timed, Times

# Milliseconds: browsers show what asks for so little, or for nothing, for a tenth of a second.
SHORTEST, USUAL = 10, 100


def is_animation(path: Path) -> bool:
    """Whether a file is a picture that moves."""
    try:
        with open_picture(path) as picture:
            return moves(picture)
    except MediaError:  # no picture, or a broken one: FFmpeg's decoders say what it is
        return False


@contextmanager
def open_animation(path: Path) -> Iterator[Animation]:
    """Open a picture that moves."""
    with open_picture(path) as picture:
        yield Animation(picture)


class Animation:
    """The frames of an open picture, as `Video` gives those of a clip."""

    damaged = False  # or else it raises

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        # Of an APNG the first may be a stand-in for programs that show no motion.
        self._start = 1 if getattr(picture, "default_image", False) else 0

    def look(self, frame: np.ndarray) -> FrameFacts:
        """Return what a frame (H, W, 3) tells."""
        height, width = frame.shape[:2]
        return FrameFacts(width, height, 8, "sdr", interlaced=False, declared=None, audio=False)

    def convert(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame as it is: upright RGB on white already."""
        return frame

    def times(self) -> Times:
        """Return when every frame is shown; all are decoded, since their formats tell only then."""
        shown = [(timed.when, timed.lasts) for timed in self.decoded()]
        return Times([when for when, _ in shown], shown[-1][1])

    def decoded(self) -> Iterator[Timed]:
        """Yield all frames."""
        when = Fraction(0)
        for number in range(self._start, self._picture.n_frames):
            try:
                self._picture.seek(number)
                frame = np.asarray(to_rgb(self._picture))
            except Exception as error:  # decoders raise whatever they like on broken bytes
                raise broken(error) from error
            duration = self._picture.info.get("duration") or 0
            lasts = (
                Fraction(duration if duration > SHORTEST else USUAL).limit_denominator(1000) / 1000
            )
            yield Timed(frame, when, lasts)
            when += lasts

    def sought(self, when: Fraction) -> Iterator[Timed]:
        """Yield frames from one at or before `when`: all of them, since no format is sought in."""
        return self.decoded()
