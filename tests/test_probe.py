"""The probe: measures of a base of closed form, and the command on every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_run
import tiny_z_image
import torch
import wan_run
from family_runs import byg
from PIL import Image
from torch import Tensor

from byg_train.config import ConfigError, TrainConfig, build_config, merged
from byg_train.core.flow import at_rank
from byg_train.core.roles import EditBatch, Velocity
from byg_train.core.schedule import draw_t
from byg_train.objectives.bottom import EDIT, FORGETTING
from byg_train.training.probe import TIMES, Probe, Time, at_edit, at_source, times_of
from byg_train.training.probe_report import asks_for_text_to_image, verdict
from byg_train.training.run_folder import to_toml
from byg_train.training.weights_check import TIMES as TIMES_AT_START
from byg_train.training.weights_check import warn_of_text_to_image

SHAPE = (3, 2, 1, 4, 4)


def straight(x_t: Tensor, t: Tensor, text: Tensor, source: Tensor | None = None) -> Tensor:
    """A base that draws the picture `text`, whatever the noise."""
    assert source is None
    return (x_t - text) / at_rank(t, x_t)


def pictures(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))


def test_who_draws_just_what_the_base_draws_pays_nothing() -> None:
    x, y, eps = (pictures(seed) for seed in range(3))
    t = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    batch = EditBatch(x, None, None, p_src=x, p_tgt=y, y=y)
    here, there = at_source(straight, batch, t, eps), at_edit(straight, batch, t, eps)
    zero = torch.zeros(3, dtype=torch.float64)
    for name in ("back_dir", "back_mse"):
        torch.testing.assert_close(here[name], zero)
    for name in ("edited_dir", "edited_mse"):
        torch.testing.assert_close(there[name], zero)
    torch.testing.assert_close(here["copied_dir"], zero + 1)  # it does not move at all
    torch.testing.assert_close(here["copied_mse"], (x - y).square().flatten(1).mean(1) / t**2)
    # The base goes to y from anywhere; who answers eps - x at the noised y is off by y - x.
    torch.testing.assert_close(there["kept_mse"], (x - y).square().flatten(1).mean(1))


def test_a_base_that_errs_is_measured_by_its_error() -> None:
    x, y, eps, off, wrong = (pictures(seed) for seed in range(5))
    t = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    batch = EditBatch(x, None, None, p_src=x + off, p_tgt=y + wrong, y=y)
    here, there = at_source(straight, batch, t, eps), at_edit(straight, batch, t, eps)
    direction = x + off - y - wrong
    torch.testing.assert_close(here["direction"], direction / at_rank(t, x))
    torch.testing.assert_close(here["back_mse"], off.square().flatten(1).mean(1) / t**2)
    torch.testing.assert_close(here["back_dir"], 1 - cosine(y + wrong - x, -direction))
    torch.testing.assert_close(there["edited_mse"], wrong.square().flatten(1).mean(1) / t**2)
    torch.testing.assert_close(there["edited_dir"], 1 - cosine(x + off - y, direction))
    size = direction.square().flatten(1).mean(1) / t**2 / (eps - x).square().flatten(1).mean(1)
    torch.testing.assert_close(here["size"], size.sqrt())


def warned(caplog: pytest.LogCaptureFixture, draws: Velocity = straight, **method: object) -> str:
    """What is said before the first step, of a base that errs by a tenth."""
    config = build_config({"train": {"batch_size": 3, "global_batch": 3}, "method": method})
    asked: list[int] = []

    def base(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        asked.append(len(x_t))
        return draws(x_t, t, text)

    batches = []
    for k in range(3):
        x, y, off, wrong = (pictures(10 * k + seed) for seed in range(4))
        batches.append(EditBatch(x, x, x, p_src=x + 0.1 * off, p_tgt=y + 0.1 * wrong))
    caplog.clear()
    spans, cpu = {"transformer": (0.0, 1.0)}, torch.device("cpu")
    with caplog.at_level("WARNING", logger="byg_train"):
        warn_of_text_to_image(config, base, batches, spans, cpu)
    assert len(asked) == 3 * TIMES_AT_START * 2
    return caplog.text


def test_weights_that_ask_for_text_to_image_are_told_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = warned(caplog, lambda_prior=50)
    assert "these weights ask for text-to-image" in found and "let the end alone" in found
    assert "With --set method.lambda_prior=" in found and "--set method.alpha=0.1" in found
    assert not warned(caplog, lambda_prior=0.01)
    free = {"lambda_cycle": 0, "lambda_id": 0, "identity_probability": 0}
    found = warned(caplog, **free)
    assert "nothing keeps the source" in found and "--set" not in found
    assert not warned(caplog, lambda_prior=50, gentle_from=0.9, gentle_prior=0.01)


def test_the_end_alone_may_not_have_what_holds_for_some_noise_levels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def draws(x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return straight(x_t, t, text if t[0] > 0.5 else -text)

    found = warned(caplog, draws, lambda_prior=50)
    assert "prior_by_t=[[" in found and "let the end alone" not in found


@pytest.mark.parametrize("share", [0, 0.5])
def test_of_a_run_that_turns_gentle_its_end_is_what_is_to_change(
    caplog: pytest.LogCaptureFixture, share: float
) -> None:
    found = warned(caplog, lambda_prior=0.01, gentle_from=share, gentle_prior=50)
    assert "--set method.gentle_prior=" in found and "--set method.gentle_alpha=0.1" in found
    assert "lambda_prior" not in found and "let the end alone" not in found


def test_one_item_that_is_hard_hides_no_text_to_image() -> None:
    """Costs of eight clips, of which the fifth is twenty times as dear as the others."""
    edit = torch.tensor([562.0, 285, 450, 326, 6605, 248, 3051, 322])
    forgetting = torch.tensor([0.18, 0.11, 0.11, 0.13, 2.62, 0.08, 1.01, 0.10])
    assert asks_for_text_to_image({EDIT: edit, FORGETTING: forgetting})
    assert not asks_for_text_to_image({EDIT: forgetting, FORGETTING: edit})
    even = torch.tensor([1.0, 2, 1, 2])
    assert not asks_for_text_to_image({EDIT: even, FORGETTING: even.flip(0)})
    assert not asks_for_text_to_image({EDIT: edit * 0, FORGETTING: forgetting})


def measured(direction: list[float], **method: object) -> Probe:
    """A probe of one item at two times, whose true way back lies so far off the direction."""
    config = build_config({"method": method})
    times = [Time("transformer", 0.4, 0.5), Time("transformer", 0.9, 0.5)]
    values = {f"{name}_mse": torch.tensor([[0.4], [0.2]]) for name in ("edited", "copied", "back")}
    values |= {"edited_dir": torch.tensor([[0.2], [0.2]]), "copied_dir": torch.ones(2, 1)}
    values["back_dir"] = torch.tensor(direction)[:, None]
    return Probe(config, times, values, ["colour"], has_truth=True)


def test_a_balance_is_told_with_all_that_it_holds_with() -> None:
    """At lambda_prior alone the edit would cost more than forgetting the source, not as much."""
    said = verdict(measured([1.2, 0.1], lambda_prior=1))
    (told,) = (line for line in said if "recommended" in line)
    assert told.startswith("with alpha 0.1 and prior_by_t as below forgetting the source costs as")
    assert "about half of that: --set" in told and "prior_by_t=[[0.4,0.01],[0.9,1]]" in told
    said = verdict(measured([0.1, 0.1], lambda_prior=1))
    assert any(line.startswith("with alpha 0.1 forgetting the source costs") for line in said)
    assert not any("no weights mend that" in line for line in said)


def test_a_direction_that_leads_back_nowhere_is_told() -> None:
    said = verdict(measured([1.2, 0.9]))
    assert "no weights mend that. Do the captions say what changes" in said[-1]


def test_whether_a_copy_pays_less_is_asked_of_what_is_recommended() -> None:
    """The squared error tells them apart here, and the run's alpha leaves it out."""
    probe = measured([0.1, 0.1], alpha=0.0)
    probe.values["copied_dir"] = torch.tensor([[0.1], [0.1]])
    probe.values["copied_mse"] = torch.tensor([[2.0], [1.0]])
    losses = probe.losses()
    assert losses["a copy"] < losses["the edit"]
    assert not any("no reason to edit" in line for line in verdict(probe))
    probe.values["copied_mse"] = torch.zeros(2, 1)
    assert "with the recommended weights, too, a copy pays less" in verdict(probe)[-1]


def test_an_expert_whose_noise_levels_were_not_asked_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times_of(build_config(VIDEO), SPANS, 6)
    assert not caplog.text
    times_of(build_config(VIDEO), SPANS, 6, [0.6, 0.2])
    assert "none of --times is trained by the high-noise expert" in caplog.text


SPANS = {"low": (0.0, 0.875), "high": (0.875, 1.0)}
VIDEO = {
    "model": {"family": "wan", "reference_mode": "shared"}, "data": {"frames": 9},
    "time": {"distribution": "logit_normal", "shift": 5},
}  # fmt: skip


def test_times_are_spread_as_training_is() -> None:
    config = build_config({"time": {"shift": 3}})
    times = times_of(config, {"transformer": (0.0, 1.0)}, TIMES)
    assert [time.t for time in times] == sorted(time.t for time in times)
    assert sum(time.share for time in times) == pytest.approx(1)
    # Of 20,000 draws each is nearest to a share of them.
    t = draw_t(20_000, torch.Generator().manual_seed(0), "uniform", 3)
    nearest = (t[:, None] - torch.tensor([time.t for time in times])).abs().argmin(1)
    counted = torch.bincount(nearest, minlength=TIMES) / len(t)
    torch.testing.assert_close(counted, torch.tensor([p.share for p in times]), atol=0.01, rtol=0)


def test_each_expert_has_times_of_its_own() -> None:
    times = times_of(build_config(VIDEO), SPANS, 6)
    assert [time.expert for time in times] == ["low"] * 3 + ["high"] * 3
    assert all(SPANS[expert][0] < t <= SPANS[expert][1] for expert, t, _ in times)
    alone = build_config(VIDEO | {"train": {"expert": "high"}})
    assert {time.expert for time in times_of(alone, SPANS, 6)} == {"high"}
    chosen = times_of(build_config(VIDEO), SPANS, 6, [1.0, 0.875, 0.3])
    assert [(time.expert, time.t) for time in chosen] == [
        ("low", 0.3),
        ("high", 0.875),
        ("high", 1),
    ]
    # Of one expert alone, one time twice, or none that the run trains.
    assert times_of(build_config(VIDEO), SPANS, 6, [0.95, 0.95]) == [("high", 0.95, 1.0)]
    with pytest.raises(ConfigError, match="no noise level of 0.5 is trained"):
        times_of(alone, SPANS, 6, [0.5])


# ---------------------------------------------------------------- the command


def probed(config: TrainConfig, folder: Path, *words: object) -> dict:
    """What the command finds on a run's settings; the picture is there too."""
    folder.mkdir(exist_ok=True)
    (folder / "run.toml").write_text(to_toml(config))
    words = ("--config", folder / "run.toml", "--device", "cpu", "--output", folder, *words)
    said = byg("probe", *words).output
    assert "the bottom of the loss is" in said and str(folder / "probe.png") in said
    with Image.open(folder / "probe.png") as picture:
        assert min(picture.size) > 500
    return json.loads((folder / "probe.json").read_text())


@pytest.mark.slow
def test_without_pairs_flowedit_says_what_the_edit_is(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config = tiny_run.settings(tiny_base, tiny_data)
    found = probed(config, tmp_path, "--items", 3, "--times", "0.9,0.4,0.4001")
    assert found["edits"] == "by FlowEdit on the same base" and found["items"] == 3
    assert [time["t"] for time in found["times"]] == [0.4, 0.9]
    # FlowEdit goes where the base pulls, as far as noise lets it; a copy does not.
    losses = found["losses"]
    assert losses["the edit"]["mean"] < losses["a copy"]["mean"]
    assert "FlowEdit's edit costs" in found["verdict"][0]
    with pytest.raises(AssertionError, match="wanted numbers from 0.001"):
        probed(config, tmp_path, "--times", "0.9,2")


def test_pairs_are_taken_at_their_word(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """The true edit of a picture is itself here: then the edit costs what a copy does."""
    rows = [json.loads(line) for line in (tiny_data / "metadata.jsonl").read_text().splitlines()]
    folder = tmp_path / "pairs"
    folder.mkdir()
    with (folder / "metadata.jsonl").open("w") as file:
        for row in rows:
            (folder / row["file_name"]).write_bytes((tiny_data / row["file_name"]).read_bytes())
            file.write(json.dumps(row | {"target_file_name": row["file_name"]}) + "\n")
    found = probed(tiny_run.settings(tiny_base, folder), tmp_path / "probe", "--times", "0.5")
    losses = found["losses"]
    assert found["edits"] == "true" and found["items"] == len(rows)
    assert losses["the edit"] == losses["a copy"] and "the true edit costs" in found["verdict"][0]


@pytest.mark.slow
def test_both_experts_of_a_pair_are_asked(wan_clips: Path, tmp_path: Path) -> None:
    found = probed(wan_run.settings(wan_clips), tmp_path, "--items", 1, "--times", "0.95,0.5")
    assert [time["expert"] for time in found["times"]] == ["low", "high"]
    assert sum("noise: FlowEdit's edit costs" in said for said in found["verdict"]) == 2


@pytest.mark.slow
def test_z_image_is_asked_through_its_record(tiny_data: Path, tmp_path: Path) -> None:
    tables = {
        "model": {
            "family": "z_image", "path": str(tiny_z_image.base()), "reference_mode": "index",
            "text_len": tiny_z_image.TEXT_LEN,
        },
        "guidance": dict.fromkeys(("train", "prior", "sample")),
        "data": {"path": str(tiny_data), "cache": str(tmp_path / "cache")},
    }  # fmt: skip
    config = build_config(merged(tiny_run.SMALL, tables))
    config = config.model_copy(update={"lora": build_config({}).lora})
    found = probed(config, tmp_path, "--items", 1, "--times", "0.5")
    assert found["items"] == 1 and len(found["times"]) == 1


@pytest.mark.slow
def test_one_true_edit_among_others_is_said_not_to_be_used(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [json.loads(line) for line in (tiny_data / "metadata.jsonl").read_text().splitlines()]
    rows[0]["target_file_name"] = rows[0]["file_name"]
    folder = tmp_path / "some"
    folder.mkdir()
    for row in rows:
        (folder / row["file_name"]).write_bytes((tiny_data / row["file_name"]).read_bytes())
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = probed(tiny_run.settings(tiny_base, folder), tmp_path / "probe", "--times", "0.5")
    assert f"1 of the {len(rows)} items name a target_file_name" in caplog.text
    assert found["edits"] == "by FlowEdit on the same base"


def test_weights_without_a_prior_or_without_a_source_are_told(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = ("--items", 1, "--times", "0.5")
    config = tiny_run.settings(tiny_base, tiny_data, {"method": {"lambda_prior": 0}})
    found = probed(config, tmp_path / "a", *words)
    assert "lambda_prior is 0: nothing asks for an edit, and training copies" in found["verdict"]
    assert "the bottom of the loss is FlowEdit's edit or a copy" in found["verdict"][0]
    assert "nan" not in " ".join(found["verdict"])
    free = {"lambda_cycle": 0, "lambda_id": 0, "identity_probability": 0}
    config = tiny_run.settings(tiny_base, tiny_data, {"method": free})
    found = probed(config, tmp_path / "b", *words)
    assert any("nothing keeps the source" in said for said in found["verdict"])
    assert not any("recommended" in said for said in found["verdict"])
    assert found["recommended"] is None
    points = {"prior_by_t": [[0.2, 0.01], [0.4, 1]]}
    config = tiny_run.settings(tiny_base, tiny_data, {"method": points})
    found = probed(config, tmp_path / "c", *words)
    assert found["recommended"]["settings"].endswith("--set 'method.prior_by_t=[]'")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("critic.path=world", "objective=npedit has no prior to weigh against its source"),
        ("method.objective=supervised", "objective=supervised has no prior to weigh"),
        ("method.identity_probability=1", "every step copies, and no prior is ever asked"),
        ("method.lambda_prior=inf", "finite number"),
    ],
)
def test_a_run_without_a_prior_is_refused_before_anything_is_loaded(
    tmp_path: Path, setting: str, said: str
) -> None:
    preset = "demo_npedit" if "critic" in setting else "demo"
    with pytest.raises(AssertionError, match=said):
        byg("probe", "--preset", preset, "--output", tmp_path / "out", "--set", setting)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_left_out_is_told_and_listed(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A true edit that is not there stops; of dropped items the folder has a list."""
    rows = [json.loads(line) for line in (tiny_data / "metadata.jsonl").read_text().splitlines()]
    folder = tmp_path / "some"
    folder.mkdir()
    for row in rows:
        (folder / row["file_name"]).write_bytes((tiny_data / row["file_name"]).read_bytes())
        row["target_file_name"] = row["file_name"]
    rows[0]["target_file_name"] = "missing.png"
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--times", "0.5")
    with pytest.raises(
        AssertionError, match=r"1 of the \d+ true edits that target_file_name"
    ) as one:
        probed(tiny_run.settings(tiny_base, folder), tmp_path / "stop", *words)
    assert "missing.png" in str(one.value) and "objective=supervised" not in str(one.value)
    dropping = tiny_run.settings(tiny_base, folder, {"data": {"on_bad_item": "drop"}})
    found = probed(dropping, tmp_path / "drop", *words)
    assert found["items"] == len(rows) - 1
    assert "looking without 1 item that cannot be used" in caplog.text
    assert "missing.png" in (tmp_path / "drop" / "dropped.txt").read_text()


def test_a_probe_loads_the_base_as_a_card_and_a_profile_want_it(tmp_path: Path) -> None:
    words = ("--items", 1, "--times", "0.5", "--device", "cpu", "--output", tmp_path)
    said = byg("probe", "--preset", "demo", "--profile", "fast", "--vram", "12", *words).output
    assert "of 11.4 GB" in said and "the bottom of the loss is" in said
    with pytest.raises(AssertionError, match="--vram"):
        byg("probe", "--preset", "demo", "--vram", "13x", *words)


def test_data_that_cannot_be_used_are_told_before_a_base_is_looked_for(tmp_path: Path) -> None:
    words = ("--preset", "flux_style", "--data", tmp_path / "none", "--output", tmp_path / "out")
    with pytest.raises(AssertionError, match="none does not exist"):
        byg("probe", *words)


@pytest.mark.slow
def test_of_the_tiny_world_as_many_items_are_looked_at_as_are_asked_for(tmp_path: Path) -> None:
    words = ("--items", 7, "--times", "0.5", "--device", "cpu", "--output", tmp_path)
    assert "7 items, true edits" in byg("probe", "--preset", "demo", *words).output
    found = json.loads((tmp_path / "probe.json").read_text())
    assert len(found["losses by edit type"]) == found["items"] == 7
    # `data` is where a demo's training would look for what it trains on.
    assert (tmp_path / "demo-edits").is_dir() and not (tmp_path / "data").exists()
