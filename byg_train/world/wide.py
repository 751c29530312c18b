"""The wide world: scenes that show more than their captions tell, as photographs do.

Where the subject is and which way it looks no text says, and half of the texts call it by its kind
alone. So who rebuilds a picture from its caption gets another one, and who edits must look. All
else is as in `scenes.py`; this module is a world of its own for `Judge` and `Demo`.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from . import scenes
from .names import CORNERS, HELD_OUT, SUBJECTS
from .scenes import EDIT_TYPES, EDITED, Edit, Scene, caption, draw, object_mask, withheld

__all__ = ["EDITED", "EDIT_TYPES", "caption", "draw", "object_mask", "withheld"]

# Names that its base learns, of the tiny world's. Few: there is more to learn of each.
_KNOWN = """
fox cat rabbit fish bird elephant pig penguin owl shark snail panda frog cow duck crocodile
pizza carrot strawberry pear egg avocado bread hotdog corn mushroom lemon eggplant
coffee beer
tulip sunflower pine clover
truck rocket car bicycle
book lock balloon bulb door gem shirt football hammer chair
"""
KNOWN = tuple(_KNOWN.split())
# Names that neither this base nor the judge's queries know.
STRANGE = tuple(name for name in SUBJECTS if name not in (*KNOWN, *HELD_OUT))
PLACES = tuple(product((-1, 0, 1), repeat=2))
# The place that a second object at a corner would cover.
COVERED = dict(zip(CORNERS, ((-1, -1), (1, -1), (-1, 1), (1, 1)), strict=True))

_KINDS = {
    "animal": """
snail octopus butterfly bee ladybug fish turtle bird penguin koala dolphin mouse cow tiger rabbit
cat whale horse dog pig frog hamster bear panda monkey fox owl duck eagle shark crab spider lion
unicorn hedgehog sheep elephant crocodile bat scorpion snake squid shrimp lobster parrot swan
flamingo llama camel kangaroo gorilla deer rooster chicken chick ant wolf seal sloth otter beaver
peacock""",
    "food": """
hotdog taco corn tomato eggplant grapes melon watermelon tangerine lemon banana pineapple apple
pear peach cherries strawberry hamburger pizza bread fries sushi doughnut cookie candy lollipop
cake popcorn croissant avocado cucumber carrot broccoli pretzel sandwich mango coconut cupcake
garlic onion waffle kiwi pancakes egg olive blueberries icecream pudding pie bagel potato
mushroom""",
    "drink": "beer coffee tea",
    "plant": "cactus tulip rose sunflower hibiscus pine palm tree seedling maple clover",
    "vehicle": """
rocket helicopter bus ambulance taxi car truck tractor ship boat bicycle airplane train scooter
ufo""",
}
# Name -> its kind; what is none of the above is a thing.
KIND = dict.fromkeys(SUBJECTS, "thing") | {
    name: kind for kind, names in _KINDS.items() for name in names.split()
}


def _untold(rng: random.Random, subjects: tuple[str, ...], fixed: dict[str, Any]) -> dict[str, Any]:
    """A subject, and by lot what texts do not tell of it; a second object will not cover it."""
    subject, corner = rng.choice(subjects), rng.choice(CORNERS)
    subject, corner = fixed.get("subject", subject), fixed.get("corner", corner)
    return {
        "subject": subject,
        "corner": corner,
        "place": rng.choice([place for place in PLACES if place != COVERED[corner]]),
        "mirrored": rng.random() < 0.5,
        "called": KIND[subject] if rng.random() < 0.5 else None,
    } | fixed


def random_scene(rng: random.Random, subjects: tuple[str, ...] = KNOWN, **fixed: Any) -> Scene:
    """A random scene; `fixed` sets fields."""
    return scenes.random_scene(rng, **_untold(rng, subjects, fixed))


def random_edit(
    rng: random.Random, edit_type: str, subjects: tuple[str, ...] = KNOWN, **fixed: Any
) -> Edit:
    """A random edit; what is untold stays untold in all its texts, and as it is in the picture."""
    return scenes.random_edit(rng, edit_type, **_untold(rng, subjects, fixed))


def training_edit(rng: random.Random, edit_type: str) -> Edit:
    """As `scenes.training_edit`; any subject teaches what needs no knowledge of it."""
    if edit_type != "style" and rng.random() < 0.5:
        return random_edit(rng, edit_type, STRANGE)
    return scenes.training_edit(rng, edit_type, random_edit)
