"""Supervised training: items with true edits through the real data code and the real trainer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import rows as rows_of
from PIL import Image
from tiny_run import SMALL
from tiny_run import settings as config
from typer.testing import CliRunner

from byg_train.cli.app import app
from byg_train.config import TrainConfig, merged
from byg_train.data import DataError
from byg_train.data.items import Dataset, load_items
from byg_train.data.pairs import for_objective
from byg_train.training.assembly import assemble
from byg_train.training.cost import step_cost
from byg_train.training.trainer import Trainer

SUPERVISED = {"method": {"objective": "supervised"}, "warmup": {"min_steps": 0, "max_steps": 0}}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Four 16 px pictures, each with a true edit; two rows have an instruction and no more."""
    folder, rng, rows = tmp_path / "pairs", np.random.default_rng(0), []
    (folder / "after").mkdir(parents=True)
    for i in range(4):
        for name in (f"{i}.png", f"after/{i}.png"):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / name)
        row = {"file_name": f"{i}.png", "target_file_name": f"after/{i}.png"}
        row |= {"instruction": "paint the thing blue", "split": "test" if i == 3 else "train"}
        if i > 1:
            row |= {"src_caption": f"a red thing {i}", "tgt_caption": f"a blue thing {i}"}
            row |= {"reverse_instruction": "paint the thing red"}
        rows.append(row)
    write(folder, rows)
    return folder


def write(folder: Path, rows: list[dict]) -> None:
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def loaded(config: TrainConfig) -> Dataset:
    return for_objective(load_items(config.data, 8), config, 8)


def trainer_of(config: TrainConfig, data: Dataset, output: Path) -> Trainer:
    return Trainer(config, data, output, assemble(config, data, output, "cpu"))


def test_every_item_gets_its_true_edit(tiny_base: Path, pairs: Path, tmp_path: Path) -> None:
    settings = config(tiny_base, pairs, SUPERVISED)
    data = loaded(settings)
    assert [item.target.path.name for item in data.train] == ["0.png", "1.png", "2.png"]
    (tmp_path / "run").mkdir()
    trainer = trainer_of(settings, data, tmp_path / "run")
    for k in range(3):
        batch, (item,) = trainer.batches[k], trainer.batches.items(k)
        after = torch.from_numpy(np.array(Image.open(pairs / f"after/{item.path.name}")))
        pixels = after.permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
        torch.testing.assert_close(batch.y[0], trainer.backbone.encode_pixels(pixels)[0])
        assert not torch.allclose(batch.y[0], batch.x[0])


def test_the_trainer_minimises_equation_1(tiny_base: Path, pairs: Path, tmp_path: Path) -> None:
    """What a step leaves in the weights is the gradient of Eq. 1, whatever ByG's settings are."""
    over = merged(
        SUPERVISED, {"method": {"identity_probability": 1.0}, "train": {"global_batch": 2}}
    )
    settings = config(tiny_base, pairs, over)
    (tmp_path / "run").mkdir()
    trainer = trainer_of(settings, loaded(settings), tmp_path / "run")
    trainer.optimizer_step()  # B is zero at first, and with it most gradients
    found: dict[str, torch.Tensor] = {}

    def update(record: dict, active: list[str]) -> None:
        found.update({n: p.grad.clone() for n, p in trainer.bank.named_parameters().items()})

    trainer._update = update
    record = trainer.optimizer_step()
    trainer.optimizer.zero_grad()
    ((_, batch, draw, _),) = trainer._micro_batches(trainer.spans)
    t = draw.t.view(-1, 1, 1, 1, 1)
    v = trainer.roles.edit((1 - t) * batch.y + t * draw.eps, draw.t, batch.c, batch.x)
    loss = (v - (draw.eps - batch.y)).square().mean()
    loss.backward()
    assert record["kind"] == "full" and set(record) >= {"edit", "loss"}
    assert record["edit"] == pytest.approx(loss.item(), rel=1e-5)
    for name, p in trainer.bank.named_parameters().items():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_a_supervised_run_from_the_command_line(
    tiny_base: Path, pairs: Path, tmp_path: Path
) -> None:
    arguments = ["--preset", "flux_edit", "--data", str(pairs), "--output", str(tmp_path / "run"),
                 "--model", str(tiny_base), "--steps", "2", "--device", "cpu"]  # fmt: skip
    for section, values in merged(SMALL, SUPERVISED).items():
        for key, value in values.items():
            if (section, key) != ("train", "steps"):
                arguments += ["--set", f"{section}.{key}={json.dumps(value)}"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run/run.safetensors").is_file()
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    kinds = {json.loads(line)["kind"] for line in lines}
    assert kinds == {"full", "validation"}  # no identity steps, no check of ByG's terms


def test_the_plan_counts_one_gradient_pass(tiny_base: Path, pairs: Path) -> None:
    byg, supervised = (config(tiny_base, pairs, over) for over in ({}, SUPERVISED))
    cost = step_cost(supervised, r=0.5)
    assert cost.full == cost.mean == cost.supervised == step_cost(byg, r=0.5).supervised


def test_two_runs_on_other_true_edits_are_other_data(tiny_base: Path, pairs: Path) -> None:
    settings = config(tiny_base, pairs, SUPERVISED)
    before = loaded(settings).fingerprint
    assert loaded(settings).fingerprint == before
    shutil.copyfile(pairs / "after/1.png", pairs / "after/0.png")
    assert loaded(settings).fingerprint != before


def test_pairs_that_cannot_be_used_are_listed(tiny_base: Path, pairs: Path) -> None:
    rows = rows_of(pairs)
    del rows[2]["target_file_name"]
    rows[0]["target_file_name"] = "../secret.png"
    (pairs / "after/1.png").write_bytes(b"no picture")
    write(pairs, rows)
    with pytest.raises(DataError) as caught:
        loaded(config(tiny_base, pairs, SUPERVISED))
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 items cannot be trained on with method.objective=supervised"
    for wanted in (
        "../secret.png: a target_file_name that leads out of the data folder",
        "after/1.png: a broken picture (not a picture); wanted one that opens",
        "2.png: no target_file_name; wanted the file of its true edit",
    ):
        assert any(wanted in line for line in lines), wanted


def test_a_target_of_another_kind_or_none(tiny_base: Path, pairs: Path) -> None:
    rows = rows_of(pairs)
    for name, message in (("after", "no picture of that name"), ("after/9.png", "no picture")):
        rows[0]["target_file_name"] = name
        write(pairs, rows)
        with pytest.raises(DataError, match=message):
            loaded(config(tiny_base, pairs, SUPERVISED))


def test_bad_pairs_may_be_dropped(tiny_base: Path, pairs: Path) -> None:
    (pairs / "after/1.png").unlink()
    data = loaded(config(tiny_base, pairs, merged(SUPERVISED, {"data": {"on_bad_item": "drop"}})))
    assert [item.path.name for item in data.train] == ["0.png", "2.png"]
    assert "after/1.png" in str(data.problems[0])


def test_unpaired_training_needs_all_texts(tiny_base: Path, pairs: Path) -> None:
    with pytest.raises(DataError) as caught:
        loaded(config(tiny_base, pairs, {}))
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 items cannot be trained on with method.objective=byg"
    assert (
        "0.png: no src_caption, tgt_caption, reverse_instruction; wanted all four texts" in lines[1]
    )


def test_what_unpaired_training_needs_is_asked_of_every_row(tiny_base: Path, pairs: Path) -> None:
    """Of rows that name a true edit, which supervised training would take, and of held-out ones."""
    [good, *_] = [row for row in rows_of(pairs) if "src_caption" in row]
    same = {**good, "tgt_caption": f" {good['src_caption'].upper()} "}
    held_out = {"file_name": "1.png", "instruction": "b", "split": "test"}
    held_out["target_file_name"] = good["target_file_name"]
    for other, said in ((same, "equal captions"), (held_out, "no src_caption")):
        write(pairs, [good | {"instruction": "a"}, other])
        with pytest.raises(DataError, match=said):
            loaded(config(tiny_base, pairs, {}))
        loaded(config(tiny_base, pairs, SUPERVISED))
    left = loaded(config(tiny_base, pairs, {"data": {"on_bad_item": "drop"}}))
    assert len(left.train) == 1 and not left.test


def test_unpaired_training_never_sees_the_target(
    tiny_base: Path, pairs: Path, tmp_path: Path
) -> None:
    write(pairs, [row for row in rows_of(pairs) if "src_caption" in row])
    settings = config(tiny_base, pairs, {})
    data = loaded(settings)
    assert all(item.target is None for item in data.train)
    (tmp_path / "run").mkdir()
    assert trainer_of(settings, data, tmp_path / "run").batches[0].y is None
