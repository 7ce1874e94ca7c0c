"""One attempt over HTTP: what is sent, and what each way of going wrong means."""

from __future__ import annotations

import email.utils
import importlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any

from retouch_gym.chat import to_openai
from retouch_reward_models.backends.base import ChatReply, ChatRequest
from retouch_reward_models.backends.completions import read_completion
from retouch_reward_models.backends.keys import request_text
from retouch_reward_models.backends.resilience import AttemptError
from retouch_reward_models.errors import BackendError

CONNECT_S = 5.0
"""Seconds for connecting; a host that swallows packets would otherwise use up an item's whole deadline."""


def open_client(base_url: str, api_key: str | None) -> Any:
    """A client that sends what we say and retries nothing by itself.

    Raises:
        BackendError: If ``openai`` is not installed.
    """
    openai = _openai()
    return openai.AsyncOpenAI(
        base_url=base_url,
        # Without one, the client would look for a key in the environment and send it to whatever this URL is.
        api_key=api_key or "none",
        default_headers={"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit},
        max_retries=0,
        timeout=openai.Timeout(None, connect=CONNECT_S),
    )


def request_body(request: ChatRequest, model: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The body to be sent, photos as base64 PNG.

    Args:
        request: The conversation.
        model: The model's name at the endpoint.
        extra: Fields that replace ours or are added; None leaves one out.

    Raises:
        ImageError: If a photo is none.
        ValueError: If a text cannot be written as UTF-8.
        TypeError: If a field cannot be written as JSON.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": to_openai(request.messages),
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    # Some servers refuse fields that they do not know, so what is not asked for is not mentioned.
    if request.seed is not None:
        body["seed"] = request.seed
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    body = {name: value for name, value in (body | dict(extra)).items() if value is not None}
    # What is no JSON or no Unicode (a lone surrogate) is found here, not in the middle of the client.
    json.dumps({**body, "messages": request_text(request)}, allow_nan=False, ensure_ascii=False).encode()
    return body


async def attempt(client: Any, body: Mapping[str, Any], tokens: bool) -> ChatReply:
    """Send a body once and read the answer.

    Args:
        client: From `open_client`.
        body: From `request_body`.
        tokens: Whether log-probabilities were asked for.

    Raises:
        AttemptError: If there is no answer, or none that is one.
    """
    openai = _openai()
    rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
    try:
        # The raw response, because the client's own reading takes HTML for an answer and empty choices for success.
        response = await client.chat.completions.with_raw_response.create(
            model=body["model"], messages=body["messages"], extra_body=rest
        )
    except openai.APIStatusError as error:
        raise _status_error(error.status_code, error.response.headers, str(error)) from error
    except openai.APITimeoutError as error:
        raise AttemptError("timeout", f"no connection within {CONNECT_S:.0f} s") from error
    except openai.APIConnectionError as error:
        raise AttemptError("connection", f"{error} {error.__cause__ or ''}".strip()) from error
    except openai.OpenAIError as error:
        raise AttemptError("refused", str(error), retry=False, health="unknown") from error
    return read_completion(response.text, tokens=tokens)


def _status_error(status: int, headers: Mapping[str, str], reason: str) -> AttemptError:
    reason = reason if len(reason) <= 400 else f"{reason[:400]}…"
    wait = _retry_after_s(headers)
    if status == 429:
        # The endpoint works; it says nothing of whether one that was down is up again for good.
        return AttemptError("rate_limit", reason, retry_after_s=wait, health="unknown")
    if status == 408:
        return AttemptError("timeout", reason, retry_after_s=wait)
    if status >= 500:
        return AttemptError("server", reason, retry_after_s=wait)
    return AttemptError("refused", reason, retry=False, health="well")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for, given as a number or as a date; None without it or if it is neither."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return seconds if math.isfinite(seconds) else None


def _openai() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise BackendError("Endpoints need the package openai: pip install 'retouch-gym[reward-models]'.") from error
