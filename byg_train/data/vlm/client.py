"""The interface to a vision-language model, and a client of OpenAI-compatible servers."""

from __future__ import annotations

import base64
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import DataError
from .replies import NoAnswerError, RefusedError, Reply, read_reply, server_words, shortened

if TYPE_CHECKING:
    import openai

# Seconds to wait for a connection.
CONNECT_TIMEOUT = 10


class ModelError(DataError):
    """No question will get an answer: no server, a wrong key, an unknown model."""


class Model(ABC):
    """Something that answers questions about pictures."""

    name: str

    async def check(self) -> None:  # noqa: B027  (nothing to check, unless it says what)
        """Raise ModelError if it is already clear that no question will be answered."""

    @abstractmethod
    async def ask(self, prompt: str, pictures: Sequence[bytes]) -> Reply:
        """Answer a question about JPEGs or PNGs; raises NoAnswerError or ModelError."""

    async def close(self) -> None:  # noqa: B027
        """Release connections and other resources, if there are any."""


def need(*packages: str) -> None:
    """Raise DataError if one of these packages is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(
            f"asking a model needs {' and '.join(missing)}, which this Python does not have: "
            'pip install -e ".[vlm]"'
        )


class Endpoint(Model):
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
            url: base URL of the server, most often ending in /v1.
            model: the model's name on the server.
            key_variable: environment variable that holds the API key; may be unset.
            max_tokens: limit for one answer, thoughts included.
            temperature: None leaves it to the server.
            retries: how often the library repeats a request after a passing error, with doubling
                waits of up to eight seconds, or as long as the server's Retry-After says.
            timeout: seconds to wait for one answer.
            seed: sampling seed; None leaves it to the server. Not every server supports it.
        """
        need("openai", "json_repair", "filelock")
        import openai

        if not url.startswith(("http://", "https://")):
            raise DataError(f"endpoint {url}: wanted an address such as http://HOST/v1")
        self.name = model
        self._url, self._timeout = url, timeout
        options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        self._options = {name: value for name, value in options.items() if value is not None}
        self._server = {
            "base_url": url,
            # Local servers accept any key, and the library insists on one.
            "api_key": os.environ.get(key_variable) or "none",
            "timeout": openai.Timeout(timeout, connect=CONNECT_TIMEOUT),
        }
        self._client = openai.AsyncOpenAI(**self._server, max_retries=retries)

    async def check(self) -> None:
        """Raise ModelError at once if nobody listens at the address."""
        import openai

        try:
            # A connection belongs to one event loop, and questions may be asked in a later one.
            async with openai.AsyncOpenAI(**self._server, max_retries=0) as client:
                await client.models.list()
        except openai.APITimeoutError:
            pass  # the server is there, but busy
        except openai.APIConnectionError as error:
            why = error.__cause__ or error
            message = f"{self._url} cannot be reached ({why}); is the server running?"
            raise ModelError(message) from None
        except Exception:  # not every server can list its models
            pass

    async def ask(self, prompt: str, pictures: Sequence[bytes]) -> Reply:
        """Send one request; options that this server refuses are changed for good."""
        import openai

        content = [{"type": "image_url", "image_url": {"url": _data_url(p)}} for p in pictures]
        content.append({"type": "text", "text": prompt})
        messages, options = [{"role": "user", "content": content}], self._options
        while True:
            try:
                completion = await self._client.chat.completions.create(
                    model=self.name, messages=messages, **options
                )
            except openai.APIStatusError as error:
                accepted = _accepted(options, error)
                if accepted is None:
                    raise self._refusal(error) from None
                self._options = options = accepted
            except Exception as error:  # the library meets answers of any shape
                raise self._failure(error) from None
            else:
                return read_reply(completion)

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        """What an answer with an error status means for this question and the next ones."""
        message = server_words(error)
        if error.status_code in (401, 403):
            return ModelError(f"{self._url} refuses the key: {message}")
        if error.status_code == 404:
            return ModelError(
                f"{self._url} has no model {self.name!r}, or is not the address of an "
                f"OpenAI-compatible server (most end in /v1): {message}"
            )
        # 408, 409, 429 pass with time; 5xx is the server's own fault.
        passing = error.status_code in (408, 409, 429) or error.status_code >= 500
        return (NoAnswerError if passing else RefusedError)(message)

    def _failure(self, error: Exception) -> NoAnswerError:
        """Why no answer came back at all."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return NoAnswerError(f"no answer within {self._timeout:g} s")
        if isinstance(error, openai.APIConnectionError):
            return NoAnswerError(f"the connection broke ({error.__cause__ or error})")
        return NoAnswerError(f"no chat completion came back: {shortened(str(error))}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _accepted(options: dict[str, Any], error: openai.APIStatusError) -> dict[str, Any] | None:
    """The options without the one that a server refused; None if the error has another reason.

    OpenAI's newer models want the limit as `max_completion_tokens`, which other servers do not
    know, and its reasoning models allow no temperature but their own. Not every server fills in
    `param`, so the whole error is searched for the option's name.
    """
    if error.status_code not in (400, 422):
        return None
    words = f"{error} {error.body}"
    if "max_tokens" in options and "max_completion_tokens" in words:
        new_name = {"max_tokens": "max_completion_tokens"}
        return {new_name.get(name, name): value for name, value in options.items()}
    if "temperature" in options and "temperature" in words:
        return {name: value for name, value in options.items() if name != "temperature"}
    return None


def _data_url(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
