"""Whoever answers: what a model is asked through, and a server that speaks the OpenAI protocol."""

from __future__ import annotations

import base64
import importlib.util
import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from .. import DataError

# Seconds: no wait for a server that is not there.
CONNECT_TIMEOUT = 10


class Reply(NamedTuple):
    """An answer as it came."""

    text: str
    cut: bool  # whether the model had to stop before its end
    asked: int  # tokens of the question, pictures included; 0 if the server does not say
    answered: int  # tokens of the answer, thoughts included


class NoAnswerError(Exception):
    """One question stays without an answer; others may get theirs."""


class RefusedError(NoAnswerError):
    """The server understood the question and will not answer it, however often it is asked."""


class ModelError(DataError):
    """No question will get an answer: no server, a wrong key, an unknown model."""


class Model(Protocol):
    """What answers questions."""

    name: str

    async def check(self) -> None:
        """Raise ModelError if it is plain already that no question will be answered."""

    async def ask(self, prompt: str, pictures: Sequence[bytes]) -> Reply:
        """Answer a question about JPEGs or PNGs; raises NoAnswerError or ModelError."""

    async def close(self) -> None:
        """Let go of what was opened."""


def need(*packages: str) -> None:
    """Refuse, before anything is asked, where a package is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(
            f"asking a model needs {' and '.join(missing)}, which this Python does not have: "
            'pip install -e ".[vlm]"'
        )


class Endpoint:
    """A model behind an OpenAI-compatible server: vLLM, Ollama, LM Studio, a cloud."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_variable: str,
        max_tokens: int,
        temperature: float | None,
        retries: int,
        timeout: float,
        seed: int | None = None,
    ) -> None:
        """
        Args:
            key_variable: name of the environment variable with the key; unset where none is wanted.
            temperature: None leaves it to the server, which knows what suits the model.
            retries: of one request, after errors that pass; the waits double, up to eight seconds,
                unless the server says how long (Retry-After). The library does all that.
            timeout: seconds for one answer.
            seed: of the sampling; None: the server's own. Not every server heeds it.
        """
        need("openai", "json_repair", "filelock")
        import openai

        self.name = model
        self._url, self._timeout = url, timeout
        self._limit = {"max_tokens": max_tokens}
        options = {"temperature": temperature, "seed": seed}
        self._options = {name: value for name, value in options.items() if value is not None}
        self._server = {
            "base_url": url,
            # Local servers take any key, and the library insists on one.
            "api_key": os.environ.get(key_variable) or "none",
            "timeout": openai.Timeout(timeout, connect=CONNECT_TIMEOUT),
        }
        self._client = openai.AsyncOpenAI(**self._server, max_retries=retries)

    async def check(self) -> None:
        """Raise ModelError, at once, if nobody listens at the address."""
        import openai

        try:
            # A connection belongs to its event loop, and questions may be asked in a later one.
            async with openai.AsyncOpenAI(**self._server, max_retries=0) as client:
                await client.models.list()
        except openai.APITimeoutError:
            pass  # it is there, and busy
        except openai.APIConnectionError as error:
            why = error.__cause__ or error
            message = f"{self._url} cannot be reached ({why}); is the server running?"
            raise ModelError(message) from None
        except (openai.OpenAIError, ValueError):
            pass  # not every server lists its models

    async def ask(self, prompt: str, pictures: Sequence[bytes]) -> Reply:
        """One request, repeated as long as it is worth it."""
        import openai

        content = [{"type": "image_url", "image_url": {"url": _data_url(p)}} for p in pictures]
        content.append({"type": "text", "text": prompt})
        limit, options = self._limit, self._options
        try:
            reply = await self._client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": content}],
                **options,
                **limit,
            )
        except openai.APITimeoutError:
            raise NoAnswerError(f"no answer within {self._timeout:g} s (--timeout)") from None
        except openai.APIConnectionError as error:
            raise NoAnswerError(f"the connection broke ({error.__cause__ or error})") from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ModelError(f"{self._url} refuses the key: {_words(error)}") from None
        except openai.NotFoundError as error:
            raise ModelError(
                f"{self._url} has no model {self.name!r}, or is not the address of an "
                f"OpenAI-compatible server (most end in /v1): {_words(error)}"
            ) from None
        except openai.APIStatusError as error:
            if "max_completion_tokens" in str(error) and "max_tokens" in limit:
                # Newer models of OpenAI want the limit under this name, other servers do not.
                self._limit = {"max_completion_tokens": limit["max_tokens"]}
                return await self.ask(prompt, pictures)
            if "temperature" in str(error) and "temperature" in options:
                # OpenAI's reasoning models know no temperature but their own.
                self._options = {k: v for k, v in options.items() if k != "temperature"}
                return await self.ask(prompt, pictures)
            # 408, 409, 429: later; 5xx: a fault of its own.
            later = error.status_code in (408, 409, 429) or error.status_code >= 500
            raise (NoAnswerError if later else RefusedError)(_words(error)) from None
        except (openai.OpenAIError, ValueError) as error:
            raise NoAnswerError(f"no chat completion came back: {error}") from None
        return _reply(reply)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _reply(completion: object) -> Reply:
    """The first choice of a completion; servers leave out whatever they like."""
    choices = getattr(completion, "choices", None)
    if not choices or choices[0].message is None:
        raise NoAnswerError(f"no chat completion came back: {str(completion)[:200]!r}")
    usage, choice = getattr(completion, "usage", None), choices[0]
    return Reply(
        choice.message.content or getattr(choice.message, "refusal", None) or "",
        choice.finish_reason == "length",
        getattr(usage, "prompt_tokens", None) or 0,
        getattr(usage, "completion_tokens", None) or 0,
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _data_url(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
