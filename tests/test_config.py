"""Presets, precedence, errors that help, and the round trip of --print-config."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from byg_train.config import (
    PRESETS,
    ConfigError,
    TrainConfig,
    build_config,
    load_preset,
    merge_settings,
    parse_set,
    read_settings,
)
from byg_train.data.items import Dataset, Item
from byg_train.media.fit import buckets, nearest_bucket
from byg_train.training.run_folder import (
    check_output,
    differences,
    lora_info,
    read_config,
    to_toml,
    write_config,
)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_builds_and_says_what_it_is(name: str) -> None:
    config = build_config(load_preset(name))
    assert config.preset == name
    assert config.description and config.source


def test_flux_edit_has_the_papers_numbers() -> None:
    """Appendix B.1 and Algorithm 1."""
    config = build_config(load_preset("flux_edit"))
    m, o, t = config.method, config.optimizer, config.train
    assert (m.lambda_prior, m.lambda_id, m.lambda_cycle) == (1.0, 0.2, 1.0)
    assert m.identity_probability == 0.15
    assert (o.name, o.lr, o.weight_decay) == ("adamw", 3e-4, 1e-2)
    assert (t.steps, t.batch_size, t.global_batch) == (30_000, 1, 8)
    assert (config.warmup.min_steps, config.warmup.max_steps) == (200, 200)
    assert (config.lora.rank, config.rollout.steps, config.sample.steps) == (64, 10, 20)
    assert (config.time.distribution, config.rollout.shift) == ("uniform", 1.0)


def test_wan22_style_has_the_papers_numbers() -> None:
    """Appendix B.2, B.1 where it is silent, and Wan2.2's own sampling."""
    config = build_config(load_preset("wan22_style"))
    m, o, t, s = config.method, config.optimizer, config.train, config.sample
    assert (m.lambda_prior, m.lambda_id, m.lambda_cycle) == (1.0, 0.2, 1.0)
    assert (m.identity_probability, m.ema_decay) == (0.1, None)
    assert (o.name, o.lr, o.weight_decay) == ("adamw", 1e-4, 1e-2)
    assert (t.expert, t.steps, t.batch_size, t.global_batch) == ("both", 750, 1, 8)
    assert (config.lora.rank, config.rollout.steps, config.rollout.shift) == (64, 10, 12.0)
    assert (config.time.distribution, config.time.shift) == ("logit_normal", 12.0)
    assert (s.sampler, s.steps, s.shift, s.cfg, s.cfg_low) == ("unipc", 40, 12.0, 4.0, 3.0)
    assert s.negative.count(",") == 27  # of its words, as many as in the model's repository
    assert (config.data.frames, config.data.fps) == (81, 16)
    wide = buckets(config.data.resolution, 16, config.data.max_aspect)
    assert nearest_bucket(1920, 1080, wide) == (576, 320)


def test_the_5b_has_its_own_rate_size_and_sampling() -> None:
    large, small = (build_config(load_preset(n)) for n in ("wan22_style", "wan22_5b_style"))
    wide = buckets(small.data.resolution, 32, small.data.max_aspect)
    assert all(side % 32 == 0 for size in wide for side in size)
    assert nearest_bucket(1920, 1080, wide) == (576, 320)
    s = small.sample
    assert (small.data.fps, s.steps, s.shift, s.cfg, s.cfg_low) == (24, 50, 5.0, 5.0, None)
    same = {"method", "time", "warmup", "lora", "optimizer", "guidance"}
    assert small.model_dump(include=same) == large.model_dump(include=same)
    assert small.sample.negative == large.sample.negative


def test_the_small_wan_has_its_own_sampling() -> None:
    large, small = (build_config(load_preset(n)) for n in ("wan22_style", "wan21_small_style"))
    s = small.sample
    assert (s.sampler, s.steps, s.shift, s.cfg, s.cfg_low) == ("unipc", 50, 8.0, 6.0, None)
    same = {"data", "method", "time", "warmup", "lora", "optimizer", "guidance"}
    assert small.model_dump(include=same) == large.model_dump(include=same)
    assert small.sample.negative == large.sample.negative


def test_z_image_learns_as_flux_does() -> None:
    flux, z = (build_config(load_preset(f"{n}_edit")) for n in ("flux", "z_image"))
    same = {"data", "method", "time", "warmup", "lora", "optimizer", "train"}
    assert z.model_dump(include=same) == flux.model_dump(include=same)
    assert (z.model.family, z.model.reference_mode, z.model.text_len) == ("z_image", "index", 256)
    assert {z.guidance.train, z.guidance.prior, z.guidance.sample} == {None}
    assert (z.sample.steps, z.sample.shift, z.sample.cfg, z.sample.negative) == (25, 3.0, 4.0, "")


def test_the_papers_ablation_of_the_ema_is_one_setting() -> None:
    """Appendix C.1."""
    with_ema = merge_settings("wan22_style", assignments=["method.ema_decay=0.99"])
    without = merge_settings("wan22_style")
    assert with_ema.method.ema_decay == 0.99 and without.method.ema_decay is None
    assert with_ema.model_copy(update={"method": without.method}) == without


PAPERS = ["flux_edit", "flux_style", "wan22_style", "wan22_5b_style", "wan21_small_style"]
PAPERS += ["z_image_edit", "z_image_style", "npedit_flux", "npedit_z_image"]


@pytest.mark.parametrize("name", PAPERS)
def test_every_number_of_the_paper_presets_says_where_it_comes_from(name: str) -> None:
    lines = PRESETS[name].read_text(encoding="utf-8").splitlines()
    settings = [x for x in lines if " = " in x and not x.startswith(("#", "description", "source"))]
    assert len(settings) > 30
    known = ("4.2", "5.1.1", "Alg. 1", "B.1", "B.2", "C.1", "Wan2.1", "Wan2.2", "ours", "NPC")
    known += ("paper", "Z-Image has no guidance embedding", "ComfyUI's graph")
    for line in settings:
        comment = line.rpartition("#")[2]
        assert any(source in comment for source in known), line


@pytest.mark.parametrize("family", ["flux", "z_image"])
def test_a_style_preset_differs_from_the_editors_in_length_alone(family: str) -> None:
    edit, style = (build_config(load_preset(f"{family}_{n}")) for n in ("edit", "style"))
    assert style.train.steps == 3000
    same = {"train": edit.train, "preset": "", "description": "", "source": ""}
    assert style.model_copy(update=same) == edit.model_copy(update=same)


def test_precedence(tmp_path: Path) -> None:
    """preset < file < what is given < assignments."""
    file = tmp_path / "mine.toml"
    file.write_text("seed = 5\n[train]\nsteps = 11\nbatch_size = 2\n[lora]\nrank = 7\n")
    below = merge_settings("demo", file=file)
    assert (below.seed, below.train.steps, below.train.batch_size, below.lora.rank) == (5, 11, 2, 7)
    assert below.model.path == "world"  # what nobody overrides is the preset's
    given = merge_settings("demo", file=file, steps=22, seed=6)
    assert (given.train.steps, given.seed) == (22, 6)
    sets = ["train.steps=33", "seed=9"]
    above = merge_settings("demo", file=file, steps=22, assignments=sets)
    assert (above.train.steps, above.seed) == (33, 9)
    assert above.train.batch_size == 2


def test_a_file_may_name_its_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "demo"\n[train]\nsteps = 3\n')
    config = merge_settings(file=file)
    assert (config.preset, config.model.path, config.train.steps) == ("demo", "world", 3)
    assert merge_settings("flux_edit", file=file).preset == "flux_edit"


@pytest.mark.parametrize(
    ("assignment", "where", "value"),
    [
        ("lora.rank=8", ("lora", "rank"), 8),
        ("lora.targets=['to_q', 'to_k']", ("lora", "targets"), ["to_q", "to_k"]),
        ("model.path=some/model", ("model", "path"), "some/model"),
        ("method.ema_decay=null", ("method", "ema_decay"), None),
        ("data.buckets = false", ("data", "buckets"), False),
        ("sample.shift=flux", ("sample", "shift"), "flux"),
    ],
)
def test_set(assignment: str, where: tuple[str, str], value: object) -> None:
    config = merge_settings("demo", assignments=[assignment])
    assert getattr(getattr(config, where[0]), where[1]) == value


@pytest.mark.parametrize(
    ("preset", "assignment", "words"),
    [
        ("flux_edti", "seed=1", ["flux_edti", "did you mean 'flux_edit'?", "demo"]),
        ("demo", "seed=99999999999999999999999", ["seed", "less than"]),
        ("demo", "optimizer.betas=[1.0, 0.9]", ["optimizer.betas", "less than 1"]),
        ("demo", "lora.targets=[]", ["lora.targets", "at least 1"]),
        ("demo", "sample.shift=0", ["sample.shift", "above 0"]),
        ("demo", "train.stepz=3", ["train.stepz", "'steps'"]),
        ("demo", "trian.steps=3", ["trian", "'train'"]),
        ("demo", "train.steps=-3", ["train.steps", "-3"]),
        ("demo", "train.steps", ["train.steps", "section.key=value"]),
        ("demo", "train.batch_size=3", ["global_batch 8", "3"]),
        ("demo", "train.expert=high", ["train.expert", "'flux'", "both"]),
        ("demo", "data.frames=5", ["data.frames is 5", "Wan alone"]),
        ("demo_video", "data.frames=80", ["80", "77 or 81"]),
        ("demo_video", "train.expert=mid", ["train.expert", "'mid'"]),
    ],
)
def test_wrong_settings_are_named_with_what_is_known(
    preset: str, assignment: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        merge_settings(preset, assignments=[assignment])
    for word in words:
        assert word in str(error.value)


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("[train\nsteps = 3")
    with pytest.raises(ConfigError, match=r"broken\.toml.*TOML"):
        merge_settings("demo", file=file)
    file.write_bytes("description = 'größer'".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"broken\.toml is not UTF-8"):
        merge_settings("demo", file=file)
    with pytest.raises(ConfigError, match=r"configuration file .*directory"):
        merge_settings("demo", file=tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere\.toml does not exist"):
        merge_settings("demo", file=tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ["method.ema_decay=null", "guidance.train=null", "warmup.lora=null", "lora.alpha=3"],
        ["data.path=some where", "lora.targets=['a', 'b']", "optimizer.betas=[0.5, 0.7]"],
    ],
)
def test_printed_configuration_is_read_back(
    name: str, assignments: list[str], tmp_path: Path
) -> None:
    config = merge_settings(name, assignments=assignments)
    file = tmp_path / "printed.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert merge_settings(file=file) == config
    assert build_config(read_settings(file)) == config


@pytest.mark.slow
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_survives_the_round_trip(text: str) -> None:
    assume(text != "null")
    config = TrainConfig(description=text, model={"path": text})
    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder), config)
        read = read_config(Path(folder))
    assert read == config


@given(st.text("abc=.-[]'\"01 ", max_size=12))
def test_set_never_fails_otherwise_than_by_config_error(text: str) -> None:
    try:
        tables = parse_set(f"a.b={text}")
    except ConfigError:
        return
    assert set(tables) == {"a"} and set(tables["a"]) == {"b"}


# ---------------------------------------------------------------- output folders


def test_new_and_empty_folders_are_fine(tmp_path: Path) -> None:
    config = merge_settings("demo")
    check_output(tmp_path / "new", config, resume=False)
    check_output(tmp_path, config, resume=False)
    (tmp_path / "data").mkdir()
    check_output(tmp_path, config, resume=False)


def test_a_failed_start_counts_as_new(tmp_path: Path) -> None:
    """Settings, a log, a validation, half a checkpoint, but no weights: nothing to go on with."""
    config = merge_settings("demo")
    write_config(tmp_path, merge_settings("demo", assignments=["lora.rank=3"]))
    (tmp_path / "metrics.jsonl").touch()
    (tmp_path / "samples").mkdir()
    (tmp_path / "checkpoints" / ".step-000002.7.tmp").mkdir(parents=True)
    for resume in (False, True):
        check_output(tmp_path, config, resume=resume)
    (tmp_path / "checkpoints" / "warmup.safetensors").touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        check_output(tmp_path, config, resume=False)


def started(folder: Path, config: TrainConfig) -> None:
    """A run with a checkpoint."""
    write_config(folder, config)
    (folder / "checkpoints" / "step-000002").mkdir(parents=True)


def test_a_run_is_only_resumed(tmp_path: Path) -> None:
    config = merge_settings("demo")
    started(tmp_path, config)
    with pytest.raises(ConfigError, match=r"already holds a run; resume"):
        check_output(tmp_path, config, resume=False)
    check_output(tmp_path, config, resume=True)
    longer = ["train.steps=999", "train.sample_every=7", "train.checkpoint_every=9"]
    rest = ["train.keep_checkpoints=5", "train.wandb=true", "train.check_gradients_every=3"]
    advised = ["optimizer.lr=1e-5", "data.cache=elsewhere", "model.compile=true"]
    for assignments in (longer, rest, advised):
        check_output(tmp_path, merge_settings("demo", assignments=assignments), resume=True)


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("lora.rank=3", "lora.rank"),
        ("seed=4", "seed"),
        ("method.lambda_cycle=0.5", "method.lambda_cycle"),
        ("data.path=other", "data.path"),
        ("train.batch_size=2", "train.batch_size"),
    ],
)
def test_resuming_with_other_settings_names_them(assignment: str, key: str, tmp_path: Path) -> None:
    started(tmp_path, merge_settings("demo"))
    other = merge_settings("demo", assignments=[assignment])
    with pytest.raises(ConfigError) as error:
        check_output(tmp_path, other, resume=True)
    assert f"{key}: " in str(error.value)
    assert differences(read_config(tmp_path), other)[0].startswith(key)
    assert len(differences(read_config(tmp_path), other)) == 1


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    config = merge_settings("demo")
    (tmp_path / "holiday.jpg").write_bytes(b"")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="holds no run"):
            check_output(tmp_path, config, resume=resume)
    with pytest.raises(ConfigError, match="is a file"):
        check_output(tmp_path / "holiday.jpg", config, resume=False)


def test_the_same_data_by_another_name_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = merge_settings("demo", data=Path("pictures"))
    absolute = merge_settings("demo", data=tmp_path / "pictures")
    assert differences(relative, absolute) == []


# ---------------------------------------------------------------- metadata


def items(kind: str, *instructions: str) -> list[Item]:
    return [
        Item(
            path=Path("x.png"), src_caption="a", tgt_caption="b", instruction=text,
            reverse_instruction=f"undo {text}", edit_type=kind, width=8, height=8, digest="",
        )
        for text in instructions
    ]  # fmt: skip


def test_a_loras_examples_show_every_kind_of_edit() -> None:
    """In turns over the kinds, the largest first, of each the most frequent first; none twice."""
    many = [f"add {i:02}" for i in range(30)]
    few = items("a few", "cut", "drop", "drop", "add 07")
    train = few + items("many", *many, "add 07")
    data = Dataset(train=train, test=[], problems=[], fingerprint="f")
    info = lora_info(merge_settings("demo"), data, 16, 5)
    assert info.instructions[:5] == ["add 07", "drop", "add 00", "add 01", "cut"]
    assert len(info.instructions) == len(set(info.instructions)) == 20
    assert info.reverse_instructions[:2] == ["undo add 07", "undo drop"]


def test_a_lora_names_a_local_base_so_that_it_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("flux.safetensors", "parts", "world"):
        (tmp_path / name).mkdir()
    data = Dataset(train=items("", "x"), test=[], problems=[], fingerprint="f")

    def told(**model: str) -> tuple[str | None, ...]:
        info = lora_info(build_config({"model": model}), data, 16, 5)
        return info.base, info.components, info.revision

    local = told(path="flux.safetensors", components="parts")
    assert local == (str(tmp_path / "flux.safetensors"), str(tmp_path / "parts"), None)
    assert told(path="a/b", components="c/d", revision="main") == ("a/b", "c/d", "main")
    assert told(path="world") == ("world", None, None)
