"""What an objective is: the record that the trainer, the logs, the checks, bench and plan read.

An objective says once which losses it has, what weighs them, how often it asks each network, and
leaves the gradient of a micro-batch in the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from ..config import TrainConfig
    from ..config.methods import MethodConfig
    from ..core.roles import EditBatch, Roles
    from ..core.schedule import Draw


class Term(NamedTuple):
    """A loss of an objective."""

    name: str  # in the step's output, in metrics.jsonl and tensorboard
    label: str  # on the progress line
    about: str  # in the plan
    weight: str | None = None  # the setting of `method` that weighs it; None: its weight is 1
    stages: tuple[str, ...] = ()  # the backward passes in which it must reach the LoRA: checked


class StepOutput(NamedTuple):
    """The weighted total () and every term (B,), detached; t (B,) for logging by noise level.

    A pass that counts for nothing is not made, and its terms are missing. Of a term that is asked
    for some rows only, these count for all: so its mean is right.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    t: Tensor


class Backward(Protocol):
    """Backpropagates a step's graphs, one after the other."""

    def __call__(self, loss: Tensor, stage: str) -> float:
        """Backpropagate a scalar; returns the factor that scaled it (accumulation, loss scaler)."""


class Step(Protocol):
    """Leaves the gradient of one micro-batch in the weights."""

    def __call__(
        self,
        G: Roles,
        batch: EditBatch,
        draw: Draw,
        w: Any,
        backward: Backward,
        prepared: Any = None,
        /,
    ) -> StepOutput:
        """`w`: the objective's own settings; `prepared`: what `prepare` made for this batch."""


class Calls(NamedTuple):
    """How often, on average, a full step asks each role about a row; a role at 0 is not needed."""

    gradients: float  # the editor, forward and backward
    edit: float = 0  # the editor without a gradient
    ema: float = 0
    base: float = 0
    aux: float = 0
    aux_gradients: float = 0  # of the auxiliary's own updates
    teacher: float = 0
    critic: float = 0  # forward and backward, the VAE's decoder included


class Advice(NamedTuple):
    """What to change when held-out items show that a run goes wrong."""

    collapse: str  # edits are copies of their sources
    drift: str  # editing back does not find the source
    lost: str  # the source is being lost


class Helper(NamedTuple):
    """A network that is trained beside the editor, with an adapter and an optimiser of its own."""

    role: str
    objective: Objective  # what it is trained for; its step asks the role alone with a gradient
    updates: Callable[[TrainConfig], int]  # before each of the editor's, on batches of their own


def nothing(G: Roles, work: list[tuple[EditBatch, Draw]]) -> list[Any]:
    """The preparation of an objective that needs none."""
    return [None] * len(work)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """An objective: its settings, its terms, what it asks, and its step."""

    settings: type[MethodConfig]  # the section `method` of a run's configuration
    terms: tuple[Term, ...]
    calls: Callable[[TrainConfig], Calls]
    step: Step
    # All micro-batches of an optimiser step, before the first gradient is taken.
    prepare: Callable[[Roles, list[tuple[EditBatch, Draw]]], list[Any]] = nothing
    # The same gradient from one graph: to read, to test against and to measure beside `step`.
    joint: Callable[[Roles, EditBatch, Draw, Any], StepOutput] | None = None
    # What its loss is for who edits, who copies and who forgets the source, from what `probe`
    # measures; None: it has no prior that could lead away from the edit.
    bottom: Callable[[Any, Any], dict[str, Tensor]] | None = None
    advice: Advice | None = None  # None: held-out items raise no alarms
    # Roles beside edit, ema and base that a run needs: each is an adapter of its own.
    adapters: Callable[[TrainConfig], tuple[str, ...]] = lambda config: ()
    helper: Helper | None = None

    def __post_init__(self) -> None:
        for term in self.terms:
            if term.weight is not None and term.weight not in self.settings.model_fields:
                raise ValueError(f"{term.name}: {self.settings.__name__} has no {term.weight!r}")
            if term.stages and term.weight is None:
                raise ValueError(f"{term.name}: only a term with a weight can be checked alone")

    @property
    def is_checked(self) -> bool:
        """Whether a term could lose its gradient while others keep theirs."""
        return any(term.stages for term in self.terms)


def weighted(terms: Iterable[Term], w: MethodConfig, values: dict[str, Tensor]) -> Tensor:
    """The mean over the batch of some terms' values (B,), each times its weight: ()."""
    weight = {t.name: 1.0 if t.weight is None else getattr(w, t.weight) for t in terms}
    return sum(weight[name] * value for name, value in values.items()).mean()


def detached(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The values without their graphs, for logs."""
    return {name: value.detach() for name, value in values.items()}
