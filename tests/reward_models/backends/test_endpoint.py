"""What is sent to an endpoint, how much at a time, from where, and what a backend gives away of itself."""

from __future__ import annotations

import asyncio
import base64
import io
import multiprocessing
import pickle
import threading
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest
from starlette.responses import JSONResponse

from retouch_gym.chat import system_message, user_message
from retouch_gym.errors import ConfigurationError
from retouch_reward_models.backends import (
    Backoff,
    BreakerPolicy,
    ChatFailure,
    ChatReply,
    ChatRequest,
    OpenAICompatible,
    Prices,
)
from retouch_reward_models.errors import BackendError

Make = Callable[..., OpenAICompatible]
Asking = Callable[..., list[ChatRequest]]


def texts(replies: list[ChatReply | ChatFailure]) -> list[str]:
    return [reply.text if isinstance(reply, ChatReply) else reply.kind for reply in replies]


def test_photos_and_words_arrive_as_they_were(server, endpoint: Make) -> None:
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((3, 7), (16, 9))]
    request = ChatRequest([system_message("be just"), user_message("größer \U0001f600?", photos)], max_tokens=7)
    (reply,) = endpoint().complete([request])
    assert isinstance(reply, ChatReply)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.complete, reply.tokens) == (
        "echo: größer \U0001f600?",
        11,
        3,
        True,
        (),
    )
    (body,) = server.bodies
    blocks = body["messages"][1]["content"]
    for photo, block in zip(photos, blocks[:2], strict=True):
        head, data = block["image_url"]["url"].split(",")
        assert head == "data:image/png;base64"
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data)))), photo)
    assert body["messages"][0] == {"role": "system", "content": [{"type": "text", "text": "be just"}]}
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 7, 0.0)
    assert body.keys() == {"model", "messages", "max_tokens", "temperature"}


def test_what_is_asked_for_is_sent(server, endpoint: Make, asking: Asking) -> None:
    extra = {"top_p": 0.9, "max_tokens": None, "max_completion_tokens": 5}
    endpoint(extra_body=extra).complete(asking("x", temperature=0.7, seed=3, top_logprobs=4))
    (body,) = server.bodies
    assert {name: value for name, value in body.items() if name not in ("messages", "model")} == {
        "temperature": 0.7,
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 4,
        "top_p": 0.9,
        "max_completion_tokens": 5,
    }


def test_tokens_come_back_where_they_were_asked_for(server, endpoint: Make, asking: Asking, completing) -> None:
    def with_tokens(body: dict) -> object:
        answer = completing("8")
        top = [{"token": "8", "logprob": -0.1}, {"token": "7", "logprob": -2.5}]
        answer["choices"][0]["logprobs"] = {"content": [{"token": "8", "logprob": -0.1, "top_logprobs": top}]}
        return JSONResponse(answer)

    server.faults = {"x": [with_tokens]}
    backend = endpoint()
    (asked,), (plain,) = backend.complete(asking("x", top_logprobs=2)), backend.complete(asking("x"))
    assert isinstance(asked, ChatReply)
    assert [(token.text, dict(token.alternatives)) for token in asked.tokens] == [("8", {"8": -0.1, "7": -2.5})]
    assert isinstance(plain, ChatReply)
    assert plain.tokens == ()


def test_order_is_kept_and_no_more_than_allowed_run_at_once(server, endpoint: Make, asking: Asking) -> None:
    server.delay_s = 0.05
    backend = endpoint(concurrency=3)
    names = [f"{number}" for number in range(12)]
    assert texts(backend.complete(asking(*names))) == [f"echo: {name}" for name in names]
    assert server.peak == 3
    assert backend.complete([]) == []


def test_the_limit_holds_over_threads(server, endpoint: Make, asking: Asking) -> None:
    server.delay_s = 0.05
    backend = endpoint(concurrency=2)
    results: dict[int, list[str]] = {}

    def work(number: int) -> None:
        results[number] = texts(backend.complete(asking(f"{number}a", f"{number}b")))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == {number: [f"echo: {number}a", f"echo: {number}b"] for number in range(4)}
    assert server.peak == 2
    assert backend.record.summary()["replies"] == 8


def test_it_works_inside_a_running_loop_and_as_a_coroutine(server, endpoint: Make, asking: Asking) -> None:
    backend = endpoint()

    async def both() -> tuple[list[str], list[str]]:
        inside = backend.complete(asking("a"))
        return texts(inside), texts(await backend.complete_async(asking("b", "c")))

    assert asyncio.run(both()) == (["echo: a"], ["echo: b", "echo: c"])
    # Another loop, the same backend.
    assert asyncio.run(both()) == (["echo: a"], ["echo: b", "echo: c"])


def test_cancelling_ends_the_requests(server, endpoint: Make, asking: Asking) -> None:
    server.faults = {"x": ["drip"]}
    backend = endpoint(timeout_s=30, concurrency=1, breaker=BreakerPolicy(failures=1))

    async def give_up() -> None:
        async with asyncio.timeout(0.5):
            await backend.complete_async(asking("x", "x"))

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    # The slot is free again, and giving up is no sign of a bad endpoint.
    assert texts(backend.complete(asking("fine"))) == ["echo: fine"]
    assert len(server.calls["x"]) == 1


def test_a_request_that_cannot_be_sent_harms_nobody(server, endpoint: Make, asking: Asking) -> None:
    no_photo = ChatRequest([user_message("x")])
    no_photo.messages[0]["content"].append({"type": "image", "image": np.zeros((2, 2), np.float32)})
    no_text = ChatRequest([user_message("\ud800")])
    odd = ChatRequest([user_message("x")], temperature=float("nan"))
    backend = endpoint()
    results = backend.complete([no_photo, *asking("fine"), no_text, odd])
    assert texts(results) == ["refused", "echo: fine", "refused", "refused"]
    assert "cannot be sent" in results[0].reason
    assert len(server.bodies) == 1
    summary = backend.record.summary()
    assert (summary["requests"], summary["failures"]) == (4, {"refused": 3})


def test_closing_and_going_on(server, endpoint: Make, asking: Asking) -> None:
    backend = endpoint()
    assert texts(backend.complete(asking("a"))) == ["echo: a"]
    backend.close()
    backend.close()
    assert texts(backend.complete(asking("b"))) == ["echo: b"]


@pytest.mark.parametrize(("reason", "complete"), [("stop", True), (None, True), ("length", False)])
def test_an_answer_that_was_cut_says_so(server, endpoint: Make, asking: Asking, reason, complete, completing) -> None:
    answer = completing("8")
    answer["choices"][0]["finish_reason"] = reason
    server.faults = {"x": [lambda body: JSONResponse(answer)]}
    (reply,) = endpoint().complete(asking("x"))
    assert isinstance(reply, ChatReply)
    assert reply.complete is complete


def test_money_and_tokens_are_counted(server, endpoint: Make, asking: Asking) -> None:
    backend = endpoint(prices=Prices(prompt=2.0, completion=10.0, currency="EUR"))
    backend.complete(asking("a", "b"))
    summary = backend.record.summary()
    assert (summary["prompt_tokens"], summary["completion_tokens"]) == (22, 6)
    assert summary["money"] == {"amount": pytest.approx((22 * 2 + 6 * 10) / 1e6), "currency": "EUR"}
    assert 0 < summary["latency_s"]["p50"] <= summary["latency_s"]["max"] < 5


def test_a_pickled_backend_begins_anew(server, endpoint: Make, asking: Asking) -> None:
    backend = endpoint(prices=Prices(1, 1), extra_body={"top_p": 0.5}, concurrency=2)
    backend.complete(asking("a"))
    copy = pickle.loads(pickle.dumps(backend))
    assert copy.name == backend.name
    assert copy.record.summary()["requests"] == 0
    assert texts(copy.complete(asking("b"))) == ["echo: b"]
    assert server.bodies[-1]["top_p"] == 0.5
    copy.close()


def _ask_in_child(backend: OpenAICompatible, requests: list[ChatRequest], answers) -> None:
    answers.put(texts(backend.complete(requests)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes(server, endpoint: Make, asking: Asking, method: str) -> None:
    backend = endpoint()
    assert texts(backend.complete(asking("a"))) == ["echo: a"]
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=_ask_in_child, args=(backend, asking("b", "c"), answers))
    child.start()
    assert answers.get(timeout=60) == ["echo: b", "echo: c"]
    child.join(10)
    assert texts(backend.complete(asking("d"))) == ["echo: d"]


def test_secrets_go_where_they_are_told_and_nowhere_else(
    server, endpoint: Make, asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "ambient-key")
    monkeypatch.setenv("OPENAI_ORG_ID", "ambient-org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "ambient-project")
    monkeypatch.setenv("MY_KEY", "key-in-env")
    backends = [endpoint(), endpoint(api_key="key-itself"), endpoint(api_key_env="MY_KEY")]
    for backend in backends:
        assert texts(backend.complete(asking("a"))) == ["echo: a"]
        assert "key-" not in repr(backend) + repr(vars(backend)) + backend.name
    sent = [headers["authorization"] for headers in server.headers]
    assert sent == ["Bearer none", "Bearer key-itself", "Bearer key-in-env"]
    assert not [value for headers in server.headers for value in headers.values() if "ambient" in value]
    assert b"key-in-env" not in pickle.dumps(backends[2])
    assert "key-" not in repr(pickle.dumps(backends[2]))


def test_a_key_that_is_not_there(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    backend = OpenAICompatible("http://127.0.0.1:1/v1", "m", api_key_env="MY_KEY")
    with pytest.raises(BackendError, match="MY_KEY, which is not set"):
        backend.complete(asking("x"))


def test_the_name_changes_when_answers_may() -> None:
    def name(url: str = "http://a/v1", model: str = "m", **options: object) -> str:
        return OpenAICompatible(url, model, **options).name

    assert name() == name(concurrency=2, timeout_s=1, api_key="x")
    assert name(version="1") == "m@1"
    names = [name(), name("http://b/v1"), name(model="n"), name(version="1"), name(extra_body={"top_p": 0.9})]
    assert len(set(names)) == 5
    assert name(version="1", extra_body={"top_p": 0.9}) != name(version="1", extra_body={"top_p": 0.8})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"base_url": "localhost:8000"}, "a URL like"),
        ({"concurrency": 0}, "concurrency"),
        ({"attempts": 0}, "attempts"),
        ({"timeout_s": 0}, "above 0 s"),
        ({"timeout_s": float("nan")}, "above 0 s"),
        ({"attempt_timeout_s": -1.0}, "above 0 s"),
        ({"api_key": "a", "api_key_env": "B"}, "not both"),
        ({"extra_body": {"x": object()}}, "extra_body"),
    ],
)
def test_arguments_that_make_no_sense(options: dict, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        OpenAICompatible(**{"base_url": "http://a/v1", "model": "m", **options})


@pytest.mark.parametrize(
    "make", [lambda: Backoff(2, 1), lambda: Backoff(-1, 1), lambda: BreakerPolicy(0), lambda: Prices(-1, 0)]
)
def test_parts_that_make_no_sense(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()
