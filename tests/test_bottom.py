"""Where the bottom of the loss lies, against sums worked out by hand."""

from __future__ import annotations

import pytest
import torch

from byg_train.config import ConfigError, build_config
from byg_train.config.methods import BygConfig
from byg_train.objectives.bottom import (
    COPY,
    EDIT,
    FORGETTING,
    OUT,
    Answer,
    Prices,
    bottom,
    recommended,
)

# The tiny world, as it was measured at first: t, L_dir and L_MSE of the truth, and of the source.
WORLD = {
    0.95: (0.29, 0.83, 0.57, 1.62),
    0.8: (0.19, 0.44, 0.43, 1.04),
    0.6: (0.12, 0.28, 0.30, 0.72),
    0.4: (0.17, 0.28, 0.50, 0.71),
    0.2: (0.43, 0.39, 0.84, 0.84),
}
FULL_STEPS = {"identity_probability": 0.0}


def world() -> Prices:
    rows = torch.tensor([*WORLD.values()], dtype=torch.float64)[:, :, None]
    truth, copy = Answer(rows[:, 0], rows[:, 1]), Answer(rows[:, 2], rows[:, 3])
    share = torch.full((5,), 0.2, dtype=torch.float64)
    return Prices(torch.tensor([*WORLD], dtype=torch.float64), share, truth, copy, truth)


def least(p: Prices, **settings: object) -> str:
    losses = bottom(p, BygConfig(**settings))
    return min(losses, key=lambda name: losses[name].item())


def test_losses_are_the_sums_of_equation_5() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    share = torch.ones(1, dtype=torch.float64)
    p = Prices(
        share / 2, share, Answer(0.2 * one, 0.4 * one), Answer(0.6 * one, 1.2 * one),
        Answer(0.3 * one, 0.5 * one),
    )  # fmt: skip
    w = BygConfig(
        lambda_cycle=1.5, lambda_prior=2, lambda_id=0.25, alpha=0.5, identity_probability=0.2
    )
    found = {name: of.item() for name, of in bottom(p, w).items()}
    assert found == pytest.approx({
        EDIT: 0.8 * 2 * (0.2 + 0.5 * 0.4 + 0.3 + 0.5 * 0.5),
        COPY: 0.8 * 2 * (0.6 + 0.5 * 1.2 + 0.3 + 0.5 * 0.5),
        FORGETTING: 0.8 * (1.5 + 0.25) * 0.5 + 0.2 * 0.5,
    })  # fmt: skip
    forward = {
        name: of.item() for name, of in bottom(p, w.model_copy(update={"reverse": False})).items()
    }
    assert forward[EDIT] == pytest.approx(0.8 * 2 * (0.2 + 0.5 * 0.4))
    assert forward[FORGETTING] == pytest.approx((0.8 * 0.25 + 0.2) * 0.5)


def test_the_weights_of_the_first_demo_ask_for_text_to_image() -> None:
    assert least(world(), lambda_prior=2, alpha=1) == FORGETTING
    assert least(world(), lambda_prior=0.5, alpha=0.1) == EDIT
    even = bottom(world(), BygConfig(lambda_prior=1, alpha=0.1, **FULL_STEPS))
    assert even[EDIT].item() == pytest.approx(even[FORGETTING].item(), abs=0.05)


def test_at_the_balance_forgetting_costs_as_much_as_editing() -> None:
    w = BygConfig()
    recipe = recommended(world(), w)
    at = bottom(
        world(), w.model_copy(update={"lambda_prior": recipe.balance, "alpha": recipe.alpha})
    )
    assert at[EDIT].item() == pytest.approx(at[FORGETTING].item())
    assert recipe.lambda_prior == pytest.approx(recipe.balance / 2, rel=0.1)
    assert (recipe.alpha, recipe.prior_by_t) == (0.1, ())
    assert least(world(), lambda_prior=recipe.lambda_prior, alpha=recipe.alpha) == EDIT


def test_alpha_is_raised_where_the_squared_error_tells_edits_from_copies_better() -> None:
    p = world()
    blurred = Answer(p.edited.direction + 0.3, p.copied.mse)
    copies_differ_in_size = p._replace(copied=Answer(p.edited.direction + 0.05, p.copied.mse))
    assert recommended(copies_differ_in_size, BygConfig()).alpha == 1.0
    assert recommended(p._replace(copied=blurred), BygConfig()).alpha == 0.1


def test_times_at_which_the_direction_is_wrong_are_left_out() -> None:
    p = world()
    off = p.back.direction.clone()
    off[4] = 0.9  # t = 0.2
    recipe = recommended(p._replace(back=Answer(off, p.back.mse)), BygConfig())
    assert recipe.prior_by_t == ((0.2, OUT), (0.4, 1.0))
    nowhere = p._replace(back=Answer(0 * off + 0.9, p.back.mse))
    assert recommended(nowhere, BygConfig()).prior_by_t == ()


def test_the_factor_weighs_the_prior_alone() -> None:
    plain, half = (bottom(world(), BygConfig(prior_by_t=points)) for points in ((), ((0.5, 0.5),)))
    assert half[EDIT].item() == pytest.approx(plain[EDIT].item() / 2)
    assert half[FORGETTING].item() == pytest.approx(plain[FORGETTING].item())


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([[0.5, 1.0], [0.2, 1.0]], "rising"),
        ([[0.5, 1.0], [0.5, 2.0]], "rising"),
        ([[0.5, 1.0], [1.5, 2.0]], "from 0 to 1"),
        ([[0.5, 0.0]], "0.01 leaves a time out as well"),
        ([[0.5, float("nan")]], "finite"),
        ([[0.5]], r"wanted points \[t, factor\]"),
        (0.5, r"wanted points \[t, factor\]"),
    ],
)
def test_points_that_are_no_function_are_refused(points: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_config({"method": {"prior_by_t": points}})


def test_a_gentle_end_that_never_comes_changes_nothing() -> None:
    never, half = BygConfig(lambda_prior=2), BygConfig(lambda_prior=2, gentle_from=0.5)
    assert never.after(1.0) is never
    assert half.after(1.0).lambda_prior == 0.5 and half.after(0.4) is half
