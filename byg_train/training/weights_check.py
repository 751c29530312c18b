"""Before the first step: where a long run with these weights would end.

Of the way back the truth is known, it is the source, and the way there costs about as much. So two
forwards of the base for an item and a time say what editing costs and what forgetting the source.
"""

from __future__ import annotations

import logging
from math import ceil

import torch
from torch import Tensor

from ..config import TrainConfig
from ..core.roles import Velocity
from ..core.schedule import Span
from ..data.batches import Batches, to_device
from ..objectives import objective_of
from ..objectives.bottom import EDIT, FORGETTING, recommended
from ..progress import Progress
from .probe import at_source, prices, times_of
from .probe_report import NOTHING_KEEPS, asks_for_text_to_image, mean_and_error, settings

log = logging.getLogger("byg_train")

# What is looked at: less than half of a step's forwards.
ITEMS, TIMES = 8, 4
ENDS_ALONE = (
    "; or let the end alone have these two, as method.gentle_prior and method.gentle_alpha with "
    "method.gentle_from=0.6"
)


def warn_of_text_to_image(
    config: TrainConfig,
    base: Velocity,
    batches: Batches,
    spans: dict[str, Span],
    device: torch.device,
) -> None:
    """Say so if forgetting the source is cheaper than editing it, under the run's last weights."""
    objective = objective_of(config)
    if objective.bottom is None:
        return
    times = times_of(config, spans, TIMES)
    generator = torch.Generator().manual_seed(config.seed + 11)
    rows: list[dict[str, Tensor]] = []
    number = ceil(ITEMS / len(batches[0].x))
    with Progress(number * len(times), "weighing the losses") as progress:
        for k in range(number):
            batch, at = to_device(batches[k], device), []
            for time in times:
                eps = torch.randn(batch.x.shape, generator=generator).to(batch.x)
                t = torch.full((len(eps),), time.t).to(eps)
                found = at_source(base, batch, t, eps)
                del found["direction"]  # as large as the items
                at.append(found)
                progress.advance()
            rows.append({name: torch.stack([one[name] for one in at]).cpu() for name in at[0]})
    values = {name: torch.cat([row[name] for row in rows], 1) for name in rows[0]}
    found, ends = prices(times, values), config.method.after(1.0)
    losses = objective.bottom(found, ends)
    recipe = recommended(found, ends)
    if not recipe.balance:
        log.warning("%s, so a long run ends in text-to-image", NOTHING_KEEPS)
    elif asks_for_text_to_image(losses):
        edit, forgotten = (mean_and_error(losses[name])[0] for name in (EDIT, FORGETTING))
        log.warning(
            "in the long run these weights ask for text-to-image: an edit that keeps its source "
            "costs %.2f, forgetting the source %.2f. With %s it does not pay to forget%s. `probe` "
            "looks closer",
            edit,
            forgotten,
            settings(recipe, config.method),
            "" if config.method.turns or recipe.prior_by_t else ENDS_ALONE,
        )
