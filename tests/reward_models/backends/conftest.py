"""A server that speaks OpenAI's chat API and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from retouch_gym.chat import user_message
from retouch_reward_models.backends import Backoff, ChatRequest, OpenAICompatible

Fault: TypeAlias = str | Callable[[dict[str, Any]], Response]


def completion(text: Any, **changes: Any) -> dict[str, Any]:
    """A chat completion as a well-behaved server sends it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage, **changes}


class FaultServer:
    """Answers ``"echo: <text>"``, or misbehaves for texts in `faults`: each call takes the next, the last one stays."""

    def __init__(self) -> None:
        self._test = 0
        self.reset()
        app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])
        config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def reset(self) -> None:
        """Behave well again, forget what was called, and let go of what still hangs."""
        self._test += 1
        self.faults: dict[str, list[Fault]] = {}
        self.calls: dict[str, list[float]] = defaultdict(list)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.now = self.peak = 0
        self.delay_s = 0.0

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def _answer(self, request: Request) -> Response:
        test = self._test
        body = json.loads(await request.body())
        text = body["messages"][-1]["content"][-1]["text"]
        self.calls[text].append(time.monotonic())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(self.delay_s)
            faults = self.faults.get(text, ["fine"])
            fault = faults.pop(0) if len(faults) > 1 else faults[0]
            return fault(body) if callable(fault) else await self._misbehave(fault, text)
        finally:
            if test == self._test:
                self.now -= 1

    async def _misbehave(self, fault: str, text: str) -> Response:
        name, _, argument = fault.partition(":")
        if name == "hang":
            await self._while_it_is_wanted()
        if name == "status":
            code, _, wait = argument.partition(" after ")
            return JSONResponse({"error": {"message": "no"}}, int(code), {"retry-after": wait} if wait else None)
        if name == "cut":
            return StreamingResponse(self._cut(), headers={"content-length": "1000"}, media_type="application/json")
        if name == "drip":
            return StreamingResponse(self._drip(), media_type="application/json")
        if name == "html":
            return HTMLResponse("<html><body>10</body></html>")
        if name == "body":
            return Response(argument.encode("latin-1"), media_type="application/json")
        if name == "truncated":
            return Response(json.dumps(completion("10"))[:-40], media_type="application/json")
        return JSONResponse(completion(f"echo: {text}"))

    async def _cut(self) -> AsyncIterator[bytes]:
        yield b'{"choices": [{"message": {"content": "10"}}]'
        raise ConnectionResetError

    async def _drip(self) -> AsyncIterator[bytes]:
        # Space before JSON is allowed, so every byte is a good one and a time limit per read never strikes.
        test = self._test
        while test == self._test:
            yield b" "
            await asyncio.sleep(0.02)

    async def _while_it_is_wanted(self) -> None:
        test = self._test
        while test == self._test:
            await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def one_server() -> Iterator[FaultServer]:
    server = FaultServer()
    server.start()
    # The client imports much of itself with its first request, which must not count against a test's deadline.
    warm = OpenAICompatible(server.url, "m")
    warm.complete([ChatRequest([user_message("warm")])])
    warm.close()
    yield server
    server.reset()
    server.stop()


@pytest.fixture
def server(one_server: FaultServer) -> FaultServer:
    one_server.reset()
    return one_server


@pytest.fixture
def endpoint(server: FaultServer) -> Iterator[Callable[..., OpenAICompatible]]:
    """Makes backends that call the server, with short waits."""
    made = []

    def make(**options: Any) -> OpenAICompatible:
        options = {"backoff": Backoff(0.01, 0.05), "timeout_s": 5.0, **options}
        made.append(OpenAICompatible(server.url, "m", **options))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def asking() -> Callable[..., list[ChatRequest]]:
    """Makes one request with a photo per text."""

    def ask(*texts: str, **options: Any) -> list[ChatRequest]:
        photo = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
        return [ChatRequest([user_message(text, [photo])], **options) for text in texts]

    return ask


@pytest.fixture
def completing() -> Callable[..., dict[str, Any]]:
    return completion
