"""An update of the editor, or of what is trained beside it: its items, draws and gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.roles import EditBatch, Roles, joined, repeated
from ..data.batches import to_device
from .draws import Turn, draw_experts, draw_for
from .keeper import Keeper
from .microbatches import MicroBatch, Passes, gradients, sums
from .optimizer import helper_rate, set_rate

if TYPE_CHECKING:
    from ..config.methods import MethodConfig
    from ..core.schedule import Span
    from ..data.batches import Batches
    from ..models.lora import Role
    from ..objectives.objective import Objective, StepOutput

# What is measured of every network, and is told apart by the role's name.
OWN = ("loss", "grad_norm", "skipped")


class Updates(Keeper):
    """The part of a trainer that takes the gradient of a global batch, in all processes."""

    device: torch.device
    batches: Batches
    roles: Roles
    spans: dict[str, Span]
    alike: int
    passes: Passes

    def help_editor(self, spans: dict[str, Span]) -> dict[str, float | None]:
        """Take all updates that come before the editor's, on batches of their own; what to log.

        Each is whole by itself: a stop between two of them loses neither.
        """
        optimizer, helper, record = self.helper_optimizer, self.objective.helper, {}
        while optimizer is not None and self.state.helped < self._helps:
            self.passes, update = Passes(self.state.step), self.state.helped
            # Its role stays until blocks have computed themselves again in backward.
            with self.processes.together(), self.bank.using(helper.role):
                work = self._micro_batches(spans, update)
                outputs = self._taken(helper.objective, work)
            asked = self._experts(spans, update)
            self._add_up([expert for expert in spans if expert in asked], helper.role)
            numbers = self._numbers(work, outputs, helper.role)
            if not numbers.get("skipped"):
                set_rate(optimizer, helper_rate(self.config, self.state))
                optimizer.step()
            optimizer.zero_grad()
            self.state.helped += 1
            record |= {f"{helper.role}_{k}" if k in OWN else k: v for k, v in numbers.items()}
        self.passes = Passes(self.state.step)
        return record

    @property
    def _helps(self) -> int:
        """Updates of what is trained beside the editor, for one of the editor's."""
        return self.objective.helper.updates(self.config) if self.helper_optimizer else 0

    # ------------------------------------------------------------ items and draws

    def _turn(self, update: int | None) -> Turn:
        """What an update is called where something is drawn for it; None: the editor's."""
        step = self.state.step
        return step if update is None else f"{step} {self.objective.helper.role} {update}"

    def _item(self, place: int, update: int | None = None) -> EditBatch:
        """The item at a place of an update's global batch."""
        number = self._helps if update is None else update
        k = self.state.step * (1 + self._helps) + number
        return self.batches[k * self.config.items_per_step + place]

    def _experts(self, spans: dict[str, Span], update: int | None = None) -> list[str]:
        """The expert of every item of an update, in all processes."""
        return draw_experts(self.config, self._turn(update), spans, self.alike)

    def _micro_batches(self, spans: dict[str, Span], update: int | None = None) -> list[MicroBatch]:
        """This process's items of an update, those of one shape and expert at once.

        Where all take part in every forward, one by one: everybody has as many.
        """
        groups: dict[tuple, list[tuple[int, EditBatch]]] = {}
        for place, expert in self.processes.share(list(enumerate(self._experts(spans, update)))):
            item = self._item(place, update)
            alone = place if self.alike > 1 else None
            groups.setdefault((expert, item.x.shape, alone), []).append((place, item))
        size = self.config.items_at_once
        return [
            one
            for (expert, *_), items in groups.items()
            for first in range(0, len(items), size)
            for one in self._drawn(expert, items[first : first + size], update)
        ]

    def _drawn(
        self, expert: str, items: list[tuple[int, EditBatch]], update: int | None = None
    ) -> Iterator[MicroBatch]:
        """Items with their places and draws: one micro-batch, or as many as share a rollout."""
        times, whole = self.config.rollout.times, self.config.train.global_batch
        at_once = min(times, self.config.train.batch_size)
        batch = to_device(repeated(joined([item for _, item in items]), at_once), self.device)
        rows = [place * times + i for place, _ in items for i in range(times)]
        for first in range(0, len(rows), len(batch.x)):
            some = rows[first : first + len(batch.x)]
            span, turn = self.spans[expert], self._turn(update)
            draw = draw_for(self.config, turn, some, batch.x, span, self.alike)
            yield MicroBatch(expert, batch, draw, len(some) / whole)

    # ------------------------------------------------------------ gradients

    def _taken(self, objective: Objective, work: list[MicroBatch]) -> list[StepOutput]:
        """The gradient of an objective, left in the weights."""
        return gradients(objective, self.roles, work, self._weights, self._backward, self.backbone)

    @property
    def _weights(self) -> MethodConfig:
        """What weighs the losses at this place of the run."""
        return self.config.method.after(self.state.main_step / self.config.train.steps)

    def _backward(self, loss: Tensor, stage: str) -> float:
        self.passes.note(stage, loss.detach())
        loss.backward()
        return 1.0

    def _active(self, spans: dict[str, Span], identity_only: bool) -> list[str]:
        """The experts that take an optimiser step, in all processes: others have no gradient.

        An editor that is unrolled asks experts by the times of that, which are drawn for all.
        """
        if self.config.method.unrolls and not identity_only:
            weights = {expert: self.bank.parameters(expert) for expert in spans}
            return [e for e, own in weights.items() if any(w.grad is not None for w in own)]
        asked = self._experts(spans)
        return [expert for expert in spans if expert in asked]

    def _add_up(self, active: list[str], role: Role = "edit") -> None:
        """The gradients of all processes; an expert that has none here sends zeros."""
        for expert in active if self.processes.world > 1 else ():
            weights = self.bank.parameters(expert, role)
            for weight in weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            self.processes.add_up([weight.grad for weight in weights])

    def _numbers(
        self, work: list[MicroBatch], outputs: list[StepOutput], role: Role
    ) -> dict[str, float | None]:
        """What to log, in one transfer; clips a role's gradients, `skipped` if not to be used."""
        measures, o = sums(work, outputs, self.spans), self.config.optimizer
        self.processes.add_up(list(measures.values()))
        parameters = list(self.bank.named_parameters(role).values())
        norm = torch.nn.utils.clip_grad_norm_(parameters, o.max_grad_norm)
        numbers = self.passes.numbers(measures, norm, o.skip_above)
        self.state.note_skip(skipped="skipped" in numbers)
        return numbers
