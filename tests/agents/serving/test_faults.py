"""A server that fails: a retry that succeeds or an error that says what is wrong, in bounded time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt
from retouch_agents.serving import EndpointGenerator, EndpointSettings, GenerationError
from retouch_gym.errors import ConfigurationError

Make = Callable[..., EndpointGenerator]


def _changed(**fields: Any) -> Callable[[Any], Any]:
    """The answer with fields of its first choice changed; None drops one."""

    def change(reply: Any) -> Any:
        reply = copy.deepcopy(reply)
        choice = reply["choices"][0]
        choice |= {name: value for name, value in fields.items() if value is not None}
        for name in [name for name, value in fields.items() if value is None]:
            del choice[name]
        return reply

    return change


def _fewer(reply: Any) -> Any:
    return reply | {"choices": reply["choices"][:-1]}


def _short_logprobs(reply: Any) -> Any:
    reply = copy.deepcopy(reply)
    reply["choices"][0]["logprobs"]["content"].pop()
    return reply


def _infinite_logprob(reply: Any) -> Any:
    reply = copy.deepcopy(reply)
    reply["choices"][0]["logprobs"]["content"][0]["logprob"] = -9999.0
    return reply


@pytest.fixture
def ask(endpoint: Make, tiny_chat: ChatFormat) -> Callable[..., list[list[int]]]:
    """Asks for two answers to a prompt without photos, without the check before."""
    prompt = Prompt(tiny_chat.answer(" make it warmer"))

    def run(**options: Any) -> list[list[int]]:
        generator = endpoint(**{"check_logprobs": False, "attempts": 3, **options})
        return [a.token_ids.tolist() for a in generator.generate([prompt], group_size=2, max_new_tokens=3)]

    return run


@pytest.mark.parametrize(
    "fault",
    [
        *("500", "429", "503", "cut", "html", "no json", _fewer, _short_logprobs, _infinite_logprob),
        *(_changed(index=5), _changed(token_ids=[]), _changed(token_ids=["a"]), _changed(finish_reason="abort")),
    ],
)
def test_what_passes_is_tried_again(server: Any, ask: Callable[..., Any], fault: Any) -> None:
    expected = ask()
    server.faults = [fault]
    assert ask() == expected
    server.faults = [fault] * 9
    with pytest.raises(GenerationError, match=r"127\.0\.0\.1.*after 3 attempts"):
        ask()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("400", "status 400"),
        ("404", "does not have this endpoint"),
        (_changed(token_ids=None), "does not return sampled tokens"),
        (_changed(finish_reason="stop", token_ids=[9] * 3), "none of the end tokens"),
    ],
)
def test_what_stays_is_not_tried_again(server: Any, ask: Callable[..., Any], fault: Any, words: str) -> None:
    server.faults = [fault] * 2
    with pytest.raises(GenerationError, match=words) as caught:
        ask()
    assert "after 1 attempt" in str(caught.value)


def test_a_hanging_request_costs_an_attempt(server: Any, ask: Callable[..., Any]) -> None:
    expected = ask()
    server.faults = ["hang"]
    assert ask(attempt_timeout_s=1.0) == expected
    server.faults = ["hang"] * 9
    start = time.monotonic()
    with pytest.raises(GenerationError, match="no answer within"):
        ask(attempt_timeout_s=0.5, timeout_s=1.2)
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("wire", ["vllm", "sglang", "chat"])
def test_photos_that_were_not_kept(endpoint: Make, prompts: list[Prompt], wire: str) -> None:
    without = replace(prompts[0], photos=())
    with pytest.raises(ConfigurationError, match="photos"):
        endpoint(wire=wire, check_logprobs=False).generate([without], max_new_tokens=2)


def test_no_server(endpoint: Make, prompts: list[Prompt]) -> None:
    settings = EndpointSettings("m", "http://127.0.0.1:9", attempts=2, timeout_s=5.0)
    generator = EndpointGenerator(settings, eos_ids=[1])
    with pytest.raises(GenerationError, match=r"127\.0\.0\.1:9/.*connection"):
        generator.generate(prompts, max_new_tokens=2)


def test_requests_are_bounded(server: Any, endpoint: Make, prompts: list[Prompt]) -> None:
    endpoint(concurrency=2, check_logprobs=False).generate(prompts * 3, max_new_tokens=2)
    assert server.peak <= 2


def test_arguments_are_checked(endpoint: Make, prompts: list[Prompt]) -> None:
    generator = endpoint()
    with pytest.raises(ValueError, match="one each"):
        generator.generate(prompts, seeds=[1])
    with pytest.raises(ValueError, match="group_size = 0"):
        generator.generate(prompts, group_size=0)
    assert generator.generate([]) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "http://localhost:8000/v1"}, "leave out '/v1'"),
        ({"wire": "grpc"}, "wire"),
        ({"concurrency": 0}, "concurrency"),
        ({"attempts": 0}, "attempts"),
        ({"timeout_s": 0.0}, "above 0"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        EndpointSettings("m", **options)


def test_a_chat_server_needs_a_way_to_write() -> None:
    with pytest.raises(ConfigurationError, match="write=tokenizer"):
        EndpointGenerator(EndpointSettings("m", wire="chat"), eos_ids=[1])


def test_a_key_is_read_where_it_is_used(prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVING_KEY", raising=False)
    generator = EndpointGenerator(EndpointSettings("m", api_key_env="SERVING_KEY"), eos_ids=[1])
    with pytest.raises(ConfigurationError, match="SERVING_KEY"):
        generator.generate(prompts[:1], max_new_tokens=np.int64(1))
