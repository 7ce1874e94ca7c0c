"""EditReward behind an HTTP endpoint, by a protocol of our own (the published model comes without a server).

``POST`` to the endpoint's URL, JSON both ways::

    {"items": [{"instruction": str, "before": "data:image/png;base64,…", "after": "data:image/png;base64,…"}]}
    {"items": [{"means": {"instruction": 2.4, "quality": 3.1}, "log_variances": {"instruction": -1, "quality": 0}}]}

with one answer for each item in the same order; ``{"error": str}`` stands for an item that could not be rated, and
``log_variances`` may be left out. A bearer token is sent where one is given.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from retouch_gym.chat.messages import png_url
from retouch_gym.chat.strict_json import read_json
from retouch_gym.errors import ConfigurationError, ImageError, ToolError
from retouch_reward_models.backends.background import background_loop
from retouch_reward_models.backends.resilience import (
    AttemptError,
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    Limits,
    Outcome,
    persist,
)
from retouch_reward_models.cases import Case
from retouch_reward_models.errors import BackendError, VerdictError
from retouch_reward_models.judges.answers import read_number, read_words
from retouch_reward_models.judges.base import check_positive
from retouch_reward_models.judges.edit_reward import DIMENSIONS, Rater, Rating

MOST = 1e6
"""Largest rating, up or down, that is believed."""

MOST_BYTES = 1 << 22
"""Longest answer that is read."""

_WHAT = "the endpoint's answer"


class EditRewardEndpoint(Rater):
    """Rates edits by a server that speaks the protocol of this module.

    Batches of `batch_size` run at the same time, `concurrency` at most. 429, 408, 5xx, time-outs, cut connections and
    answers that break the protocol are tried again with a doubling wait, within a deadline; what cannot be had becomes
    a rating with an error.

    Args:
        url: Where to post.
        model: The model's name and version, for records.
        dimensions: What every answer has to hold.
        token_env: Environment variable that holds a bearer token; None sends none.
        batch_size: Edits per request.
        concurrency: Most requests at the same time.
        limits: Attempts and seconds for a request.
        backoff: Waits between attempts.
        breaker: When to leave a broken endpoint alone.

    Raises:
        ConfigurationError: If an argument makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "editreward",
        dimensions: Sequence[str] = DIMENSIONS,
        token_env: str | None = None,
        batch_size: int = 8,
        concurrency: int = 4,
        limits: Limits | None = None,
        backoff: Backoff | None = None,
        breaker: BreakerPolicy | None = None,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigurationError(f"url has to be a URL like 'http://localhost:8000/rate', got {url!r}.")
        self.url = url
        self.name = model
        self.dimensions = tuple(dimensions)
        self.token_env = token_env
        self.batch_size = check_positive("batch_size", batch_size)
        self.concurrency = check_positive("concurrency", concurrency)
        self.limits = limits or Limits()
        self.backoff = backoff or Backoff()
        self.policy = breaker or BreakerPolicy()
        self._breaker = CircuitBreaker(self.policy)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_breaker": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _breaker=CircuitBreaker(state["policy"]))

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """See `Rater.rate`. May be called from any thread, one with a running event loop included.

        Raises:
            BackendError: If `token_env` names a variable that is not set.
        """
        headers = self._headers()
        ratings: dict[int, Rating] = {}
        items: dict[int, dict[str, str]] = {}
        for number, case in enumerate(cases):
            try:
                items[number] = _item(case)
            except (ImageError, UnicodeEncodeError) as error:
                ratings[number] = Rating(error=str(error), attempts=0)
        numbers = list(items)
        batches = [numbers[start : start + self.batch_size] for start in range(0, len(numbers), self.batch_size)]
        work = self._post_all([[items[number] for number in batch] for batch in batches], headers)
        future = asyncio.run_coroutine_threadsafe(work, background_loop())
        try:
            outcomes = future.result()
        except BaseException:
            future.cancel()
            raise
        for batch, outcome in zip(batches, outcomes, strict=True):
            ratings.update(zip(batch, _ratings(outcome, len(batch)), strict=True))
        return [ratings[number] for number in range(len(cases))]

    def _headers(self) -> dict[str, str]:
        if self.token_env is None:
            return {}
        token = os.environ.get(self.token_env)
        if not token:
            raise BackendError(f"The environment variable {self.token_env!r} for the endpoint's token is not set.")
        return {"Authorization": f"Bearer {token}"}

    async def _post_all(
        self, batches: Sequence[list[dict[str, str]]], headers: dict[str, str]
    ) -> list[Outcome[list[Rating]]]:
        slots = asyncio.Semaphore(self.concurrency)
        # trust_env would send photos and token to whatever proxy the environment names.
        async with httpx.AsyncClient(timeout=None, headers=headers, trust_env=False) as client:

            async def send(batch: list[dict[str, str]]) -> Outcome[list[Rating]]:
                async with slots:
                    return await persist(
                        lambda: self._attempt(client, batch),
                        limits=self.limits,
                        backoff=self.backoff,
                        breaker=self._breaker,
                    )

            return list(await asyncio.gather(*map(send, batches)))

    async def _attempt(self, client: httpx.AsyncClient, batch: list[dict[str, str]]) -> list[Rating]:
        try:
            async with client.stream("POST", self.url, json={"items": batch}) as response:
                status, text = response.status_code, await _read(response)
        except httpx.HTTPError as error:
            raise AttemptError("connection", f"{type(error).__name__}: {error}") from error
        if status != httpx.codes.OK:
            raise _refusal(status, text)
        try:
            return read_ratings(text, len(batch), self.dimensions)
        except VerdictError as error:
            raise AttemptError("malformed", str(error)) from error


def read_ratings(text: str, count: int, dimensions: Sequence[str]) -> list[Rating]:
    """The ratings in an answer.

    Raises:
        VerdictError: If it breaks the protocol anywhere: then none of it is believed.
    """
    try:
        answer = read_json(text, _WHAT)
    except ToolError as error:
        raise VerdictError(str(error)) from None
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != count:
        raise VerdictError(f"{_WHAT} holds no list 'items' of {count}, as many as were sent")
    return [_rating(item, dimensions) for item in items]


def _rating(item: object, dimensions: Sequence[str]) -> Rating:
    if not isinstance(item, dict):
        raise VerdictError(f"an item of {_WHAT} is no object")
    if "error" in item:
        return Rating(error=f"the endpoint: {read_words(item['error'], 'error')}")
    means = _numbers(item.get("means"), "means", dimensions)
    spread = item.get("log_variances")
    return Rating(means, {} if spread is None else _numbers(spread, "log_variances", dimensions))


def _numbers(value: object, name: str, dimensions: Sequence[str]) -> dict[str, float]:
    if not isinstance(value, dict) or set(value) != set(dimensions):
        raise VerdictError(f"{name!r} of an item has not exactly the dimensions {sorted(dimensions)}")
    return {dimension: read_number(value[dimension], f"{name}.{dimension}", -MOST, MOST) for dimension in dimensions}


def _ratings(outcome: Outcome[list[Rating]], count: int) -> list[Rating]:
    seconds = outcome.seconds / count
    if outcome.value is None:
        failure = outcome.failure
        reason = "no answer" if failure is None else f"{failure.kind}: {failure.reason}"
        return [Rating(error=reason, attempts=outcome.attempts, seconds=seconds)] * count
    return [
        Rating(rating.means, rating.log_variances, rating.error, outcome.attempts, seconds) for rating in outcome.value
    ]


def _item(case: Case) -> dict[str, str]:
    if len(case.candidates) != 1:
        raise ImageError(f"The case has {len(case.candidates)} candidates, expected one photo after the edit.")
    item = {"instruction": case.instruction, "before": png_url(case.before), "after": png_url(case.candidates[0])}
    # Half of a surrogate pair cannot be sent; found here it costs this item alone.
    json.dumps(item, ensure_ascii=False).encode()
    return item


async def _read(response: httpx.Response) -> str:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MOST_BYTES:
            raise AttemptError("malformed", f"{_WHAT} goes on after {MOST_BYTES} bytes", retry=False)
    return body.decode("utf-8", "replace")


def _refusal(status: int, text: str) -> AttemptError:
    reason = f"status {status}: {text[:200]}"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return AttemptError("rate_limit", reason, health="unknown")
    if status == httpx.codes.REQUEST_TIMEOUT:
        return AttemptError("timeout", reason)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return AttemptError("server", reason)
    return AttemptError("refused", reason, retry=False, health="well")
