"""What judges an edit while it is trained: a network that answers yes or no, differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

# The type of an item that is to stay as it is.
NOTHING = "nothing"


class Ask(NamedTuple):
    """What is asked of an editor for one row, in words."""

    instruction: str
    edit_type: str = ""


class Question(NamedTuple):
    """A question about one row of a batch, and its right answer."""

    row: int
    kind: str  # "edit": is it done; "identity": is all else as it was
    text: str
    answer: bool = True
    sees_source: bool = True  # whether it is asked of both pictures, or of the edited one alone


class Critic(Protocol):
    """Pixels (B, 3, F, H, W) in [-1, 1] of sources and edits, questions -> logits (Q, 2)."""

    def __call__(self, source: Tensor, edited: Tensor, questions: Sequence[Question]) -> Tensor:
        """The logits of no and yes to each question, differentiable with respect to `edited`."""


class CriticLoss(Protocol):
    """A critic with its questions: latents (B, C, F, h, w) of sources and edits -> losses."""

    def __call__(self, source: Tensor, edited: Tensor, asks: Sequence[Ask]) -> dict[str, Tensor]:
        """-log p(right answer) by kind of question, each (B,), 0 where it is not asked."""


def answer_loss(logits: Tensor, questions: Sequence[Question]) -> Tensor:
    """-log p(right answer) of each question, (Q,), float32; logits (Q, 2) of no and yes.

    p(yes) = sigmoid(yes - no): over the two answers alone, not over all words.
    """
    wanted = logits.new_tensor([float(q.answer) for q in questions]).float()
    margin = (logits[:, 1] - logits[:, 0]).float()
    return binary_cross_entropy_with_logits(margin, wanted, reduction="none")
