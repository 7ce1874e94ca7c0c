"""JSON over HTTP with bounded patience: an answer, or an error that says where, what and why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import httpx

from retouch_agents.serving.settings import EndpointSettings
from retouch_gym.errors import RetouchError
from retouch_reward_models.backends.resilience import AttemptError, BreakerPolicy, CircuitBreaker, persist

Value = TypeVar("Value")

Reader: TypeAlias = Callable[[Any], Value]
"""From a server's JSON to what it stands for. Raises `AttemptError` if it is not what was asked for."""

_CONNECT_S = 10.0
_SHOWN = 400
"""Most characters of a server's words in an error."""

_NEVER = 10**9


class GenerationError(RetouchError, RuntimeError):
    """A server did not answer, or its answer cannot be used."""


def malformed(reason: str) -> AttemptError:
    """The error for an answer that another attempt may put right."""
    return AttemptError("malformed", reason)


def unusable(reason: str) -> AttemptError:
    """The error for an answer that will be the same next time, as the server or its settings are not those needed."""
    return AttemptError("refused", reason, retry=False, health="well")


class JsonClient:
    """Sends JSON to one server. Belongs to the event loop that it was made in.

    Args:
        settings: Where the server is and how much patience it gets.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        key = settings.api_key()
        self._settings = settings
        self._root = settings.base_url.rstrip("/")
        self._slots = asyncio.Semaphore(settings.concurrency)
        # One request's failure is the caller's failure, so nothing is gained by refusing the others early.
        self._breaker = CircuitBreaker(BreakerPolicy(failures=_NEVER))
        # Time limits are those of `persist`: httpx's, per read, would let an answer drip in for ever.
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=settings.concurrency),
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            # A proxy of the environment would see the photos, and has no way to a server on this machine.
            trust_env=False,
        )

    async def ask(self, path: str, body: dict[str, Any] | None, read: Reader[Value]) -> Value:
        """Post `body` (None: get) until `read` takes the answer, or patience ends.

        Args:
            path: Below the server's root.
            body: Sent as JSON.
            read: Takes the parsed JSON, or the text where the answer is none.

        Raises:
            GenerationError: If there is no usable answer.
        """
        url = f"{self._root}/{path}"
        # In a thread: photos make bodies of megabytes, which would hold up everybody's answers.
        content = None if body is None else await asyncio.to_thread(_dumped, body)

        async def send() -> Value:
            return read(await self._once(url, content))

        async with self._slots:
            outcome = await persist(
                send, limits=self._settings.limits, backoff=self._settings.backoff, breaker=self._breaker
            )
        if outcome.failure is not None:
            reason = outcome.failure.reason
            tried = f"after {outcome.attempts} attempt{'s' * (outcome.attempts != 1)} and {outcome.seconds:.1f} s"
            raise GenerationError(f"{url} {tried}: {reason}") from outcome.failure
        return outcome.value  # type: ignore[return-value]  # no failure, so it is what `read` returned

    async def _once(self, url: str, content: bytes | None) -> Any:
        try:
            if content is None:
                response = await self._http.get(url)
            else:
                response = await self._http.post(url, content=content, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as error:
            raise AttemptError("connection", f"no connection or a cut one ({type(error).__name__}: {error})") from error
        if response.status_code != httpx.codes.OK:
            raise _status_error(response)
        try:
            return response.json()
        except ValueError as error:
            if not response.headers.get("content-type", "").startswith("application/json"):
                return response.text
            raise malformed(f"status 200, but no JSON: {_shown(response.text)!r}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _dumped(body: dict[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False).encode()


def _status_error(response: httpx.Response) -> AttemptError:
    status = response.status_code
    reason = f"status {status}, expected 200: {_shown(response.text)!r}"
    if status in (408, 425, 429) or status >= 500:
        return AttemptError("server", reason, retry_after_s=_retry_after_s(response))
    if status in (404, 405):
        reason += "; the server does not have this endpoint or this model: see docs/generation.md for what is needed"
    return unusable(reason)


def _retry_after_s(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < _NEVER else None


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
