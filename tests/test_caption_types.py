"""Which edits a picture is offered: seeded, balanced, and forced for stylised pictures."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byg_train.data.vlm.edit_types import (
    EDIT_TYPES,
    MOST,
    P_PHOTO,
    STYLES,
    Balance,
    Offer,
    is_photo,
)
from byg_train.data.vlm.prompts import again, clean_prompt, clip_prompt, edit_prompt


def shares(choose: str, number: int = 4000) -> dict[str, float]:
    """How often each type is used by a model that chooses in a certain way."""
    balance, dice, used = Balance(0), random.Random(1), Counter()
    for i in range(number):
        offer = balance.offer(f"{i}.png", "")
        liked = [t for t in ("color_change", "add", "replace") if t in offer.types]
        rare = [t for t in offer.types if t != "text_manipulation"]
        chosen = {"any": dice.choice(offer.types), "first": offer.types[0],
                  "favourite": (liked or offer.types)[0],
                  "no text": rare[0]}[choose]  # fmt: skip
        used[chosen] += 1
        balance.settle([(offer, chosen)])
    return {kind: used[kind] / number for kind in EDIT_TYPES}


@pytest.mark.parametrize("choose", ["any", "first"])
def test_use_follows_the_priors(choose: str) -> None:
    total = sum(kind.prior for kind in EDIT_TYPES.values())
    for name, share in shares(choose).items():
        assert share == pytest.approx(EDIT_TYPES[name].prior / total, abs=0.01)


def test_a_favourite_of_the_model_is_held_back() -> None:
    """Offered evenly, it would be chosen whenever it is there: in 30 % of cases."""
    assert shares("favourite")["color_change"] < 0.15


def test_a_type_that_pictures_do_not_allow_leaves_room_for_the_others() -> None:
    found = shares("no text")
    assert found.pop("text_manipulation") == 0
    assert min(found.values()) > 0.07
    balance = Balance(0)
    balance.used.update({name: 1000 for name in EDIT_TYPES if name != "text_manipulation"})
    assert balance.weights()["text_manipulation"] == MOST


@given(st.integers(), st.text(), st.sampled_from(["", "anime", "photo"]))
def test_an_offer_is_a_function_of_seed_name_and_what_came_before(
    seed: int, name: str, style: str
) -> None:
    one, two = (Balance(seed).offer(name, style) for _ in range(2))
    assert one == two
    assert len(set(one.types)) == (1 if one.to_photo else 3)
    assert set(one.types) <= set(EDIT_TYPES)
    assert one.to_photo or sorted(one.styles) == sorted(STYLES)


def test_the_order_of_the_answers_does_not_matter() -> None:
    found = []
    for step in (1, -1):
        balance = Balance(3)
        offers = [balance.offer(str(i), "anime") for i in range(40)]
        answers = [(o, o.types[0] if i % 3 else None) for i, o in enumerate(offers)]
        balance.settle(answers[::step])
        found.append(balance.weights())
        assert not any(balance.open.values())
    assert found[0] == found[1]


def test_a_stylised_picture_is_sometimes_forced_to_a_photograph() -> None:
    balance = Balance(0)
    forced = [balance.offer(f"{i}", "3d-cartoon").to_photo for i in range(3000)]
    assert sum(forced) / 3000 == pytest.approx(P_PHOTO, abs=0.02)
    assert not any(balance.offer(f"{i}", "photo").to_photo for i in range(300))


@pytest.mark.parametrize("style", ["", "photo", "Photo-Realistic", "photographs", "realistic"])
def test_styles_of_photographs(style: str) -> None:
    assert is_photo(style)


@pytest.mark.parametrize("style", ["3d-cartoon", "anime", "oil_painting", "photo collage"])
def test_styles_of_other_pictures(style: str) -> None:
    assert not is_photo(style)


def test_the_prompt_of_a_picture() -> None:
    offer = Offer(("remove", "style_change", "add"), ("charcoal", "anime"))
    prompt = edit_prompt(offer, "a {cat} \\1", "anime")
    for part in (
        "- remove: take one prominent object away; what was behind it is seen instead\n",
        "- style_change: render the whole picture in another artistic style, one of: charcoal, ",
        '"edit_type": "remove" or "style_change" or "add",',
        "The picture's style: anime. src_caption names it.",
        "to be checked against the picture: a {cat} \\1",
        'Never "restore", "revert", "undo"',
    ):
        assert part in prompt
    assert "- replace:" not in prompt
    bare = edit_prompt(offer, "", "")
    assert "The picture's style" not in bare
    assert "A caption that came" not in bare
    forced = edit_prompt(Offer(("style_change",), ("photorealistic",), True), "", "anime")
    assert "turns it into a\nphotorealistic one" in forced
    assert '"edit_type": "style_change",' in forced
    assert again(prompt, "it is empty").startswith(prompt)


def test_the_prompts_of_a_clip() -> None:
    assert '"style":' not in clip_prompt(())
    assert 'one of "cartoon", "photo-realistic"\n}' in clip_prompt(("cartoon", "photo-realistic"))
    assert "\na cartoon {cat}\n" in clean_prompt("a cartoon {cat}")
