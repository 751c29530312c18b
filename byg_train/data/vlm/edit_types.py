"""The ten edit types of appendix D.1, and the choice of types that a picture is offered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

# D.1: "a small subset of categories (typically k=3)".
OFFERED = 3
# D.1: how often a picture that is no photograph must become one.
P_PHOTO = 0.15
# Ours; the paper gives no weights. GAMMA: how strongly a type that is behind its share is favoured.
# MOST: the largest factor, since a type that few pictures allow would otherwise be in every offer.
GAMMA, MOST = 2.0, 4.0


class EditType(NamedTuple):
    """One type of edit."""

    prior: float  # its share of all edits, relative to an ordinary type
    meaning: str  # how the prompt describes it


# D.1: "slightly over-samples categories such as remove and replace"; 1.5 is ours.
EDIT_TYPES = {
    "color_change": EditType(1, "give a prominent object clearly another color"),
    "material_change": EditType(
        1, "make a prominent object of another material, or give it another texture"
    ),
    "shape_adjustment": EditType(1, "give a prominent object clearly another shape or size"),
    "add": EditType(1, "put one new, clearly visible object into the picture, and say where"),
    "remove": EditType(1.5, "take one prominent object away; what was behind it is seen instead"),
    "replace": EditType(1.5, "put another kind of object in the place of a prominent one"),
    "background_change": EditType(1, "put the main subject in front of a wholly other background"),
    "style_change": EditType(1, "render the whole picture in another artistic style"),
    "pose_change": EditType(1, "let a person or animal do something else, or hold another pose"),
    "text_manipulation": EditType(1, "change, add or remove lettering that is easy to read"),
}

# Other names that models use, in the spelling that `known_type` compares.
ALIASES = {
    "color_change": "color colour recolor recolour change_color change_colour colour_change "
    "color_alteration color_adjustment",
    "material_change": "material texture texture_change change_material change_texture "
    "texture_material_change material_texture_change material_alteration",
    "shape_adjustment": "shape shape_change change_shape size_change resize shape_modification",
    "add": "addition adding insert insertion add_object object_addition object_add",
    "remove": "removal removing delete deletion remove_object object_removal object_remove erase",
    "replace": "replacement replacing swap object_swap substitute substitution replace_object "
    "object_replacement object_replace",
    "background_change": "background bg bg_change background_swap background_replacement env "
    "environment environment_change change_background replace_background",
    "style_change": "style stylize stylization style_transfer style_conversion change_style "
    "artistic_style",
    "pose_change": "pose action action_change action_pose_change pose_action_change motion_change "
    "change_pose change_action motion",
    "text_manipulation": "text text_change text_edit text_editing change_text text_modification "
    "lettering",
}
_KNOWN = {alias: name for name, words in ALIASES.items() for alias in (name, *words.split())}

# D.1 names the first five as examples of its list; the others are ours.
STYLES = (
    "watercolor", "oil painting", "anime", "ukiyo-e", "charcoal", "pencil sketch", "ink drawing",
    "pastel", "comic book", "3D animation", "claymation", "pixel art", "paper cut-out", "pop art",
    "impressionism", "art nouveau", "stained glass", "flat vector illustration",
)  # fmt: skip
_PHOTOS = {
    "photo", "photos", "photograph", "photographs", "photography", "photographic", "photoreal",
    "photorealistic", "photorealism", "photorealisticstyle", "realistic", "real", "realphoto",
}  # fmt: skip


class Offer(NamedTuple):
    """The edits that one picture is offered."""

    types: tuple[str, ...]
    styles: tuple[str, ...]  # for style_change
    to_photo: bool = False  # forced: a stylised picture is to become a photograph


def known_type(name: str) -> str | None:
    """Return the edit type that a name stands for, or None."""
    return _KNOWN.get("_".join(re.findall(r"[a-z]+", name.casefold())))


def is_photo(style: str) -> bool:
    """Whether a style is that of a photograph; an unknown style counts as one."""
    return not style or "".join(re.findall(r"[^\W_]+", style.casefold())) in _PHOTOS


class Balance:
    """Balances how often each type is used.

    Offers do not wait for the answers to the last pictures: until an answer is counted, each type
    that was offered counts as used 1 / `len(types)` times. So the offers are a function of the
    seed, the order of the pictures and the answers, and never of timing.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.used: Counter[str] = Counter()
        self.open: Counter[str] = Counter()  # offers without a counted answer, by type
        self._shares = {name: kind.prior for name, kind in EDIT_TYPES.items()}

    def offer(self, name: str, style: str) -> Offer:
        """Draw the offer for the next picture, by its name and style."""
        random = Random(f"{self.seed} {name}")
        to_photo = not is_photo(style) and random.random() < P_PHOTO
        weights = self.weights()
        types: list[str] = []
        while len(types) < OFFERED:
            left = [kind for kind in weights if kind not in types]
            types += random.choices(left, [weights[kind] for kind in left])
        # Shuffle the styles: models favour what they read first.
        styles = tuple(random.sample(STYLES, len(STYLES)))
        offer = Offer(("style_change",), ("photorealistic",), True) if to_photo else None
        offer = offer or Offer(tuple(types), styles)
        self._note(offer, 1)
        return offer

    def settle(self, answers: Iterable[tuple[Offer, str | None]]) -> None:
        """Count the outcome of offers: the type used, or None without a usable answer."""
        for offer, used in answers:
            self._note(offer, -1)
            if used in EDIT_TYPES:
                self.used[used] += 1

    def weights(self) -> dict[str, float]:
        """prior * ((1 + expected) / (1 + used)) ** gamma: in the long run used ~ prior."""
        used = {name: self.used[name] + self.open[name] / OFFERED for name in EDIT_TYPES}
        each = sum(used.values()) / sum(self._shares.values())
        return {
            name: share * min(MOST, ((1 + each * share) / (1 + used[name])) ** GAMMA)
            for name, share in self._shares.items()
        }

    def _note(self, offer: Offer, sign: int) -> None:
        # Count thirds as integers, so that sums do not depend on their order.
        for kind in offer.types:
            self.open[kind] += sign * (OFFERED // len(offer.types))
