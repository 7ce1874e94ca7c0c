"""Any endpoint that speaks OpenAI's chat API: vLLM, SGLang, ``transformers serve``, a vendor."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from retouch_gym.errors import ConfigurationError, RetouchError
from retouch_reward_models.backends.background import background_loop
from retouch_reward_models.backends.base import Backend, ChatFailure, ChatReply, ChatRequest
from retouch_reward_models.backends.records import CallRecord, Prices
from retouch_reward_models.backends.resilience import (
    AttemptError,
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    Limits,
    persist,
)
from retouch_reward_models.backends.wire import CONNECT_S, attempt, open_client, request_body
from retouch_reward_models.errors import BackendError


@dataclass(frozen=True)
class _Session:
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    client: Any
    slots: asyncio.Semaphore


@dataclass(frozen=True)
class _Settings:
    base_url: str
    model: str
    api_key: str | None = field(repr=False)
    api_key_env: str | None
    concurrency: int
    limits: Limits
    backoff: Backoff
    breaker: BreakerPolicy
    prices: Prices | None
    extra_body: Mapping[str, Any]
    version: str | None

    def __post_init__(self) -> None:
        if urlsplit(self.base_url).scheme not in ("http", "https") or not urlsplit(self.base_url).hostname:
            raise ConfigurationError(
                f"base_url has to be a URL like 'http://localhost:8000/v1', got {self.base_url!r}."
            )
        if self.concurrency < 1:
            raise ConfigurationError(f"concurrency has to be 1 or more, got {self.concurrency}.")
        if self.api_key is not None and self.api_key_env is not None:
            raise ConfigurationError("Give api_key or api_key_env, not both.")
        try:
            json.dumps(self.extra_body, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"extra_body has to be plain data that JSON can hold: {error}.") from error


class OpenAICompatible(Backend):
    """A model behind an endpoint with OpenAI's chat API; photos travel as base64 PNG, without loss.

    Requests of a batch run at the same time, `concurrency` at most, also when several threads call. Answers with 429,
    408 or 5xx, time-outs, connections that fail or are cut, and whatever is no chat completion are tried again after a
    wait that doubles, with jitter; an endpoint's ``Retry-After`` is obeyed unless it reaches past the item's deadline,
    in which case the item fails at once. Other statuses of 4xx are not tried again. When the endpoint fails many times
    in a row, a circuit breaker fails items at once for a while.

    Nothing is shared with the environment's settings for OpenAI: their keys, organisations and projects are not sent
    to `base_url` unless `api_key_env` says so.

    Args:
        base_url: Where the API begins, mostly ending in ``/v1``.
        model: The model's name there.
        api_key: The secret itself. It is pickled with the backend; prefer `api_key_env`.
        api_key_env: Environment variable that holds the secret, read in the process that sends.
        concurrency: Most requests at the same time.
        timeout_s: Seconds for one item from the moment it is sent, retries and waits included.
        attempts: Most attempts for one item.
        attempt_timeout_s: Seconds for one attempt; None leaves it all of `timeout_s`, so that a request that hangs is
            not tried again.
        backoff: Waits between attempts.
        breaker: When the circuit opens and for how long.
        prices: What tokens cost, for the record.
        extra_body: More fields of the request's body, JSON-able, such as ``{"top_p": .9}``. They replace ours, and
            None leaves one out: ``{"max_tokens": None, "max_completion_tokens": 2048}``.
        version: What the endpoint runs, for the name; the name must change when the answers may. None takes a digest
            of `base_url`.

    Attributes:
        record: Requests, failures, tokens, money and seconds so far, of this process; ``record.summary()``.
        breaker: The circuit breaker.

    Raises:
        ConfigurationError: If an argument is out of range.

    Example:
        >>> judge = OpenAICompatible("http://localhost:8000/v1", "Qwen/Qwen3-VL-8B-Instruct", version="vllm-1")
        >>> judge.name
        'Qwen/Qwen3-VL-8B-Instruct@vllm-1'
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 60.0,
        attempts: int = 4,
        attempt_timeout_s: float | None = None,
        backoff: Backoff | None = None,
        breaker: BreakerPolicy | None = None,
        prices: Prices | None = None,
        extra_body: Mapping[str, Any] | None = None,
        version: str | None = None,
    ) -> None:
        self._begin(
            _Settings(
                base_url=base_url,
                model=model,
                api_key=api_key,
                api_key_env=api_key_env,
                concurrency=concurrency,
                limits=Limits(attempts, timeout_s, attempt_timeout_s),
                backoff=backoff or Backoff(),
                breaker=breaker or BreakerPolicy(),
                prices=prices,
                extra_body=dict(extra_body or {}),
                version=version,
            )
        )

    def _begin(self, settings: _Settings) -> None:
        self._settings = settings
        self.name = _name(settings)
        self.record = CallRecord(settings.prices)
        self.breaker = CircuitBreaker(settings.breaker)
        self._session: _Session | None = None
        self._opening = threading.Lock()

    def __getstate__(self) -> _Settings:
        return self._settings

    def __setstate__(self, settings: _Settings) -> None:
        self._begin(settings)

    def __repr__(self) -> str:
        return f"OpenAICompatible({self._settings.base_url!r}, {self._settings.model!r})"

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        """Answer each conversation, in order; may be called from any thread, one with a running loop included.

        Returns:
            One reply or failure per request, after ``timeout_s · ceil(len(requests) / concurrency)`` at the latest.

        Raises:
            BackendError: If ``openai`` is not installed, or `api_key_env` names a variable that is not set.
        """
        future = asyncio.run_coroutine_threadsafe(self._complete(requests, self._open()), background_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def complete_async(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatFailure]:
        """`complete` for callers with an event loop. Cancelling it cancels the requests."""
        work = self._complete(requests, self._open())
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, background_loop()))

    def close(self) -> None:
        """Close the connections. The backend can be used again; it then opens new ones."""
        with self._opening:
            session, self._session = self._session, None
        if session is not None and session.loop is background_loop():
            asyncio.run_coroutine_threadsafe(session.client.close(), session.loop).result(CONNECT_S)

    def _open(self) -> _Session:
        loop = background_loop()
        with self._opening:
            # After a fork the old client belongs to a loop that no longer runs.
            if self._session is None or self._session.loop is not loop:
                self._session = _Session(
                    loop,
                    open_client(self._settings.base_url, self._key()),
                    asyncio.Semaphore(self._settings.concurrency),
                )
            return self._session

    def _key(self) -> str | None:
        name = self._settings.api_key_env
        if name is None:
            return self._settings.api_key
        key = os.environ.get(name)
        if not key:
            raise BackendError(
                f"{self!r} takes its key from the environment variable {name}, which is not set; set it."
            )
        return key

    async def _complete(self, requests: Sequence[ChatRequest], session: _Session) -> list[ChatReply | ChatFailure]:
        return list(await asyncio.gather(*(self._answer(request, session) for request in requests)))

    async def _answer(self, request: ChatRequest, session: _Session) -> ChatReply | ChatFailure:
        async with session.slots:
            result = await self._persist(request, session)
        self.record.add(result)
        return result

    async def _persist(self, request: ChatRequest, session: _Session) -> ChatReply | ChatFailure:
        body: dict[str, Any] | None = None

        async def send() -> ChatReply:
            nonlocal body
            if body is None:
                body = await self._body(request)
            return await attempt(session.client, body, request.top_logprobs > 0)

        outcome = await persist(
            send,
            limits=self._settings.limits,
            backoff=self._settings.backoff,
            breaker=self.breaker,
            on_failure=lambda error: self.record.add_failed_attempt(error.kind),
        )
        if outcome.value is not None:
            return replace(outcome.value, seconds=outcome.seconds, attempts=outcome.attempts)
        failure = outcome.failure or AttemptError("malformed", "no answer")
        return ChatFailure(failure.kind, failure.reason, outcome.attempts, outcome.seconds)

    async def _body(self, request: ChatRequest) -> dict[str, Any]:
        try:
            # In a thread: compressing a large photo would hold up everybody's answers.
            return await asyncio.to_thread(request_body, request, self._settings.model, self._settings.extra_body)
        except (RetouchError, TypeError, ValueError) as error:
            reason = f"The request cannot be sent: {error}"
            raise AttemptError("refused", reason, retry=False, health="unknown") from error


def _name(settings: _Settings) -> str:
    # extra_body changes answers, so it changes the name even where a version is given.
    extra = json.dumps(settings.extra_body, sort_keys=True) if settings.extra_body else ""
    version = settings.version or _digest(settings.base_url)
    return f"{settings.model}@{version}{f'+{_digest(extra)}' if extra else ''}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
