"""What a run says about its own length, from the first steps that it timed."""

from __future__ import annotations

from byg_train.config import TrainConfig, build_config, load_preset, merged
from byg_train.training.cost import StepCost, validation_cost
from byg_train.training.forecast import ENOUGH, TIMED, Forecast

STEP = StepCost(full=12.0, identity=2.0, mean=10.5, supervised=2.0)


def config(**train: int) -> TrainConfig:
    return build_config(merged(load_preset("demo"), {"train": {"steps": 100, **train}}))


def sentences(forecast: Forecast, seconds: list[float], kind: str = "full") -> list[str | None]:
    return [
        forecast.note({"kind": kind, "seconds": s}, done) for done, s in enumerate(seconds, start=1)
    ]


def test_it_speaks_once_and_of_the_middle_of_what_it_timed() -> None:
    # A slow first step, and one that a busy moment stretched, count for nothing.
    seconds = [9.0, 3.0, *[1.2] * (TIMED + 5)]
    said = sentences(Forecast(config(sample_every=50), STEP, later=600), seconds)
    assert [i for i, sentence in enumerate(said, start=1) if sentence] == [TIMED + 1]
    sentence = said[TIMED]
    training = (100 - TIMED - 1) * 1.2 * STEP.mean / STEP.full
    forward = 1.2 / (STEP.full * 8)
    # At step 50 and at the end, four items each.
    samples = 2 * 4 * validation_cost(config()) * forward
    parts = f"training {training:.0f} s, samples {samples:.0f} s, measuring {600 * forward:.0f} s"
    assert sentence == (
        f"A full step takes 1.20 s on this machine. To come: {parts}; "
        f"{(training + samples + 600 * forward) / 60:.0f} min in all"
    )


def test_steps_of_minutes_are_not_waited_for() -> None:
    said = sentences(Forecast(config(), STEP), [90.0, ENOUGH / 2, ENOUGH / 2 + 1])
    assert said[:2] == [None, None]
    assert "measuring" not in said[2]


def test_identity_steps_say_nothing() -> None:
    assert not any(sentences(Forecast(config(), STEP), [0.3] * 30, kind="identity"))
