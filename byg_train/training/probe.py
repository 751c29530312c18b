"""What the frozen base says about a run's data, noise level by noise level, before it is trained.

At every t: how large the direction from caption to caption is and whether two noises give the same
one; what the prior finds in the true edit (or, where there is none, in FlowEdit's), in a copy, and
in the way back, whose truth is the source itself. `objectives.bottom` makes losses of it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..config import ConfigError, TrainConfig
from ..core.flow import noised
from ..core.losses import directional_loss, velocity_mse
from ..core.roles import EditBatch, Velocity
from ..core.schedule import Span, middles_of_t, share
from ..data.batches import collate, to_device
from ..editing.editor import Editor
from ..editing.flowedit import FlowEditSettings, edit_by_flowedit
from ..family import family_of
from ..models.backbone import load_backbone
from ..objectives import objective_of
from ..objectives.bottom import COPY, EDIT, FORGETTING, Answer, Prices, Recipe, recommended
from .assembly import encode, prior_velocity
from .run_folder import lora_info

if TYPE_CHECKING:
    from ..data.cache import Cache
    from ..data.items import Dataset, Item

log = logging.getLogger("byg_train")

# Noises at every time of an item: two, since the reliability compares two directions.
NOISES = 2
# Forwards of the base for one noise: two captions, at the noised source and at the noised edit.
FORWARDS = 4
TIMES = 8


class Time(NamedTuple):
    """A noise level, and what it stands for."""

    expert: str
    t: float
    share: float  # of the run's draws; of all times together 1


@dataclass(frozen=True)
class Probe:
    """What was measured."""

    config: TrainConfig
    times: list[Time]
    values: dict[str, Tensor]  # measure -> (T, N), means over the noises
    kinds: list[str]  # N edit types
    has_truth: bool  # whether the edits are true ones, and not FlowEdit's

    @property
    def prices(self) -> Prices:
        """What the losses are made of."""
        return prices(self.times, self.values)

    @property
    def names(self) -> dict[str, str]:
        """Candidate -> what it is here."""
        edit = "the true edit" if self.has_truth else "FlowEdit's edit"
        return {EDIT: edit, COPY: COPY, FORGETTING: FORGETTING}

    @property
    def recipe(self) -> Recipe:
        """What is recommended in place of the run's weights."""
        return recommended(self.prices, self.config.method)

    def losses(self, expert: str | None = None, under: Recipe | None = None) -> dict[str, Tensor]:
        """Every candidate's loss (N,), under a recipe or the weights with which the run ends."""
        own = [i for i, time in enumerate(self.times) if expert in (None, time.expert)]
        some = {name: of[own] for name, of in self.values.items()}
        weights = self.config.method.after(1.0)
        if under:
            weights = weights.model_copy(update=under.weights)
        return objective_of(self.config).bottom(prices([self.times[i] for i in own], some), weights)


def expect_prior(config: TrainConfig) -> None:
    """ConfigError for a run whose losses have no prior, and so nothing to be weighed."""
    if objective_of(config).bottom is None:
        raise ConfigError(
            f"method.objective={config.method.objective} has no prior to weigh against its "
            "source: wanted byg's"
        )
    if config.method.identity_share == 1:
        raise ConfigError(
            "method.identity_probability is 1: every step copies, and no prior is ever asked"
        )


def prices(times: Sequence[Time], values: dict[str, Tensor]) -> Prices:
    """The measures that losses are made of; without a true edit, the way back stands for it."""
    t, weight = (torch.tensor(of, dtype=torch.float64) for of in list(zip(*times, strict=True))[1:])

    def answer(name: str) -> Answer:
        return Answer(values[f"{name}_dir"].double(), values[f"{name}_mse"].double())

    edited = answer("edited" if "edited_dir" in values else "back")
    return Prices(t, weight / weight.sum(), edited, answer("copied"), answer("back"))


# ---------------------------------------------------------------- at one time


@torch.no_grad()
def at_source(base: Velocity, batch: EditBatch, t: Tensor, eps: Tensor) -> dict[str, Tensor]:
    """Measures (B,) at the noised source, and the base's `direction` there, like x."""
    x, u = batch.x, eps - batch.x
    x_t = noised(x, eps, t)
    src, tgt = base(x_t, t, batch.p_src), base(x_t, t, batch.p_tgt)
    return {
        "back_dir": directional_loss(u, tgt, src),
        "back_mse": velocity_mse(u, src),
        "copied_dir": directional_loss(u, src, tgt),
        "copied_mse": velocity_mse(u, tgt),
        "size": (velocity_mse(tgt, src) / velocity_mse(u, torch.zeros_like(u))).sqrt(),
        "direction": tgt - src,
    }


@torch.no_grad()
def at_edit(base: Velocity, batch: EditBatch, t: Tensor, eps: Tensor) -> dict[str, Tensor]:
    """Measures (B,) at the noised edit y: of the edit, and of who answers with the source there."""
    y_t = noised(batch.y, eps, t)
    src, tgt = base(y_t, t, batch.p_src), base(y_t, t, batch.p_tgt)
    answers = {"edited": eps - batch.y, "kept": eps - batch.x}
    found = {f"{name}_dir": directional_loss(v, src, tgt) for name, v in answers.items()}
    return found | {f"{name}_mse": velocity_mse(v, tgt) for name, v in answers.items()}


def _at_time(
    base: Velocity, batch: EditBatch, time: Time, generator: torch.Generator
) -> dict[str, Tensor]:
    """Means (B,) over the noises."""
    t, seen, directions = torch.full((len(batch.x),), time.t).to(batch.x), [], []
    for _ in range(NOISES):
        eps = torch.randn(batch.x.shape, generator=generator).to(batch.x)
        here = at_source(base, batch, t, eps)
        directions.append(here.pop("direction").flatten(1).float())
        wanted = (batch.x - batch.y).flatten(1).float()
        here["towards"] = cosine_similarity(directions[-1], wanted)
        seen.append(here | at_edit(base, batch, t, eps))
    means = {name: torch.stack([one[name] for one in seen]).mean(0) for name in seen[0]}
    return means | {"reliability": cosine_similarity(*directions)}


# ---------------------------------------------------------------- which times, which items


def times_of(
    config: TrainConfig, spans: dict[str, Span], number: int, chosen: Sequence[float] = ()
) -> list[Time]:
    """Return so many times, spread evenly over the run's draws, or the chosen ones; rising.

    Every expert that is trained has as many; of chosen ones those in its span, which may be none.
    A time's share are the draws that are nearest to it.
    """
    by, found = config.time, []
    trained = {e: span for e, span in spans.items() if config.train.trains(e)}
    number = max(2, number // len(trained))
    for expert, span in sorted(trained.items(), key=lambda item: item[1]):
        # The last span has its end, t = 1.
        own = sorted(t for t in set(chosen) if span[0] <= t < span[1] or t == span[1] == 1)
        if not chosen:
            own = middles_of_t(span, number, by.distribution, by.shift).tolist()
        if not own:
            log.warning(
                "none of --times is trained by the %s-noise expert: nothing is said of it", expert
            )
            continue
        edges = [span[0], *((a + b) / 2 for a, b in pairwise(own)), span[1]]
        shares = [share(cell, by.distribution, by.shift) for cell in pairwise(edges)]
        found += [Time(expert, t, part) for t, part in zip(own, shares, strict=True)]
    if not found:
        told = ", ".join(f"{t:g}" for t in chosen)
        raise ConfigError(
            f"no noise level of {told} is trained by this run, whose experts are "
            f"{', '.join(trained)}: choose others"
        )
    whole = sum(time.share for time in found)
    return [time._replace(share=time.share / whole) for time in found]


def some_of(items: Sequence[Item], number: int, seed: int) -> list[Item]:
    """Draw so many items by lot, in turn one of every kind of edit."""
    items = list(dict.fromkeys(items))
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for i in order:
        groups[items[i].edit_type].append(items[i])
    turns = sorted((rank, kind) for kind, group in groups.items() for rank in range(len(group)))
    return [groups[kind][rank] for rank, kind in turns[:number]]


def _batches(items: Sequence[Item], cache: Cache, size: int) -> Iterator[list[Item]]:
    """Items of one bucket at a time, so many at once."""
    for group in cache.by_bucket(items).values():
        yield from (group[i : i + size] for i in range(0, len(group), size))


# ---------------------------------------------------------------- the whole


def forwards(config: TrainConfig, times: int, *, has_truth: bool) -> int:
    """What the probe of one item costs, in forwards of the base."""
    guided = 1 if config.method.prior_guidance == 1 else 2
    whole = FORWARDS * NOISES * times * guided
    if has_truth:
        return whole
    steps = FlowEditSettings.of_family(config.model.family).n_max
    return whole + steps * flowedit_forwards(config.guidance.sample)


def flowedit_forwards(guidance: float | None) -> int:
    """Forwards of a step of FlowEdit: twice as many without a guidance embedding."""
    return 2 if guidance is not None else 4


def probe(
    config: TrainConfig,
    data: Dataset,
    device: str,
    *,
    chosen: Sequence[float] = (),
    started: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None,
) -> Probe:
    """Load the base and measure all of `data.train`.

    Args:
        config: the run that is meant; its cache of latents is filled and used.
        data: items, with a `target` where their true edit is known.
        device: cpu or cuda.
        chosen: times, instead of `TIMES` that all experts have together.
        started: told the number of forwards to come; what it returns is told of those made.
    """
    backbone = load_backbone(config.model, device)
    times = times_of(config, backbone.spans, TIMES, chosen)
    cache = encode(config, replace(data, test=[]), backbone)
    info = lora_info(config, data, backbone.multiple, steps=0)
    is_video = family_of(info.family).is_video
    editor = Editor(backbone, None, info, texts=cache, one_by_one=is_video)
    has_truth = data.train[0].target is not None
    each = started(len(data.train) * forwards(config, len(times), has_truth=has_truth))
    base = prior_velocity(config, backbone, cache.text(""))
    generator = torch.Generator().manual_seed(config.seed)
    rows: list[dict[str, Tensor]] = []
    items: list[Item] = []
    for some in _batches(data.train, cache, config.items_at_once):
        batch = to_device(collate(some, cache), torch.device(device))
        if batch.y is None:
            batch = batch._replace(y=_by_flowedit(editor, batch.x, some, config.seed, each))
        at = []
        for time in times:
            at.append(_at_time(base, batch, time, generator))
            each(len(some) * forwards(config, 1, has_truth=True))
        rows.append({name: torch.stack([one[name] for one in at]).cpu() for name in at[0]})
        items += some
    values = {name: torch.cat([row[name] for row in rows], 1) for name in rows[0]}
    return Probe(config, times, values, [item.edit_type for item in items], has_truth)


def _by_flowedit(
    editor: Editor, x: Tensor, items: list[Item], seed: int, each: Callable[[int], None]
) -> Tensor:
    """The pseudo-truth: FlowEdit on the same base, as its family has it published."""
    per_step = flowedit_forwards(editor.sampling.guidance)
    return edit_by_flowedit(
        editor,
        x,
        [item.src_caption for item in items],
        [item.tgt_caption for item in items],
        seed=seed,
        settings=FlowEditSettings.of_family(editor.info.family),
        each=lambda done, of: each(per_step * len(items)),
    )
