"""A reward behind HTTP: JSON and base64 in, JSON out."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retouch_gym.errors import ConfigurationError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.tasks import Episode
from retouch_reward_models.serving.batching import Batcher
from retouch_reward_models.serving.wire import (
    PhotoLimits,
    ScoreRequest,
    ScoreResponse,
    WireDescription,
    decode_episodes,
    encode_output,
    first_problem,
)

MIB = 1024 * 1024
_CLIENTS = 10_000
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True)
class ServerOptions:
    """How a reward is offered.

    Args:
        host: Address that is listened on.
        token: What clients have to show as ``Authorization: Bearer``; None lets everybody in, on loopback only.
        version: Goes into every response, to tell weights apart.
        max_mb: Largest body, in MiB.
        max_episodes: Most episodes of a request.
        photos: Limits in pixels.
        rate: Requests per second of one client in the long run; twice as many at once.
        max_requests: Most requests in work at the same time; more are told to come back.
        max_batch: Most episodes scored at once.
        max_wait_ms: How long a batch waits to be filled by other requests.
        threads: Batches scored at the same time. See `Batcher`.
        timeout_s: Most time for a request.
        renderers: Short names of the renderers that a reward may render again with.

    Raises:
        ConfigurationError: If a token is missing where others can connect, or a limit makes no sense.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    version: str = "0"
    max_mb: float = 64
    max_episodes: int = 256
    photos: PhotoLimits = field(default_factory=PhotoLimits)
    rate: float = 50
    max_requests: int = 64
    max_batch: int = 64
    max_wait_ms: float = 5
    threads: int = 1
    timeout_s: float = 300
    renderers: tuple[str, ...] = ("native",)

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < 8:
            raise ConfigurationError(f"The token has {len(self.token)} characters; expected at least 8.")
        if self.token is None and not is_loopback(self.host):
            raise ConfigurationError(
                f"Listening on {self.host!r} lets other machines in: set a token in an environment variable and name "
                "it (--token-env), or stay on 127.0.0.1."
            )
        for name in ("max_mb", "max_episodes", "rate", "max_requests", "max_batch", "threads", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; expected more than 0.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class RateLimiter:
    """One token bucket per client.

    Args:
        rate: Requests per second in the long run.
        burst: Requests at once; by default two seconds' worth, at least 1.
    """

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self._rate = rate
        self._burst = max(1.0, 2 * rate if burst is None else burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, now: float) -> float:
        """0 and one request taken, or the seconds until there is one to take.

        Args:
            client: Who asks.
            now: A clock's time in seconds.
        """
        left, before = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - before) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[client] = (left if wait else left - 1, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return wait


class _Metrics:
    """What ``/metrics`` tells."""

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("retouch_reward_requests", "Requests to /score.", ["status"], registry=self.registry)
        self.items = Counter("retouch_reward_items", "Episodes scored or failed.", registry=self.registry)
        self.failures = Counter("retouch_reward_failures", "Episodes without a value.", registry=self.registry)
        self.seconds = Histogram(
            "retouch_reward_request_seconds", "Time of a request to /score.", buckets=_BUCKETS, registry=self.registry
        )
        queue = Gauge("retouch_reward_queue", "Episodes that wait.", registry=self.registry)
        queue.set_function(lambda: batcher.queued)


class RewardService:
    """The endpoints of one reward. See `make_app`.

    Args:
        reward: The reward.
        options: See `ServerOptions`.
    """

    def __init__(self, reward: Reward, options: ServerOptions) -> None:
        self._reward = reward
        self._options = options
        self._batcher = Batcher(
            reward, max_batch=options.max_batch, max_wait_ms=options.max_wait_ms, threads=options.threads
        )
        self._metrics = _Metrics(self._batcher)
        self._limiter = RateLimiter(options.rate)
        self._in_work = 0

    async def score(self, request: Request) -> Response:
        """``POST /score``."""
        began, status = time.monotonic(), 500
        try:
            self._admit(request)
            self._in_work += 1
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    response = await self._answer(request)
            finally:
                self._in_work -= 1
            status = response.status_code
            return response
        except TimeoutError:
            status = 504
            raise HTTPException(504, f"not scored within {self._options.timeout_s:g} s") from None
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self._metrics.requests.labels(str(status)).inc()
            self._metrics.seconds.observe(time.monotonic() - began)

    async def reward(self, request: Request) -> Response:
        """``GET /reward``: what it declares."""
        self._authorize(request)
        low, high = self._reward.range
        described = WireDescription(
            name=self._reward.name,
            low=low,
            high=high,
            components=list(self._reward.components),
            needs_reference=self._reward.needs_reference,
            scope=self._reward.scope,
            version=self._options.version,
            max_episodes=self._options.max_episodes,
            max_bytes=int(self._options.max_mb * MIB),
        )
        return JSONResponse(described.model_dump(mode="json"))

    async def health(self, request: Request) -> Response:
        """``GET /healthz``: 200, or 503 if a batch has been in work longer than any request may take."""
        stuck = self._batcher.longest_s
        if stuck > self._options.timeout_s:
            return JSONResponse({"status": "stuck", "seconds": round(stuck, 1)}, 503)
        return JSONResponse({"status": "ok", "version": self._options.version})

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``, as Prometheus reads it."""
        self._authorize(request)
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Ends the batcher with the server."""
        yield
        await asyncio.to_thread(self._batcher.close)

    def _admit(self, request: Request) -> None:
        client = request.client.host if request.client else "?"
        if wait := self._limiter.wait_s(client, time.monotonic()):
            raise _later(429, f"more than {self._options.rate:g} requests a second", wait)
        self._authorize(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # A page in a browser on this machine cannot send that without asking first.
            raise HTTPException(415, "the body should be application/json")
        if self._in_work >= self._options.max_requests:
            raise _later(503, f"{self._in_work} requests are in work already", 1.0)

    def _authorize(self, request: Request) -> None:
        if self._options.token is None:
            # A name that leads to loopback is how a page of elsewhere would reach an open port here.
            if not is_loopback(request.url.hostname or ""):
                raise HTTPException(421, "this server answers to localhost only")
            return
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        expected = self._options.token.encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), expected):
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    async def _answer(self, request: Request) -> Response:
        body = await self._body(request)
        # Reading megabytes of base64 would hold up every other request.
        items = await asyncio.to_thread(self._read, body)
        good = [item for item in items if isinstance(item, Episode)]
        outputs_there = await asyncio.wrap_future(self._batcher.submit(good)) if good else []
        scored = iter(outputs_there)
        outputs = [next(scored) if isinstance(item, Episode) else RewardOutput(None, error=item) for item in items]
        self._metrics.items.inc(len(outputs))
        self._metrics.failures.inc(sum(not output.valid for output in outputs))
        answer = ScoreResponse(outputs=[encode_output(output) for output in outputs], version=self._options.version)
        return Response(answer.model_dump_json(), media_type="application/json")

    async def _body(self, request: Request) -> bytes:
        most = int(self._options.max_mb * MIB)
        too_large = HTTPException(413, f"the body is larger than {self._options.max_mb:g} MiB")
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > most:
            raise too_large
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
        except ClientDisconnect:
            raise HTTPException(400, "the client went away") from None
        return bytes(body)

    def _read(self, body: bytes) -> list[Episode | str]:
        try:
            # NaN and Infinity are no JSON, though most readers let them pass.
            request = ScoreRequest.model_validate(from_json(body, allow_inf_nan=False))
        except ValidationError as error:
            raise HTTPException(422, first_problem(error)) from None
        except ValueError as error:
            raise HTTPException(422, f"Invalid JSON: {error}") from None
        if len(request.episodes) > self._options.max_episodes:
            raise HTTPException(
                413, f"{len(request.episodes)} episodes; at most {self._options.max_episodes} are taken at once"
            )
        return decode_episodes(request, self._options.photos, self._options.renderers)


def make_app(reward: Reward, options: ServerOptions) -> Starlette:
    """The ASGI application of a reward.

    ``POST /score`` (see `ScoreRequest` and `ScoreResponse`), ``GET /reward``, ``GET /healthz``, ``GET /metrics``.
    Errors of a request are ``{"error": …}``: 401 without the token, 413 too large, 415 no JSON, 421 not asked as
    localhost, 422 not as `ScoreRequest` says, 429 too often and 503 too many (both with ``Retry-After``), 504 too
    slow. A photo that cannot be read, or is too large when unpacked, fails its own episode only.

    Args:
        reward: The reward.
        options: See `ServerOptions`.
    """
    service = RewardService(reward, options)
    routes = [
        Route("/score", service.score, methods=["POST"]),
        Route("/reward", service.reward),
        Route("/healthz", service.health),
        Route("/metrics", service.metrics),
    ]
    return Starlette(routes=routes, lifespan=service.lifespan, exception_handlers={HTTPException: _explain})


async def _explain(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    body = json.dumps({"error": error.detail})
    return Response(body, error.status_code, dict(error.headers or {}), media_type="application/json")


def _later(status: int, problem: str, seconds: float) -> HTTPException:
    return HTTPException(status, f"{problem}; come back later", {"Retry-After": str(max(1, math.ceil(seconds)))})
