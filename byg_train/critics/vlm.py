"""Vision-language models as critics: pictures go in differentiably, yes and no come out.

Qwen2.5-VL, Qwen3-VL and InternVL of transformers. What their processors do to a picture is done
here with gradients; words, sizes and the order of tokens stay the processor's. One forward answers
all questions, at the place where the answer would begin, and nothing is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from inspect import getmodule, signature
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ..config import ConfigError
from ..config.critic import CriticConfig
from ..core.critic import Question
from ..models.picture_processor import load_processor

# As the models say no and yes; their tokenizers must have one token for either.
ANSWERS = ("No", "Yes")
QWEN, INTERN = ("qwen2_5_vl", "qwen3_vl"), ("internvl",)


def load_vlm(config: CriticConfig, device: str) -> VlmCritic:
    """A critic from the hub or a folder, in bfloat16 on a GPU."""
    from transformers import AutoModelForImageTextToText

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    try:
        processor = load_processor(config.path)
        model = AutoModelForImageTextToText.from_pretrained(
            config.path, dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"critic.path {config.path} cannot be loaded: {error}") from None
    return VlmCritic(model.to(device), processor, config.resolution)


class VlmCritic:
    """A `Critic` that asks a vision-language model; of clips it sees the middle frame."""

    def __init__(self, model: Any, processor: Any, resolution: int) -> None:
        """Freeze the model; ConfigError for one that cannot be asked so."""
        self.kind = model.config.model_type
        if self.kind not in (*QWEN, *INTERN):
            known = ", ".join((*QWEN, *INTERN))
            raise ConfigError(f"critic.path: a model of type {self.kind!r}; known are {known}")
        if "mm_encoder_outputs" not in signature(model.model.forward).parameters:
            raise ConfigError(
                "critic.path: this transformers cannot be given the features of pictures "
                "(mm_encoder_outputs): update it, pip install -U transformers"
            )
        self.model = model.requires_grad_(False).eval()
        self.processor, self.answers = processor, answer_tokens(processor.tokenizer)
        processor.tokenizer.padding_side = "left"  # so that all answers begin at the end
        is_qwen = self.kind in QWEN
        self.prepare = QwenPixels(processor, resolution) if is_qwen else InternPixels(processor)
        _checkpoint_layers(model)

    def __call__(self, source: Tensor, edited: Tensor, questions: Sequence[Question]) -> Tensor:
        """Logits (Q, 2) of no and yes, float32."""
        with torch.no_grad():  # once, whatever is asked of it
            before, size = self.features(source)
        after, _ = self.features(edited)
        shown = [
            (features, q.row)
            for q in questions
            for features in ((before, after) if q.sees_source else (after,))
        ]
        words = self._words(questions, size)
        outputs = self.model(
            **words, mm_encoder_outputs={"image": self._joined(shown)}, logits_to_keep=1
        )
        return outputs.logits[:, -1, self.answers].float()

    def features(self, pixels: Tensor) -> tuple[Any, tuple[int, int]]:
        """What the language model sees of pictures (B, 3, F, H, W) in [-1, 1], and their size."""
        prepared = self.prepare(to_unit_frame(pixels))
        images = {k: v.to(self.model.device) for k, v in prepared.items() if k != "size"}
        return self.model.model.get_image_features(**images, return_dict=True), prepared["size"]

    def _joined(self, shown: list[tuple[Any, int]]) -> Any:
        """The features of some pictures in a row, in the form in which the model gives them."""
        whole, first = copy(shown[0][0]), shown[0][0]
        if self.kind in INTERN:
            whole.pooler_output = torch.stack([f.pooler_output[row] for f, row in shown])
            return whole
        whole.pooler_output = tuple(f.pooler_output[row] for f, row in shown)
        if getattr(first, "deepstack_features", None) is not None:
            whole.deepstack_features = [
                tuple(f.deepstack_features[layer][row] for f, row in shown)
                for layer in range(len(first.deepstack_features))
            ]
        return whole

    def _words(self, questions: Sequence[Question], size: tuple[int, int]) -> dict[str, Tensor]:
        """Tokens, and where the pictures stand among them."""
        height, width = size
        texts, pictures = [], []
        for q in questions:
            number = 1 + q.sees_source
            parts = [part for i in range(number) for part in _picture(i, number)]
            message = [{"role": "user", "content": [*parts, {"type": "text", "text": q.text}]}]
            texts.append(
                self.processor.apply_chat_template(
                    message, tokenize=False, add_generation_prompt=True
                )
            )
            pictures.append([Image.new("RGB", (width, height))] * number)
        made = self.processor(
            text=texts, images=pictures, padding=True, return_tensors="pt", **self.prepare.options
        )
        return {
            name: value.to(self.model.device)
            for name, value in made.items()
            if name not in ("pixel_values", "num_patches")
        }


def _picture(i: int, number: int) -> list[dict[str, str]]:
    name = [{"type": "text", "text": f"Image-{i + 1}: "}] if number > 1 else []
    return [*name, {"type": "image"}, {"type": "text", "text": "\n"}]


def answer_tokens(tokenizer: Any) -> list[int]:
    """The tokens of no and yes; ConfigError where a word is not one token of its own."""
    found = [tokenizer.encode(word, add_special_tokens=False) for word in ANSWERS]
    for word, tokens in zip(ANSWERS, found, strict=True):
        if len(tokens) != 1 or tokens[0] == tokenizer.unk_token_id:
            raise ConfigError(
                f"critic: its tokenizer makes {len(tokens)} tokens of {word!r}; wanted one, known"
            )
    return [tokens[0] for tokens in found]


def _checkpoint_layers(model: Any) -> None:
    """Let layers compute themselves again in backward; what drops values stays switched off."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.training = True  # of this module alone: its parts are as `eval` left them


# ---------------------------------------------------------------- pixels


def to_unit_frame(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, F, H, W) in [-1, 1] -> their middle frames (B, 3, H, W) in [0, 1], float32.

    A fixed map: brightness is a thing that edits change.
    """
    return (pixels[:, :, pixels.shape[2] // 2].float() * 0.5 + 0.5).clamp(0, 1)


class QwenPixels:
    """What Qwen2-VL's image processor does: a size in whole tokens, and patches in its order."""

    def __init__(self, processor: Any, resolution: int) -> None:
        own = processor.image_processor
        self.patch, self.merge = own.patch_size, own.merge_size
        self.frames = own.temporal_patch_size
        least = min(own.size["shortest_edge"], resolution**2)
        self.limits = {"shortest_edge": least, "longest_edge": resolution**2}
        self.mean, self.std = own.image_mean, own.image_std
        self.fitted = getmodule(type(own)).smart_resize  # its own: with torchvision or without
        self.options = {"images_kwargs": {"size": self.limits}}

    def __call__(self, frames: Tensor) -> dict[str, Any]:
        """`pixel_values` (B N, 3 * 2 * patch^2) and `image_grid_thw` (B, 3), and the size."""
        factor, (b, _, height, width) = self.patch * self.merge, frames.shape
        size = self.fitted(
            height, width, factor, self.limits["shortest_edge"], self.limits["longest_edge"]
        )
        x = normalised(resized(frames, size), self.mean, self.std)
        p, m, (gh, gw) = self.patch, self.merge, (size[0] // self.patch, size[1] // self.patch)
        x = x.reshape(b, 3, gh // m, m, p, gw // m, m, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
        x = x.unsqueeze(6).expand(*[-1] * 6, self.frames, -1, -1)  # a picture is a clip at rest
        grid = torch.tensor([[1, gh, gw]] * b)
        return {"pixel_values": x.reshape(b * gh * gw, -1), "image_grid_thw": grid, "size": size}


class InternPixels:
    """What InternVL's does to one tile: squared, whatever the proportions."""

    options = {"images_kwargs": {"crop_to_patches": False}}  # noqa: RUF012

    def __init__(self, processor: Any) -> None:
        own = processor.image_processor
        self.size = (own.size["height"], own.size["width"])
        self.mean, self.std = own.image_mean, own.image_std

    def __call__(self, frames: Tensor) -> dict[str, Any]:
        """`pixel_values` (B, 3, side, side), and the size."""
        x = normalised(resized(frames, self.size), self.mean, self.std)
        return {"pixel_values": x, "size": self.size}


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, with antialiasing, as processors do it with tensors."""
    if frames.shape[-2:] == size:
        return frames
    return interpolate(frames, size, mode="bicubic", antialias=True, align_corners=False)


def normalised(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(frames - mean) / std by channel."""
    return (frames - frames.new_tensor(mean)[:, None, None]) / frames.new_tensor(std)[:, None, None]
