"""How many items of which size a run trains on, in tokens. Loads nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ..config import TrainConfig
from ..media.fit import Size, buckets, nearest_bucket
from ..models.backbone import token_counts

if TYPE_CHECKING:
    from ..data.items import Dataset


class Shapes(NamedTuple):
    """What the cost of a run depends on: how many items of which size."""

    sizes: Counter[Size]  # training items per bucket
    text: int  # tokens
    image: dict[Size, int]  # tokens of one picture or clip

    @property
    def mean_image(self) -> float:
        """Tokens of an average picture or clip."""
        return sum(self.image[size] * n for size, n in self.sizes.items()) / self.sizes.total()


def shapes(config: TrainConfig, multiple: int, data: Dataset | None) -> Shapes:
    """Token counts of the data; without data, of one square picture or one 16:9 clip."""
    choice = buckets(
        config.data.resolution, multiple, config.data.max_aspect if config.data.buckets else 1.0
    )
    items = data.train if data else []
    sizes = Counter(nearest_bucket(item.width, item.height, choice) for item in items)
    if not sizes:
        sizes[nearest_bucket(*((16, 9) if config.data.frames > 1 else (1, 1)), choice)] = 1
    counts = {size: token_counts(config.model, *size, config.data.frames) for size in sizes}
    text = next(iter(counts.values()))[0]
    return Shapes(sizes, text, {size: image for size, (_, image) in counts.items()})
