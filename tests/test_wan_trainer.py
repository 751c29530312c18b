"""The real trainer on a tiny Wan of two experts: gradients, who idles, exact resume, files."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import signals
import torch
from diffusers import WanPipeline
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from states import same
from test_wan_files import WEIGHTS, original
from test_wan_lora import COMFY, PARTS
from tiny_wan import BOUNDARY, FRAMES, base, in_float64, latents, text
from torch import Tensor
from typer.testing import CliRunner
from wan_run import FPS, settings, write_clips

from byg_train.cli.app import app
from byg_train.config import ConfigError, TrainConfig, merged, parse_set
from byg_train.core.roles import EditBatch
from byg_train.data.items import load_items
from byg_train.models.lora_file import LoraInfo, expert_path, read_lora
from byg_train.objectives.byg import BYG, byg_step
from byg_train.training.assembly import assemble, warmup_files
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.stopping import Interrupted
from byg_train.training.trainer import Trainer, train

NO_WARMUP = {"warmup": {"min_steps": 0, "max_steps": 0}}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tiny clips; every run shares their cache."""
    return write_clips(tmp_path_factory.mktemp("clips"))


def trainer(config: TrainConfig, output: Path) -> Trainer:
    output.mkdir(parents=True, exist_ok=True)
    data = load_items(config.data, 16)
    return Trainer(config, data, output, assemble(config, data, output, "cpu"))


def run(config: TrainConfig, output: Path, resume: bool = False) -> list[Path]:
    output.mkdir(parents=True, exist_ok=True)
    return train(config, load_items(config.data, 16), output, device="cpu", resume=resume)


def metrics(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def randomise(t: Trainer, seed: int = 5) -> None:
    """Random A and B, the same in both roles, of the networks' own type."""
    g = torch.Generator().manual_seed(seed)
    for p in t.bank.named_parameters().values():
        p.data = 0.2 * torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype)
    t.bank.copy_to_ema()


# ---------------------------------------------------------------- gradients


def test_staged_gradients_of_mixed_experts_are_the_joint_gradient_of_eq_5(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accumulation 4, B = 2, random A and B, float64; the trainer's own draws and order."""
    over = {
        "method": {"lambda_cycle": 0.7, "lambda_prior": 1.3, "lambda_id": 0.4, "alpha": 0.6},
        "train": {"batch_size": 2, "global_batch": 8},
        "seed": 1,
    }
    t = trainer(settings(clips, over), tmp_path / "run")
    in_float64(t.backbone, monkeypatch)
    randomise(t)

    def double(part: Tensor | dict) -> Tensor | dict:
        if isinstance(part, dict):
            return {k: v.double() for k, v in part.items()}
        return part.double()

    t.batches = [EditBatch(*map(double, t.batches[k][:5])) for k in range(4)]
    work = [t._micro_batch(t.spans) for _ in range(4)]
    assert [one.expert for one in work] == ["high", "high", "low", "high"]
    outputs = t._gradients(work, identity_only=False)
    parameters = t.bank.named_parameters()
    staged = {name: p.grad.clone() for name, p in parameters.items()}
    t.optimizer.zero_grad()
    for one, output in zip(work, outputs, strict=True):
        joint = byg_step(t.roles, one.batch, one.draw, t.config.method)
        torch.testing.assert_close(output.loss, joint.loss.detach(), rtol=1e-12, atol=0)
        (joint.loss / 4).backward()
    assert len(parameters) == 2 * 40
    for name, p in parameters.items():
        assert p.grad.norm() > 0, name
        assert (staged[name] - p.grad).norm() <= 1e-10 * p.grad.norm(), name


def test_draws_lie_within_their_experts_span(clips: Path, tmp_path: Path) -> None:
    t = trainer(settings(clips, {"train": {"batch_size": 2}}), tmp_path / "run")
    found = {"high": [], "low": []}
    for _ in range(40):
        one = t._micro_batch(t.spans)
        found[one.expert].append(one.draw.t)
    high, low = torch.cat(found["high"]), torch.cat(found["low"])
    assert high.min() >= BOUNDARY > low.max() and low.min() > 0
    assert 0.5 < len(high) / 80 < 0.9  # 0.705 of all draws at shift 12


# ---------------------------------------------------------------- the idle expert


def snapshot(t: Trainer) -> dict[str, Tensor]:
    """Weights, EMA and optimiser state, by "what.expert.name"."""
    state = {k: v.clone() for k, v in t.bank.state_dict()[0].items()}
    for name, p in t.bank.named_parameters().items():
        for key, value in t.optimizer.state.get(p, {}).items():
            state[f"{key}.{name}"] = value.clone()
    return state


def test_the_idle_expert_is_left_alone_bitwise(clips: Path, tmp_path: Path) -> None:
    """Though it has momentum from steps before, and weights that decay."""
    over = {
        **NO_WARMUP,
        "method": {"identity_probability": 0.3},
        "optimizer": {"lr": 1e-2, "weight_decay": 0.5},
        "train": {"global_batch": 1},
    }
    t = trainer(settings(clips, over), tmp_path / "run")
    randomise(t)
    rested = []
    for _ in range(12):
        before, counts = snapshot(t), dict(t.bank.updates)
        taken = next(iter(record_of(t)))
        idle = {"high": "low", "low": "high"}[taken]
        after = snapshot(t)
        changed = {
            k.split(".")[1] for k in after if not torch.equal(after[k], before.get(k, -after[k]))
        }
        assert changed == {taken}
        assert {k.split(".")[0] for k in after if f".{taken}." in k} >= {"edit", "ema", "exp_avg"}
        assert t.bank.updates == {taken: counts[taken] + 1, idle: counts[idle]}
        if any(k.startswith(f"exp_avg.{idle}.") for k in before):
            rested.append(idle)
    assert {*rested} == {"high", "low"}


def record_of(t: Trainer) -> set[str]:
    """Take a step; the experts that its record speaks of."""
    return {key.split("/")[1] for key in t.optimizer_step() if "/" in key}


def test_the_experts_change_places_at_most_twice_per_step(clips: Path, tmp_path: Path) -> None:
    over = {"method": {"identity_probability": 0.4}, "warmup": {"min_steps": 3, "max_steps": 3}}
    t = trainer(settings(clips, over), tmp_path / "run")
    assert (t.backbone.resident, t.backbone.swaps) == ("high", 0)
    t.state.checked = 10**6  # no checks of gradients between the steps
    mixed = 0
    for step in range(12):
        warming_up = t.state.warming_up and step < 3
        mixed += len(record_of(t)) == 2
        # An identity step begins with the expert that is there, so one swap is enough.
        assert t.backbone.swaps <= (step + 1 if warming_up else 2 * (step + 1))
    assert mixed > 6


@pytest.mark.parametrize("expert", ["both", "low"])
def test_the_rollout_crosses_both_experts(expert: str, clips: Path, tmp_path: Path) -> None:
    """Of a micro-batch at low noise, too, and where the high expert has no LoRA."""
    t = trainer(settings(clips, {**NO_WARMUP, "train": {"expert": expert}}), tmp_path / "run")
    asked, ema = [], t.roles.ema

    def heard(x: Tensor, time: Tensor, *rest: object) -> Tensor:
        asked.append(t.backbone.expert(time))
        return ema(x, time, *rest)

    t.roles = t.roles._replace(ema=heard)
    spans = {"low": t.spans["low"]}
    t._gradients([t._micro_batch(spans) for _ in range(2)], identity_only=False)
    assert asked == ["high"] * 2 * 4 + ["low"] * 2
    trained = {
        name.split(".")[0] for name, p in t.bank.named_parameters().items() if p.grad is not None
    }
    assert trained == {"low"}


def test_every_experts_gradients_are_watched(
    clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    t = trainer(settings(clips), tmp_path / "run")
    before = t.generator.get_state()
    t._check_gradients()
    assert torch.equal(t.generator.get_state(), before)
    found = metrics(tmp_path / "run")[-1]
    terms = {
        f"{term.name}/{stage}/{e}" for term in BYG.terms for stage in term.stages for e in t.spans
    }
    assert terms < found.keys() and all(found[term] > 0 for term in terms)
    living = t.roles.edit

    def cut(x: Tensor, time: Tensor, text: dict, source: Tensor) -> Tensor:
        """The high expert's LoRA gets nothing where the source gets its gradient."""
        if source.requires_grad and t.backbone.expert(time) == "high":
            with t.bank.using("base"):
                return living(x, time, text, source)
        return living(x, time, text, source)

    t.roles = t.roles._replace(edit=cut)
    t._check_gradients()
    assert "no gradient from cycle/reverse/high reaches the LoRA at step 0" in caplog.text
    assert "/low" not in caplog.text


# ---------------------------------------------------------------- warm-up


def test_the_warm_up_goes_on_for_the_expert_that_needs_it(clips: Path, tmp_path: Path) -> None:
    over = {"warmup": {"min_steps": 1, "until": 1.0, "max_steps": 9}}
    t = trainer(settings(clips, over), tmp_path / "run")
    t.optimizer_step()
    assert t.state.identity.keys() <= {"high", "low"}
    t.state.identity = {"high": 0.5, "low": 1e9}
    high = {k: v for k, v in snapshot(t).items() if ".high." in k}
    assert record_of(t) == {"low"} and t.state.warming_up
    assert all(torch.equal(v, snapshot(t)[k]) for k, v in high.items())
    assert t.state.identity["high"] == 0.5
    t.state.identity["low"] = 0.9
    t.optimizer_step()
    assert t.state.warmup == 2


def test_a_warm_up_is_measured_at_each_experts_times(clips: Path, tmp_path: Path) -> None:
    over = {"warmup": {"min_steps": 0, "until": 1e-9, "max_steps": 3}}
    t = trainer(settings(clips, over), tmp_path / "run")
    high, low = (t.validator.t[e] for e in ("high", "low"))
    assert (high >= BOUNDARY).all() and (low < BOUNDARY).all() and (low > 0.5).all()
    assert t._cold().keys() == {"high", "low"}
    measured = {e: t.validator.identity(e) for e in ("high", "low")}
    assert t.state.identity == measured and measured["high"] != measured["low"]


def test_a_run_starts_from_the_warm_up_of_another(clips: Path, tmp_path: Path) -> None:
    """Whichever of its files, or their common name, is given; one expert takes its own."""
    run(settings(clips, {"train": {"steps": 1}}), tmp_path / "first")
    folder = tmp_path / "first" / "checkpoints"
    files = {e: folder / f"warmup_{e}_noise.safetensors" for e in ("high", "low")}
    for name in ("warmup", "warmup_high_noise", "warmup_low_noise"):
        over = {"warmup": {"lora": str(folder / f"{name}.safetensors")}}
        config = settings(clips, over)
        assert warmup_files(config, ["high", "low"]) == files
    for expert, experts in (("both", ["high", "low"]), ("low", ["low"])):
        t = trainer(settings(clips, {**over, "train": {"expert": expert}}), tmp_path / expert)
        assert t.bank.experts == experts
        for e in experts:
            stored = read_lora(files[e]).by_diffusers_names()
            for role in ("edit", "ema"):
                weights = t.bank.tensors(e, role)
                assert all(torch.equal(weights[k], stored[k].float()) for k in stored)
            assert any(v.abs().max() > 0 for k, v in stored.items() if "lora_B" in k)


def test_the_shipped_warm_up_is_the_familys_own(clips: Path) -> None:
    files = warmup_files(settings(clips, {"warmup": {"lora": "world"}}), ["high", "low"])
    assert [f"world/{file.name}" for file in files.values()] == [
        "world/warmup_wan_high_noise.safetensors", "world/warmup_wan_low_noise.safetensors",
    ]  # fmt: skip


# ---------------------------------------------------------------- resume


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one_bitwise(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(clips, {"train": {"steps": 5, "global_batch": 2}})
    whole = [path.name for path in run(config, tmp_path / "whole" / "run")]
    assert whole == ["run_high_noise.safetensors", "run_low_noise.safetensors"]
    real, calls = Trainer.optimizer_step, []

    def interrupted(self: Trainer) -> dict:
        record = real(self)
        calls.append(1)
        if len(calls) in (1, 4):  # once in the warm-up, once in the method
            signals.send(signal.SIGTERM)
        return record

    monkeypatch.setattr(Trainer, "optimizer_step", interrupted)
    for resume in (False, True):
        with pytest.raises(Interrupted, match="--resume"):
            run(config, tmp_path / "parts" / "run", resume)
    run(config, tmp_path / "parts" / "run", True)
    a, b = (checkpoints(tmp_path / p / "run" / "checkpoints")[-1] for p in ("whole", "parts"))
    one, two = map(load_checkpoint, (a, b))
    for state in (one, two):  # loading draws from torch's own generator, training does not
        del state["random"]["torch"]
    assert same(one, two)
    roles = {tuple(key.split(".")[:2]) for key in one["lora"]}
    assert roles == {(role, e) for role in ("edit", "ema") for e in ("high", "low")}
    assert (a / "state.json").read_text() == (b / "state.json").read_text()
    for name in whole:
        one, two = (load_file(tmp_path / p / "run" / name) for p in ("whole", "parts"))
        assert all(torch.equal(one[key], two[key]) for key in one), name
    timeless = [
        [{k: v for k, v in m.items() if k != "seconds"} for m in metrics(tmp_path / p / "run")]
        for p in ("whole", "parts")
    ]
    assert timeless[0] == timeless[1]


# ---------------------------------------------------------------- files


def test_both_files_load_in_diffusers_and_have_comfyuis_names(clips: Path, tmp_path: Path) -> None:
    files = run(settings(clips, {"train": {"steps": 1}}), tmp_path / "cartoon")
    assert [path.name for path in files] == [
        "cartoon_high_noise.safetensors", "cartoon_low_noise.safetensors",
    ]  # fmt: skip
    pipe = WanPipeline.from_pretrained(base())
    for expert, path in zip(("high", "low"), files, strict=True):
        file = read_lora(path)
        info = LoraInfo.from_metadata(file.metadata)
        assert (info.expert, info.boundary, info.family) == (expert, BOUNDARY, "wan")
        assert (info.frames, info.fps, info.sample_shift, info.rank) == (FRAMES, FPS, 12.0, 4)
        into = {"load_into_transformer_2": True} if expert == "low" else {}
        pipe.load_lora_weights(
            tmp_path / "cartoon", weight_name=path.name, adapter_name=expert, **into
        )
        network = getattr(pipe, PARTS[expert])
        found = get_peft_model_state_dict(network, adapter_name=expert)
        stored = file.by_diffusers_names()
        assert found.keys() == stored.keys()
        assert all(torch.equal(found[k].float(), stored[k].float()) for k in stored)
        assert any(v.abs().max() > 0 for k, v in stored.items() if "lora_B" in k)
        weights = original(load_file(base() / PARTS[expert] / WEIGHTS))
        modules = {name.rsplit(".lora_", 1)[0] for name in file.tensors}
        assert modules < {name.removesuffix(".weight") for name in weights}
        assert file.prefix == "diffusion_model."


def test_comfyui_takes_both_files_whole(clips: Path, tmp_path: Path, comfyui: Path) -> None:
    """Its stock loader: every key has its module, and the output moves."""
    files = run(settings(clips, {"train": {"steps": 1}}), tmp_path / "cartoon")
    for expert, path in zip(("high", "low"), files, strict=True):
        folder = tmp_path / expert
        folder.mkdir()
        shutil.copy(path, folder / "lora.safetensors")
        (folder / "job.json").write_text(json.dumps({"class": "WAN21_T2V", "shape": COMFY}))
        weights = load_file(base() / PARTS[expert] / WEIGHTS)
        save_file(original(weights), folder / "model.safetensors")
        inputs = {"x": latents(1), "source": latents(7), "t": torch.full((2,), 0.9), **text(2)}
        save_file(inputs, folder / "inputs.safetensors")
    script, folders = Path(__file__).with_name("comfy_wan.py"), [tmp_path / e for e in PARTS]
    command = [sys.executable, str(script), str(comfyui), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for folder in folders:
        report = json.loads((folder / "report.json").read_text())
        assert report["warnings"] == [] and len(report["patched"]) == 2 * 10
        outputs = load_file(folder / "outputs.safetensors")
        assert (outputs["lora"] - outputs["base"]).abs().max() > 1e-4


@pytest.mark.parametrize("expert", ["high", "low"])
def test_one_expert_can_be_trained_alone(expert: str, clips: Path, tmp_path: Path) -> None:
    config = settings(clips, {"train": {"expert": expert, "steps": 2, "checkpoint_every": 1}})
    files = run(config, tmp_path / "run")
    assert files == [expert_path(tmp_path / "run" / "run.safetensors", expert)]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.safetensors")) == sorted(
        [files[0].name, f"run-000003_{expert}_noise.safetensors"]
    )
    info = LoraInfo.from_metadata(read_lora(files[0]).metadata)
    assert (info.expert, info.boundary) == (expert, BOUNDARY)
    t = trainer(config, tmp_path / "again")
    other = {"high": "low", "low": "high"}[expert]
    assert t.spans == {expert: t.backbone.spans[expert]}
    assert not any("lora" in name for name, _ in t.backbone.experts[other].named_parameters())
    assert not any(p.requires_grad for p in t.backbone.experts[other].parameters())


def test_one_network_has_no_expert_to_choose(clips: Path, tmp_path: Path) -> None:
    over = {"data": {"resolution": 64}}
    with pytest.raises(ConfigError, match="train.expert is 'high', and .* has one network"):
        trainer(settings(clips, {**over, "train": {"expert": "high"}}, "one"), tmp_path / "a")
    config = settings(clips, {"train": {"steps": 1}, "data": {"resolution": 45}}, "one")
    data = load_items(config.data, 32)
    (tmp_path / "b").mkdir()
    files = train(config, data, tmp_path / "b", device="cpu", resume=False)
    assert [path.name for path in files] == ["b.safetensors"]
    info = LoraInfo.from_metadata(read_lora(files[0]).metadata)
    assert (info.expert, info.boundary, info.multiple) == (None, None, 32)
    assert not any("/" in k for m in metrics(tmp_path / "b") if m["kind"] == "full" for k in m)


# ---------------------------------------------------------------- Appendix C.1


def test_the_ema_is_one_setting(clips: Path, tmp_path: Path) -> None:
    """Targets are dreamt by a stop-gradient copy of the live weights, or by their slow copy."""
    dreams, saved = {}, {}
    for value in ("null", "0.99"):
        over = merged(NO_WARMUP, parse_set(f"method.ema_decay={value}"))
        t = trainer(settings(clips, over), tmp_path / value)
        randomise(t)
        for _ in range(2):
            t.optimizer_step()
        x, time = t.batches[0].x, torch.tensor([0.9])
        with torch.no_grad():
            live = t.roles.edit(x, time, t.batches[0].c, x)
        slow = t.roles.ema(x, time, t.batches[0].c, x)
        dreams[value] = torch.equal(live, slow)
        assert not slow.requires_grad
        saved[value] = {k.split(".")[0] for k in load_checkpoint(t.save())["lora"]}
    assert dreams == {"null": True, "0.99": False}
    assert saved == {"null": {"edit"}, "0.99": {"edit", "ema"}}


# ---------------------------------------------------------------- the command line


@pytest.mark.slow
def test_a_video_run_from_the_command_line(clips: Path, tmp_path: Path) -> None:
    """The paper's preset on tiny experts: trained, looked at, resumed; what may be typed next."""
    sets = [
        "model.text_len=8", "model.dtype=float32", "data.resolution=45", "data.frames=5",
        "data.fps=8", "rollout.steps=3", "warmup.min_steps=1", "warmup.max_steps=1", "lora.rank=2",
        "train.global_batch=2", "sample.steps=2", "sample.count=1",
    ]  # fmt: skip
    command = ["--preset", "wan22_style", "--model", str(base()), "--data", str(clips)]
    command += ["--output", str(tmp_path / "mine"), "--device", "cpu"]
    command += [part for assignment in sets for part in ("--set", assignment)]
    result = CliRunner().invoke(app, [*command, "--steps", "1"])
    assert result.exit_code == 0, result.output
    high, low = (tmp_path / "mine" / f"mine_{e}_noise.safetensors" for e in ("high", "low"))
    assert f"The LoRA is {high} and {low};" in result.stdout
    assert f"edit --lora {high} --input clip.mp4" in result.stdout
    assert "step-000002.mp4." in result.stdout and "--single-expert" not in result.stdout
    looks = sorted(path.name for path in (tmp_path / "mine" / "samples").iterdir())
    assert looks == [f"step-00000{i}.{kind}" for i in (0, 2) for kind in ("mp4", "png")]
    info = LoraInfo.from_metadata(read_lora(low).metadata)
    assert (info.sampler, info.cfg, info.cfg_low, info.steps) == ("unipc", 4.0, 3.0, 2)
    refused = CliRunner().invoke(app, [*command, "--steps", "2"])
    assert refused.exit_code == 2 and "already holds a run" in refused.stderr
    other = CliRunner().invoke(app, [*command, "--resume", "--set", "train.expert=low"])
    assert other.exit_code == 2 and "train.expert: 'both' in the run, 'low' now" in other.stderr
    again = CliRunner().invoke(app, [*command, "--steps", "2", "--resume"])
    assert again.exit_code == 0, again.output
    taken = [
        m["step"] for m in metrics(tmp_path / "mine") if m["kind"] in ("warmup", "full", "identity")
    ]
    assert taken == [1, 2, 3]
    command[command.index("--output") + 1] = str(tmp_path / "one")
    alone = CliRunner().invoke(app, [*command, "--steps", "1", "--set", "train.expert=low"])
    assert "--output edited.mp4 --single-expert" in alone.stdout, alone.output
