"""What an editor has lost of its source: how far its identity loss is from the warm-up's.

At 0 it copies as well as after its warm-up, at 1 as badly as the base, which sees no source and
draws what the source's caption says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..config import TrainConfig
from ..config.methods import BygConfig
from ..core.flow import noised
from ..core.losses import velocity_mse
from ..core.roles import EditBatch, Text, Velocity, rows
from ..core.schedule import middles_of_t
from ..editing.editor import Editor
from .cost import SOURCE_ROWS

# Half of the way: beyond what a LoRA of true pairs has lost at any step (docs/decisions.md). An
# editor loses some of this measure, since it also overdoes what is there already.
LOST = 1 / 2
FIRST_COPY = (
    "the editor could not copy when the warm-up ended, so there is little to lose: give the "
    "warm-up more steps (warmup.max_steps, warmup.until), in a new run"
)
# The share of a run, at most half of its end, after which these weights have shown what they keep.
SHOWN = 0.1
# Steps between two measures of SOURCE_ROWS rows: less than a hundredth of a run.
EVERY = 25


class SourceWatch:
    """Held-out items at fixed draws, asked for what they already are."""

    def __init__(self, editor: Editor, batch: EditBatch, config: TrainConfig) -> None:
        """`editor` has the weights that train; `batch` holds the held-out items."""
        self.editor, self.config = editor, config
        x, by = batch.x, config.time
        self.items = len(x)
        number = max(1, SOURCE_ROWS // len(x)) * len(x)
        # One item after the other, so that each meets early times and late ones.
        at = torch.arange(number, device=x.device) % len(x)
        self.batch = EditBatch(*(rows(part, at) for part in batch[:5]))
        generator = torch.Generator().manual_seed(config.seed + 9)
        self.eps = torch.randn(self.batch.x.shape, generator=generator).to(x)
        self.t = {
            expert: middles_of_t(span, number, by.distribution, by.shift).to(x)
            for expert, span in editor.backbone.spans.items()
            if config.train.trains(expert)
        }
        # The identity loss of every expert when the warm-up had ended, as far as that is known.
        self.copied: dict[str, float] = {}
        self._without: dict[str, float] = {}

    @property
    def evaluations(self) -> int:
        """How often `lost` calls `each`: for the base too, the first time."""
        return len(self.eps) // self.items * len(self.t) * (1 if self._without else 2)

    def identity(self, each: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The identity loss of every expert; `each` precedes every evaluation."""
        velocity = self._velocity(self.config.guidance.train)
        batch = self.batch
        return {e: self._loss(e, velocity, batch.c_inv, batch.x, each) for e in self.t}

    def without_source(self, each: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Return the base's loss without a source, measured once."""
        if not self._without:
            with self.editor.using("base"):
                velocity, texts = self._velocity(self.config.guidance.prior), self.batch.p_src
                self._without = {e: self._loss(e, velocity, texts, None, each) for e in self.t}
        return self._without

    def lost(self, each: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Return the share of the way from the warm-up to the base that each expert has gone.

        A warm-up that is not even halfway to a copy has taught none: then the way begins at 0.
        """
        ends, found = self.without_source(each), {}
        untaught = self._untaught()
        for expert, now in self.identity(each).items():
            end = max(ends[expert], 1e-12)
            start = 0.0 if expert in untaught else self.copied.get(expert, 0.0)
            found[expert] = (now - start) / (end - start)
        return found

    def advice(self, usual: str) -> str:
        """What to do about a lost source: more warm-up, where the editor never had it."""
        return FIRST_COPY if self._untaught() else usual

    def _untaught(self) -> list[str]:
        """The experts that could not copy when the warm-up had ended."""
        ends = self.without_source()
        return [e for e, end in ends.items() if self.copied.get(e, 0.0) >= LOST * end]

    def _velocity(self, guidance: float | None) -> Velocity:
        return self.editor.in_turn(partial(self.editor.backbone.velocity, guidance=guidance))

    @torch.no_grad()
    def _loss(
        self,
        expert: str,
        velocity: Velocity,
        texts: Text,
        source: Tensor | None,
        each: Callable[[], None],
    ) -> float:
        """Ask for as many rows at once as there are items, which sampling has the memory for."""
        found = []
        for first in range(0, len(self.eps), self.items):
            each()
            some = slice(first, first + self.items)
            x, eps, t = self.batch.x[some], self.eps[some], self.t[expert][some]
            shown = None if source is None else source[some]
            v = velocity(noised(x, eps, t), t, rows(texts, some), shown)
            found.append(velocity_mse(v, eps - x))
        return torch.cat(found).mean().item()


def kept(lost: float) -> str:
    """What is left of a source, such as `72 %`."""
    return f"{100 * (1 - min(1.0, max(0.0, lost))):.0f} %"


def is_due(config: TrainConfig, share: float) -> bool:
    """Whether at this share of the run its last weights hold, and have shown what they keep."""
    settled, method = config.method.settled_from, config.method
    if not settled or _pull(method.after(1.0)) >= _pull(method):
        return True
    return share >= settled + min(SHOWN, (1 - settled) / 2)


def _pull(w: BygConfig) -> float:
    """How hard a prior pulls, its direction and its squared error taken as alike."""
    return w.lambda_prior * (w.directional + w.alpha)


def alarm(lost: float, what_to_do: str) -> str:
    """What is said where it is too much."""
    return (
        f"the source is being lost: {kept(lost)} of it is kept (below {kept(LOST)}), where 100 % "
        f"is a copy and 0 % what the base draws without a source; {what_to_do}"
    )


def awaited(lost: float, step: int) -> str:
    """What is said where weights that keep more are still to come."""
    return (
        f"{kept(lost)} of the source is kept; more is expected after step {step}, when the run "
        "turns gentle (method.gentle_from)"
    )
