"""A judge that looks at pictures and answers in words: any OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from io import BytesIO

from PIL import Image

# Pictures and a question -> the answer, as it was given.
Ask = Callable[[Sequence[Image.Image], str], str]

# VIEScore's: greedy, and as reproducible as the server can.
MAX_TOKENS, SEED = 512, 42


def openai_judge(model: str, base_url: str | None = None, api_key: str | None = None) -> Ask:
    """Ask `model` at `base_url`; None: OpenAI itself, and the key in OPENAI_API_KEY.

    A local server (vLLM, llama.cpp, Ollama) takes any key. The library tries again where the server
    is busy; what fails still, raises.
    """
    from openai import OpenAI

    client = OpenAI(base_url=base_url, api_key=api_key or ("none" if base_url else None))

    def ask(images: Sequence[Image.Image], prompt: str) -> str:
        shown = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": [*shown, {"type": "text", "text": prompt}]}],
            temperature=0,
            max_tokens=MAX_TOKENS,
            seed=SEED,
        )
        return answer.choices[0].message.content or ""

    return ask


def _data_url(image: Image.Image) -> str:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
