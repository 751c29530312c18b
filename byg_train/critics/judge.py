"""From latents to losses: what decodes an edit, asks a critic about it, and weighs the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..config.critic import CriticConfig
from ..core.critic import NOTHING, Ask, Critic, Question, answer_loss
from ..family import is_embedded
from .tiny import TinyCritic


def load_critic(config: CriticConfig, device: str) -> Critic:
    """The critic of a run, frozen, on its device."""
    if is_embedded(config.path):
        return TinyCritic.load().to(device)
    from .vlm import load_vlm

    return load_vlm(config, device)


class EditJudge:
    """A `CriticLoss` of a critic, its questions, and what makes pixels of latents."""

    def __init__(
        self,
        critic: Critic,
        questions: Callable[[Sequence[Ask]], list[Question]],
        decode: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        """`decode` makes pixels of latents, and lets gradients through; `device`: the critic's."""
        self.critic, self.questions, self.decode = critic, questions, decode
        self.device = device

    def __call__(self, source: Tensor, edited: Tensor, asks: Sequence[Ask]) -> dict[str, Tensor]:
        """-log p(right answer), (B,), by kind of question; where it is not asked it is 0.

        Whether nothing was done is no question of the edit: of such rows only the other is asked.
        """
        questions = self.questions(asks)
        still = {row for row, ask in enumerate(asks) if ask.edit_type == NOTHING}
        asked = [q for q in questions if q.kind != "edit" or q.row not in still]
        zero = 0 * edited.flatten(1).sum(1).float()
        found = {kind: zero for kind in dict.fromkeys(q.kind for q in questions)}
        if not asked:
            return found
        with torch.no_grad():
            before = self.decode(source).to(self.device)
        after = self.decode(edited).to(self.device)
        losses = answer_loss(self.critic(before, after, asked), asked).to(edited.device)
        for i, q in enumerate(asked):
            row = torch.tensor([q.row], device=losses.device)
            found[q.kind] = found[q.kind].index_add(0, row, losses[i : i + 1])
        return found
