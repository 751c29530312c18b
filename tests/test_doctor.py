"""`doctor`: every check's facts, as text and JSON; what fails is a line, what is private is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from typer.testing import CliRunner

from byg_train import machine
from byg_train.cli.app import app
from byg_train.config import PRESETS, TrainConfig
from byg_train.models.backbone import pixel_multiple
from byg_train.training import doctor, fitting, installed, speed
from byg_train.training.plan import duration, need, run_cost, shapes

ROOT = Path(__file__).parents[1]
Machine = Callable[..., None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured."""
    for module in (speed, fitting):
        rates = {"float32": 100.0, "bfloat16": 2.0}
        monkeypatch.setattr(module, "gflops", lambda dtype, device, rates=rates: rates[dtype])
        monkeypatch.setattr(module, "demo_steps", lambda device: [3.0, 1.5, 1.25])


def look(*words: str) -> str:
    result = CliRunner().invoke(app, ["doctor", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_the_real_thing_measures_and_says_the_same_as_json() -> None:
    report = json.loads(look("--json"))
    assert list(report) == list(doctor.CHECKS)
    assert not [name for name, facts in report.items() if "error" in facts], report
    assert report["speed"]["float32 GFLOP/s"] > 0 and report["speed"]["bfloat16 GFLOP/s"] > 0
    chosen = machine.preferred_dtype("cuda" if torch.cuda.is_available() else "cpu")
    assert re.fullmatch(
        rf"\d+\.\d\d s in {chosen.dtype} \(the first .*\)", report["speed"]["step of the demo"]
    )
    assert report["type"]["on cpu"].startswith(machine.preferred_dtype("cpu").dtype)
    assert report["threads"]["used"].startswith(f"{torch.get_num_threads()}, ")
    assert report["versions"]["torch"] == torch.__version__
    assert report["presets"].keys() == PRESETS.keys()
    assert re.fullmatch(r"fits: about 0\.\d of .* GB; a run takes .*", report["presets"]["demo"])


@pytest.mark.slow
def test_the_text_has_every_fact(quick: None) -> None:
    report, text = json.loads(look("--json")), look()
    for name, facts in report.items():
        section = text[re.search(rf"^{name}$", text, re.MULTILINE).end() :].split("\n\n")[0]
        for fact, value in facts.items():
            line = next(one for one in section.splitlines() if one.startswith(f"  {fact} "))
            # How much is free moves.
            if isinstance(value, str) and "free" not in value and "about" not in value:
                assert value in line


def test_a_failing_check_is_a_line_of_the_report(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> dict:
        raise RuntimeError(f"no such thing in {Path.home() / 'x'}")

    for name in doctor.CHECKS:
        monkeypatch.setitem(doctor.CHECKS, name, broken)
    text = look()
    assert "Traceback" not in text
    assert text.count("RuntimeError: no such thing in ~") == len(doctor.CHECKS)


def test_what_a_person_would_not_publish_is_not_in_it(
    quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "jane.doe"
    (home / "work").mkdir(parents=True)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "a_secret")
    monkeypatch.chdir(home / "work")
    for text in (look(), look("--json")):
        assert "secret" not in text and "jane.doe" not in text
        assert f"~{os.sep}work" in text


def test_a_doubtful_choice_is_told(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = machine.Choice("bfloat16", "it says so")
    monkeypatch.setattr(speed, "preferred_dtype", lambda device: choice)
    assert "model.dtype=float32" in speed.speed()["doubt"]
    monkeypatch.setattr(speed, "preferred_dtype", lambda device: choice._replace(dtype="float32"))
    assert "doubt" not in speed.speed()


@pytest.mark.slow
def test_slow_steps_are_not_repeated() -> None:
    assert len(speed.demo_steps("cpu", limit=1e-9)) == 1


@pytest.mark.slow
def test_an_avx2_machine_says_so() -> None:
    """As much as can be told of it: torch is made to use AVX2 alone."""
    code = "import json; from byg_train.training.doctor import dtype; print(json.dumps(dtype()))"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert json.loads(run.stdout)["on cpu"].startswith("float32")


# ---------------------------------------------------------------- what fits


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Makes the machine have so many bytes, of a GPU or of main memory."""

    def become(count: float, *, gpu: bool) -> None:
        machine.preferred_dtype.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i=0: (count, count))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
        one = psutil.virtual_memory()._replace(available=count)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: one)

    yield become
    machine.preferred_dtype.cache_clear()


def test_presets_fit_by_the_plan(quick: None, memory: Machine) -> None:
    memory(80e9, gpu=True)
    whole = fitting.presets()
    assert all(word.startswith("fits") for word in whole.values())
    assert "with" not in whole["flux_edit"]
    memory(32e9, gpu=True)
    tight = fitting.presets()["flux_edit"]
    assert tight.startswith("fits") and "with optimizer.name=adamw8bit" in tight
    memory(12e9, gpu=True)
    none = fitting.presets()
    assert none["flux_edit"].startswith("does not fit") and none["demo"].startswith("fits")


def test_a_runs_time_follows_from_what_was_measured(
    quick: None, memory: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(1e12, gpu=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    demo, flux = (fitting.with_settings(name, (), "cpu") for name in ("demo", "flux_edit"))
    cost = run_cost(demo, 8, None)
    seconds = cost.seconds(fitting.tflops(demo, "cpu"))
    # 1.25 s a full step, less for the share of identity steps.
    assert seconds == pytest.approx(1.25 * demo.train.steps * cost.step.mean / cost.step.full)
    assert fitting.tflops(flux, "cpu") == pytest.approx(0.4 * 0.1)
    assert f"about {duration(seconds)} here" in fitting.presets()["demo"]


def test_settings_that_save_memory_save_it(memory: Machine) -> None:
    memory(80e9, gpu=True)
    for name in PRESETS:
        steps = fitting.ladder(name, "cuda")
        configs = [fitting.with_settings(name, settings, "cuda") for settings in steps]
        needs = [needed(config) for config in configs]
        assert needs == sorted(needs, reverse=True), name
        # Where the text encoder alone takes more than any step, nothing helps.
        encoder = need(
            configs[0], shapes(configs[0], pixel_multiple(configs[0].model), None)
        ).encoding
        assert needs[-1] < needs[0] or needs[0] == encoder, name


def needed(config: TrainConfig) -> float:
    return need(config, shapes(config, pixel_multiple(config.model), None)).total


def test_a_cpu_that_emulates_bfloat16_needs_twice_the_memory(
    memory: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory(1e12, gpu=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    slow = needed(fitting.with_settings("flux_edit", (), "cpu"))
    half = needed(fitting.with_settings("flux_edit", ("model.dtype=bfloat16",), "cpu"))
    assert slow > 1.8 * half
    # It has no 8-bit optimiser.
    assert not [s for s in fitting.ladder("flux_edit", "cpu") if "optimizer.name=adamw8bit" in s]


# ---------------------------------------------------------------- what is installed


def test_what_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"av": "14.0", "peft": None}
    real = installed._version
    monkeypatch.setattr(installed, "_version", lambda name: have.get(name, real(name)))
    monkeypatch.setattr(installed, "_logged_in", lambda: False)
    monkeypatch.setattr(installed, "local_folder", lambda model, name: None)
    monkeypatch.setattr(installed.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    found = installed.missing()
    assert found["packages of train"] == {
        "lacking": ["peft", "av (wanted >=17, found 14.0)"],
        "command": 'pip install -e ".[train]"',
    }
    assert found["Hugging Face login"]["command"] == "hf auth login"
    assert "download.pytorch.org" in found["CUDA in PyTorch"]["command"]


def test_nothing_is_missing_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_version", lambda name: "999")
    monkeypatch.setattr(installed, "_logged_in", lambda: True)
    monkeypatch.setattr(installed.shutil, "which", lambda name: None)
    assert installed.missing() == {}


def test_an_installed_package_knows_its_requirements(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is no checkout."""
    told = ['peft>=0.17; extra == "train"', 'scipy>=1.11; extra == "eval"', "none"]
    monkeypatch.setattr(installed, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(installed.metadata, "requires", lambda name: told)
    monkeypatch.setattr(installed, "_version", lambda name: None)
    monkeypatch.setattr(installed, "_logged_in", lambda: True)
    monkeypatch.setattr(installed.shutil, "which", lambda name: None)
    assert installed.missing() == {
        "packages of train": {"lacking": ["peft"], "command": 'pip install "byg-train[train]"'},
        "packages of eval": {"lacking": ["scipy"], "command": 'pip install "byg-train[eval]"'},
    }


@pytest.fixture
def other_apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like ComfyUI 0.3.99, and no other one around."""
    folder = tmp_path / "apps" / "ComfyUI"
    for name in ("comfy/sd.py", "nodes.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "comfyui_version.py").write_text('# made\n__version__ = "0.3.99"\n')
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(installed, "__file__", str(tmp_path / "else" / "a" / "b" / "c.py"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def test_a_comfyui_is_found(other_apps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.comfyui()["found"] is False
    monkeypatch.setenv("COMFYUI_PATH", str(other_apps))
    found = installed.comfyui()
    assert found["folder"] == str(other_apps) and found["version"] == "0.3.99"
    assert found["ByG nodes"] == "not in its custom_nodes"


def test_a_comfyui_is_found_around_its_pack(
    other_apps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = other_apps / "custom_nodes" / "byg" / "byg_train" / "training"
    pack.mkdir(parents=True)
    monkeypatch.setattr(installed, "__file__", str(pack / "installed.py"))
    found = installed.comfyui()
    assert found["folder"] == str(other_apps)
    assert found["ByG nodes"] == str(other_apps / "custom_nodes" / "byg")


# ---------------------------------------------------------------- before anything is installed


def test_without_torch_the_other_checks_answer() -> None:
    code = (
        "import sys, json; sys.modules['torch'] = None;"
        "from byg_train.training import doctor, installed; known = installed._version;"
        "installed._version = lambda name: None if name == 'torch' else known(name);"
        "print(json.dumps(doctor.examine()))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    report = json.loads(run.stdout)
    failed = {name for name, facts in report.items() if "error" in facts}
    assert failed == {"GPUs", "threads", "type", "speed", "presets"}
    assert report["missing"]["packages of train"]["lacking"] == ["torch"]


def test_a_missing_package_of_the_command_line_is_named() -> None:
    code = (
        "import sys, runpy; sys.modules['typer'] = None;"
        "runpy.run_module('byg_train', run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "'typer'" in run.stderr and 'pip install -e ".[train]"' in run.stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (20, "1 min"),
        (600, "10 min"),
        (3 * 3600, "3 h"),
        (72 * 3600, "3.0 days"),
        (4e9, "127 years"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
