"""Text encoders and networks, either of which may fill a machine, are never in memory together."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import tiny_wan
import wan_run
from diffusers import FluxTransformer2DModel, WanTransformer3DModel

from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.frozen import FrozenParts
from byg_train.models.wan.backbone import WanBackbone


def watched(
    backbone: type[FrozenParts], network: type, part: str, monkeypatch: pytest.MonkeyPatch
) -> list[list[bool]]:
    """For each network that loads: whether the encoders that were loaded before are gone."""
    encoders, networks = [], []
    load_encoders, load = backbone._load_encoders, network.from_pretrained

    def noted(self: FrozenParts) -> Any:
        made = load_encoders(self)
        encoders.append(weakref.ref(getattr(made, part)))
        return made

    def checked(*args: Any, **kwargs: Any) -> Any:
        gc.collect()
        networks.append([ref() is None for ref in encoders])
        return load(*args, **kwargs)

    monkeypatch.setattr(backbone, "_load_encoders", noted)
    monkeypatch.setattr(network, "from_pretrained", checked)
    return networks


def test_a_picture_run_encodes_first(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watched(FluxBackbone, FluxTransformer2DModel, "t5", monkeypatch)
    config = tiny_run.settings(tiny_base, tiny_data, {"data": {"cache": tmp_path / "cache"}})
    tiny_run.trainer(config, tmp_path / "run")
    assert found == [[True]]


def test_a_clip_run_encodes_first(
    wan_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watched(WanBackbone, WanTransformer3DModel, "model", monkeypatch)
    config = wan_run.settings(wan_clips, {"data": {"cache": tmp_path / "cache"}})
    wan_run.trainer(config, tmp_path / "run")
    assert found == [[True], [True]]


def test_the_layers_are_known_before_the_weights() -> None:
    backbone = WanBackbone.load(tiny_wan.config(tiny_wan.base()), "cpu")
    outline = dict(backbone.outline().named_modules())
    assert "experts" not in vars(backbone)
    assert outline.keys() == dict(backbone.experts["high"].named_modules()).keys()
