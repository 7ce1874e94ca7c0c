"""EditReward over HTTP: what the server says, or an error; never a number that it did not give."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.testing.doubles import TinyRenderer
from retouch_gym.testing.rewards import check_reward, synthetic_pairs
from retouch_reward_models.backends.resilience import Backoff, Limits
from retouch_reward_models.judges import TigerEditReward
from retouch_reward_models.judges.edit_reward_endpoint import MOST_BYTES, EditRewardEndpoint

Respond = Callable[[dict], "tuple[int, str]"]


class Server:
    """A server of the protocol; `respond` can be replaced, and hangs up for status 0."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.headers: list[str | None] = []
        self.respond: Respond = lambda body: (200, json.dumps({"items": [rate(item) for item in body["items"]]}))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the base class calls it so
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                outer.headers.append(self.headers.get("Authorization"))
                status, text = outer.respond(body)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/rate"


def pixels(url: str) -> np.ndarray:
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(PIL.Image.open(io.BytesIO(data))).astype(float)


def rate(item: dict) -> dict:
    """Bluer and brighter is better; very unsure."""
    shift = (pixels(item["after"]) - pixels(item["before"])).mean(axis=(0, 1))
    means = {"instruction": (shift[2] - shift[0] + shift.mean()) / 50, "quality": 3.0}
    return {"means": means, "log_variances": {"instruction": 900.0, "quality": -900.0}}


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def endpoint(server: Server, **options) -> EditRewardEndpoint:
    limits = options.pop("limits", Limits(attempts=3, deadline_s=10))
    return EditRewardEndpoint(server.url, limits=limits, backoff=Backoff(0.01, 0.02), **options)


def test_sends_photos_without_loss_in_batches_and_keeps_the_order(server: Server, doubles: SimpleNamespace) -> None:
    cases = [doubles.make_case(seed, instruction=f"edit {seed}") for seed in range(5)]
    found = endpoint(server, batch_size=2).rate(cases)
    assert sorted(len(body["items"]) for body in server.bodies) == [1, 2, 2]
    sent = {item["instruction"]: item for body in server.bodies for item in body["items"]}
    for case, rating in zip(cases, found, strict=True):
        item = sent[case.instruction]
        assert (pixels(item["before"]) == case.before).all()
        assert (pixels(item["after"]) == case.candidates[0]).all()
        assert rating.means == pytest.approx(rate(item)["means"])
        assert rating.log_variances == {"instruction": 900.0, "quality": -900.0}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_tries_again_what_may_pass(server: Server, doubles: SimpleNamespace, status: int) -> None:
    good = server.respond
    server.respond = lambda body: (status, "not now") if len(server.bodies) == 1 else good(body)
    rating = endpoint(server).rate([doubles.make_case()])[0]
    assert rating.error is None
    assert rating.attempts == 2


MALFORMED = [
    "<html>busy</html>",
    "{}",
    '{"items": []}',
    '{"items": [{}]}',
    '{"items": [{"means": {"instruction": 1}}]}',
    '{"items": [{"means": {"instruction": NaN, "quality": 1}}]}',
    '{"items": [{"means": {"instruction": 1e400, "quality": 1}}]}',
    '{"items": [{"means": {"instruction": "3", "quality": 1}}]}',
    '{"items": [{"means": {"instruction": 3, "quality": 1}, "log_variances": [1, 2]}]}',
]


@pytest.mark.parametrize("text", MALFORMED)
def test_what_breaks_the_protocol_is_an_error_after_bounded_attempts(
    server: Server, doubles: SimpleNamespace, text: str
) -> None:
    server.respond = lambda body: (200, text)
    rating = endpoint(server).rate([doubles.make_case()])[0]
    assert rating.means == {}
    assert rating.error is not None
    assert rating.error.startswith("malformed: ")
    assert rating.attempts == len(server.bodies) == 3


def test_a_refusal_is_not_asked_for_again(server: Server, doubles: SimpleNamespace) -> None:
    server.respond = lambda body: (400, "no such photo")
    rating = endpoint(server).rate([doubles.make_case()])[0]
    assert rating.error == "refused: status 400: no such photo"
    assert len(server.bodies) == 1


def test_an_answer_without_end_is_given_up(server: Server, doubles: SimpleNamespace) -> None:
    server.respond = lambda body: (200, " " * (MOST_BYTES + 1))
    rating = endpoint(server).rate([doubles.make_case()])[0]
    assert rating.error == f"malformed: the endpoint's answer goes on after {MOST_BYTES} bytes"
    assert len(server.bodies) == 1


def test_a_connection_that_is_cut_is_tried_again(server: Server, doubles: SimpleNamespace) -> None:
    good = server.respond
    server.respond = lambda body: (0, "") if len(server.bodies) < 3 else good(body)
    rating = endpoint(server).rate([doubles.make_case()])[0]
    assert (rating.error, rating.attempts) == (None, 3)


def test_an_endpoint_that_hangs_costs_no_more_than_the_deadline(server: Server, doubles: SimpleNamespace) -> None:
    free = threading.Event()
    server.respond = lambda body: (200, str(free.wait(10)))
    start = time.monotonic()
    ratings = endpoint(server, batch_size=1, limits=Limits(3, 0.6, 0.25)).rate([doubles.make_case(n) for n in (0, 1)])
    free.set()
    assert time.monotonic() - start < 5
    assert all(rating.error is not None and rating.error.startswith("timeout: ") for rating in ratings)


def test_nobody_there_is_an_error(doubles: SimpleNamespace) -> None:
    found = EditRewardEndpoint("http://127.0.0.1:9/rate", limits=Limits(2, 5), backoff=Backoff(0.01, 0.01))
    rating = found.rate([doubles.make_case()])[0]
    assert rating.error is not None
    assert rating.error.startswith("connection: ")


def test_an_item_can_fail_alone(server: Server, doubles: SimpleNamespace) -> None:
    def respond(body: dict) -> tuple[int, str]:
        items = [{"error": "too dark"} if item["instruction"] == "bad" else rate(item) for item in body["items"]]
        return 200, json.dumps({"items": items})

    server.respond = respond
    cases = [doubles.make_case(0), doubles.make_case(1, instruction="bad"), doubles.make_case(2, instruction="\ud800")]
    cases.append(dataclasses.replace(cases[0], candidates=(np.zeros((2, 2), np.uint8),)))
    found = endpoint(server).rate([*cases, doubles.make_case(3)])
    assert [rating.error is None for rating in found] == [True, False, False, False, True]
    assert found[1].error == "the endpoint: too dark"


def test_sends_the_token_of_the_variable_and_no_other(
    server: Server, doubles: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(server).rate([doubles.make_case()])
    monkeypatch.setenv("RATER_TOKEN", "secret")
    endpoint(server, token_env="RATER_TOKEN").rate([doubles.make_case()])
    assert server.headers == [None, "Bearer secret"]
    monkeypatch.delenv("RATER_TOKEN")
    with pytest.raises(RewardError, match="RATER_TOKEN"):
        TigerEditReward(endpoint(server, token_env="RATER_TOKEN")).score(synthetic_pairs(TinyRenderer(), 1)[0])


def test_keeps_the_contract_of_a_reward(server: Server) -> None:
    reward = TigerEditReward(endpoint(server))
    episode = synthetic_pairs(TinyRenderer(), 1)[0][0]
    check_reward(reward, broken=dataclasses.replace(episode, image=np.zeros((2, 2), np.uint8)))
    assert pickle.loads(pickle.dumps(reward)).score([episode])[0].value == reward.score([episode])[0].value


def test_refuses_a_url_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="localhost"):
        EditRewardEndpoint("localhost:8000")
