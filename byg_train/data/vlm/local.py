"""Run a vision-language model in this process with transformers, such as Qwen3-VL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

from ...machine import preferred_dtype
from ...models.picture_processor import load_processor
from .. import DataError
from .client import Model, need
from .replies import NoAnswerError, Reply, shortened


class LocalModel(Model):
    """A model in this process; it answers one question after the other."""

    def __init__(
        self, name: str, *, device: str, max_tokens: int, temperature: float | None
    ) -> None:
        """
        Args:
            name: hub id, or folder with model and processor.
            device: cpu; or cuda to spread the model over all GPUs, and what is left on the CPU.
            max_tokens: limit for one answer, thoughts included.
            temperature: None leaves it to the model's own settings.
        """
        need("transformers", "json_repair", "filelock")
        from transformers import AutoModelForImageTextToText

        self.name = name
        try:
            self._processor = load_processor(name)
            self._model = AutoModelForImageTextToText.from_pretrained(
                name,
                # As the file has it, but where that would be emulated.
                dtype="auto" if preferred_dtype(device).dtype == "bfloat16" else "float32",
                use_safetensors=True,  # never pickled weights
                device_map="auto" if device == "cuda" else device,
            ).eval()
        except (ImportError, OSError, ValueError) as error:
            raise DataError(f"{name} is no vision-language model here: {error}") from error
        self._settings = {"max_new_tokens": max_tokens}
        if temperature is not None:
            self._settings |= {"do_sample": temperature > 0}
            if temperature > 0:
                self._settings["temperature"] = temperature

    async def ask(self, prompt: str, pictures: Sequence[bytes]) -> Reply:
        """Generate in a thread, so that the progress bar and Ctrl-C keep working."""
        try:
            return await asyncio.to_thread(self._generate, prompt, pictures)
        except (RuntimeError, ValueError) as error:  # a picture too many for the memory, say
            raise NoAnswerError(shortened(str(error))) from None

    def _generate(self, prompt: str, pictures: Sequence[bytes]) -> Reply:
        content = [{"type": "image", "image": Image.open(BytesIO(jpeg))} for jpeg in pictures]
        content.append({"type": "text", "text": prompt})
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._model.device)
        question_tokens = inputs["input_ids"].shape[1]
        answer = self._model.generate(**inputs, **self._settings)[0, question_tokens:]
        text = self._processor.decode(answer, skip_special_tokens=True)
        cut = len(answer) == self._settings["max_new_tokens"]
        return Reply(text, cut, question_tokens, len(answer))
