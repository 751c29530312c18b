"""ByG Image Edit: the source as stock nodes encode it, whole, in pairs, inside masks."""

from __future__ import annotations

from dataclasses import replace

import graphs
import pytest
import torch
from comfy_host import in_host
from graphs import INFO
from torch import Tensor
from world_lora import trained, write

pytestmark = pytest.mark.host
LORA = "edit.safetensors"


@pytest.fixture(scope="module", autouse=True)
def lora() -> None:
    """A random LoRA of the tiny world in the host."""
    write(trained()[1], "edit")


def _images(count: int = 1, height: int = 40, width: int = 60) -> Tensor:
    g = torch.Generator().manual_seed(count)
    return torch.rand(count, height, width, 3, generator=g)


# ---------------------------------------------------------------- what comes out


def test_the_source_is_encoded_and_on_both_sides() -> None:
    found = in_host(graphs.image_shapes, _images(), {}, INFO)
    assert torch.equal(found["latent"], found["stock"])
    for references in found["references"]:
        assert len(references) == 1 and torch.equal(references[0], found["latent"])
    assert found["guidance"] == [INFO.guidance_sample] * 2
    assert found["zero"] and found["mask"] is None


def test_guidance_is_the_artists_if_there_is_one() -> None:
    assert in_host(graphs.guidance_of_the_artist, _images(), INFO) == 7.5
    assert in_host(graphs.image_shapes, _images(), graphs.SMALL)["guidance"] == [None, None]


@pytest.mark.parametrize(
    ("widgets", "info", "size"),
    [
        ({}, INFO, (40, 64)),  # 39.2 x 58.8 pixels of 48 squared, in whole tokens of 8
        ({"size_mode": "megapixels", "megapixels": 0.01}, INFO, (88, 128)),
        ({"size_mode": "megapixels", "megapixels": 0.01}, None, (88, 128)),
        ({"size_mode": "exact size", "width": 96, "height": 24}, INFO, (24, 96)),
    ],
)
def test_sizes(widgets: dict, info: object, size: tuple[int, int]) -> None:
    found = in_host(graphs.image_shapes, _images(), widgets, info)
    assert found["image"].shape == (1, *size, 3)
    assert found["latent"].shape == (1, 8, size[0] // 4, size[1] // 4)


def test_nothing_is_cut_off() -> None:
    """A white frame around a black picture is white all around what the model sees."""
    image = torch.zeros(1, 40, 60, 3)
    image[:, [0, 1, 2, -3, -2, -1]] = 1
    image[:, :, [0, 1, 2, -3, -2, -1]] = 1
    seen = in_host(graphs.image_shapes, image, {}, INFO)["image"][0]
    for edge in (seen[0], seen[-1], seen[:, 0], seen[:, -1]):
        assert edge.min() > 0.9


def test_a_batch_is_edited_picture_by_picture() -> None:
    together, alone = in_host(graphs.batched, LORA, _images(3))
    assert (together - alone).abs().max() < 1e-4 * alone.abs().max()
    assert (together[0] - together[1]).abs().max() > 0.1


def test_variations_stand_beside_each_other() -> None:
    latent = in_host(graphs.image_shapes, _images(2), {"batch_size": 3}, INFO)["latent"]
    assert len(latent) == 6
    assert torch.equal(latent[0], latent[2]) and torch.equal(latent[3], latent[5])
    assert not torch.equal(latent[2], latent[3])


def test_a_short_text_is_remarked_upon() -> None:
    said = in_host(graphs.note_on_text, _images(), replace(INFO, text_len=256))
    assert said.startswith("ByG Image Edit: the text has 24 tokens") and "256" in said
    assert "tokens" not in in_host(graphs.note_on_text, _images(), INFO)


# ---------------------------------------------------------------- masks


def test_outside_of_a_mask_everything_stays() -> None:
    image, mask = _images(1, 48, 48), torch.zeros(1, 48, 48)
    mask[:, 16:32, 16:32] = 1
    latent, source, finished = in_host(graphs.masked, LORA, image, mask)
    assert (latent - source)[..., :3, :].abs().max() < 1e-5
    assert (latent - source)[..., 5:7, 5:7].abs().max() > 0.1
    black = (mask == 0)[0]
    assert torch.equal(finished[0][black], image[0][black])
    assert (finished - image)[0, 20:28, 20:28].abs().max() > 0.05


def test_load_images_placeholder_is_no_mask() -> None:
    found = in_host(graphs.image_shapes, _images(), {"mask": torch.zeros(1, 64, 64)}, INFO)
    assert found["mask"] is None


def test_masks_pair_with_pictures_and_their_variations() -> None:
    masks = torch.stack([torch.ones(40, 60), torch.zeros(40, 60)])
    masks[1, :, 30:] = 1
    widgets = {"mask": masks, "batch_size": 2}
    found = in_host(graphs.image_shapes, _images(2), widgets, INFO)
    assert found["mask"].shape == (4, 1, 40, 64)
    assert found["mask"][:2].min() == 1
    assert found["mask"][2:, ..., :28].max() < 0.01 and found["mask"][2:, ..., 36:].min() > 0.99


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("image", "widgets", "words"),
    [
        (_images(), {"size_mode": "as trained"}, r"size_mode: 'as trained' needs `info`.*bypassed"),
        (_images(), {"size_mode": "around the mask"}, r"size_mode: 'around the mask' needs a mask"),
        (torch.rand(1, 40, 60, 5), {}, r"image: got the shape \(1, 40, 60, 5\)"),
        (_images()[:0], {}, r"image: an empty batch; .*loader"),
        (_images(), {"mask": torch.ones(1, 20, 30)}, r"mask: 30 x 20 pixels, the picture has 60 x"),
        (_images(), {"mask": torch.zeros(1, 40, 60)}, r"mask: all black, so nothing may change"),
        (_images(2), {"mask": torch.ones(3, 40, 60)}, r"mask: 3 masks for 2 pictures"),
        (_images(), {"vae": None}, r"vae: there is none; connect Load VAE.*ae.safetensors"),
        (_images(), {"size_mode": "exact size", "width": 60}, r"width x height: 60 x .* of 8"),
    ],
)
def test_bad_input(image: Tensor, widgets: dict, words: str) -> None:
    with pytest.raises(ValueError, match=rf"ByG Image Edit: {words}"):
        in_host(graphs.refused_image, image, widgets)


def test_the_wrong_vae() -> None:
    with pytest.raises(ValueError, match=r"ByG Image Edit: vae: there is none"):
        in_host(graphs.refused_vae, _images(), "empty")
    with pytest.raises(ValueError, match=r"ByG Image Edit: vae: .*for videos; use ByG Video Edit"):
        in_host(graphs.refused_vae, _images(), "video")
    with pytest.raises(ValueError, match=r"ByG Image Edit: vae: its tokens are 8 pixels wide.*16"):
        in_host(graphs.refused_image, _images(), {}, replace(INFO, multiple=16))


def test_texts_that_cannot_be_used() -> None:
    with pytest.raises(ValueError, match=r"ByG Image Edit: .*already holds a source"):
        in_host(graphs.refused_texts, _images(), "source")
    with pytest.raises(ValueError, match=r"ByG Image Edit: 3 texts for 2 pictures"):
        in_host(graphs.refused_texts, _images(2), "count")
