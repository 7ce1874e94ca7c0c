from __future__ import annotations

import base64
import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from retouch_gym.adapters.photos import to_base64_png
from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.recipes import Recipe
from retouch_gym.renderers import get_renderer
from retouch_gym.rewards import Reward, get_reward, score_batch
from retouch_gym.tasks import Episode
from retouch_gym.testing import TinyDataset, check_reward, make_episode
from retouch_gym.testing.rewards import synthetic_pairs
from retouch_reward_models.serving.client import HTTPReward
from retouch_reward_models.serving.server import RateLimiter, ServerOptions, make_app
from retouch_reward_models.serving.wire import PhotoLimits

Episodes = Callable[..., list[Episode]]
TOKEN = "a-long-secret"


def client_of(reward: Reward, **options: Any) -> TestClient:
    return TestClient(make_app(reward, ServerOptions(**options)), base_url="http://127.0.0.1")


@pytest.fixture
def app(doubles: ModuleType) -> Iterator[Callable[..., TestClient]]:
    """A server in this process around `Brightness`."""
    opened: list[TestClient] = []

    def start(reward: Reward | None = None, **options: Any) -> TestClient:
        opened.append(client_of(reward or doubles.Brightness(), **options))
        opened[-1].__enter__()
        return opened[-1]

    yield start
    for one in opened:
        one.__exit__(None, None, None)


def wire_episode(**changes: Any) -> dict[str, Any]:
    photo = to_base64_png(np.full((4, 6, 3), 80, np.uint8))
    return {"instruction": "Brighter.", "before": photo, "after": photo, **changes}


def bomb(width: int, height: int) -> str:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    return base64.b64encode(data).decode()


def serve(*arguments: str, env: dict[str, str] | None = None) -> tuple[subprocess.Popen[str], str]:
    """A `retouch-gym serve-reward` of its own on a free port, and its address."""
    command = [str(Path(sys.executable).with_name("retouch-gym")), "serve-reward", "--port", "0", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **(env or {})}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"running on (http://\S+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, found[1]
    raise AssertionError("".join(lines))


def stop(process: subprocess.Popen[str]) -> int:
    process.terminate()
    return process.wait(20)


@pytest.fixture(scope="module")
def likeness() -> Iterator[str]:
    process, url = serve("--reward", "likeness", "--version", "seven", "--rate", "1000")
    yield url
    assert stop(process) in (0, -signal.SIGTERM)


def test_a_served_rule_gives_exactly_the_local_scores_and_keeps_the_contract(likeness: str, episodes: Episodes) -> None:
    there, here = HTTPReward(likeness), get_reward("likeness")
    assert (there.name, there.range, there.components) == (here.name, here.range, here.components)
    check_reward(there)
    given = episodes(8)
    remote, local = score_batch(there, given), score_batch(here, given)
    assert [output.value for output in remote] == [output.value for output in local]
    assert [output.components for output in remote] == [output.components for output in local]
    assert remote[0].details == {"version": "seven"}


def test_a_client_is_pickled_without_its_connection_or_token(
    likeness: str, episodes: Episodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWARD_TOKEN", TOKEN)
    there = HTTPReward(likeness, token_env="REWARD_TOKEN")
    there.score(episodes(1))
    assert TOKEN.encode() not in pickle.dumps(there)
    assert pickle.loads(pickle.dumps(there)).score(episodes(1)) == there.score(episodes(1))


@pytest.mark.parametrize("name", ["usefulness", "edit", "refine", "summary", "format"])
def test_everything_that_rules_look_at_travels(app: Callable[..., TestClient], name: str) -> None:
    reward = get_reward(name)
    given = [episode for pair in synthetic_pairs(get_renderer("native")) for episode in pair]
    served = app(reward)
    assert through(served, given, reward.needs_reference) == [output.value for output in score_batch(reward, given)]


def through(served: TestClient, given: list[Episode], reference: bool) -> list[float | None]:
    from retouch_reward_models.serving.wire import ScoreRequest, encode_episode

    body = ScoreRequest(episodes=[encode_episode(episode, reference=reference) for episode in given])
    answer = served.post("/score", content=body.model_dump_json(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    return [output["value"] for output in answer.json()["outputs"]]


def test_a_renderer_that_is_not_offered_fails_only_rewards_that_render(app: Callable[..., TestClient]) -> None:
    given = [wire_episode(renderer="os:system", reference=wire_episode()["before"], recipe=None)]
    recipe = Recipe("iea", {"exposure": 10}).to_dict()
    fine = app(get_reward("likeness")).post("/score", json={"episodes": given}).json()["outputs"][0]
    assert fine["value"] == 0
    again = app(get_reward("usefulness")).post("/score", json={"episodes": [{**given[0], "recipe": recipe}]})
    assert "'os:system' is not offered here; there are native" in again.json()["outputs"][0]["error"]


def test_three_fields_are_enough(app: Callable[..., TestClient]) -> None:
    answer = app(version="v3").post("/score", json={"episodes": [wire_episode()]})
    assert answer.json() == {
        "outputs": [{"value": 80.0, "components": {"mean": 80.0}, "error": None, "details": {}}],
        "version": "v3",
    }


def test_a_photo_that_cannot_be_read_fails_its_own_episode(app: Callable[..., TestClient]) -> None:
    grey = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 60).decode()
    whole = base64.b64decode(wire_episode()["before"])
    odd = {
        "no base64": "@@@",
        "no PNG": base64.b64encode(b"GIF89a" * 20).decode(),
        "header only": grey,
        "cut": base64.b64encode(whole[: len(whole) - 30]).decode(),
        "bomb": bomb(100_000, 100_000),
        "data missing": bomb(400, 400),
    }
    sent = [wire_episode(), *(wire_episode(after=text) for text in odd.values()), wire_episode()]
    outputs = app(photos=PhotoLimits(photo=1_000_000)).post("/score", json={"episodes": sent}).json()["outputs"]
    assert [output["value"] for output in outputs] == [80.0, *[None] * len(odd), 80.0]
    errors = dict(zip(odd, (output["error"] for output in outputs[1:-1]), strict=True))
    assert all(error.startswith("after: ") for error in errors.values())
    assert "no base64" in errors["no base64"]
    assert "no PNG" in errors["no PNG"]
    assert "100000×100000 pixels are too many" in errors["bomb"]
    assert "cannot be read" in errors["data missing"]


def test_photos_of_a_request_are_limited_together_and_equal_ones_count_once(app: Callable[..., TestClient]) -> None:
    served = app(photos=PhotoLimits(photo=100, request=60))
    photos = [to_base64_png(np.full((4, 6, 3), level, np.uint8)) for level in range(3)]
    sent = [wire_episode(before=photos[0], after=photo) for photo in photos]
    outputs = served.post("/score", json={"episodes": sent}).json()["outputs"]
    assert [output["value"] for output in outputs] == [0.0, 1.0, None]
    assert "more than 60 pixels" in outputs[2]["error"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "Invalid JSON"),
        (b'{"episodes": []}', "at least 1 item"),
        (b"[" * 100_000, "Invalid JSON"),
        (json.dumps({"episodes": [wire_episode(score=10)]}).encode(), "Extra inputs"),
        (json.dumps({"episodes": [wire_episode(finished="yes")]}).encode(), "valid boolean"),
        (json.dumps({"episodes": [wire_episode(instruction="x" * 70_000)]}).encode(), "at most 65536"),
        (json.dumps({"episodes": [wire_episode(metadata={"x": float("nan")})]}).encode(), "Invalid JSON"),
    ],
)
def test_what_is_no_request_is_refused_by_name(app: Callable[..., TestClient], body: bytes, problem: str) -> None:
    answer = app().post("/score", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert problem in answer.json()["error"]


def test_a_recipe_that_is_none_fails_its_own_episode(app: Callable[..., TestClient]) -> None:
    sent = [wire_episode(recipe={"version": 99}), wire_episode()]
    outputs = app().post("/score", json={"episodes": sent}).json()["outputs"]
    assert [output["value"] for output in outputs] == [None, 80.0]
    assert "version 99" in outputs[0]["error"]


def test_bodies_and_batches_are_limited(app: Callable[..., TestClient]) -> None:
    served = app(max_mb=0.01, max_episodes=2)
    assert served.post("/score", json={"episodes": [wire_episode(instruction="x" * 20_000)]}).status_code == 413

    def drip() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    headers = {"Content-Type": "application/json"}
    assert served.post("/score", content=drip(), headers=headers).status_code == 413
    assert served.post("/score", json={"episodes": [wire_episode()] * 3}).status_code == 413
    assert served.post("/score", json={"episodes": [wire_episode()] * 2}).status_code == 200


def test_only_json_asked_for_as_localhost_is_taken(app: Callable[..., TestClient]) -> None:
    served = app()
    body = json.dumps({"episodes": [wire_episode()]})
    assert served.post("/score", content=body, headers={"Content-Type": "text/plain"}).status_code == 415
    assert served.post("/score", json={}, headers={"Host": "evil.example"}).status_code == 421
    assert served.get("/score").status_code == 405


def test_the_token_is_needed_wherever_it_is_set(app: Callable[..., TestClient]) -> None:
    served = app(token=TOKEN, host="0.0.0.0")
    body = {"episodes": [wire_episode()]}
    assert served.post("/score", json=body).status_code == 401
    for shown in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", f"Bearer {TOKEN[:-1]}ä"):
        answer = served.post("/score", json=body, headers={"Authorization": shown.encode()})
        assert answer.status_code == 401
        assert TOKEN not in answer.text
    granted = {"Authorization": f"Bearer {TOKEN}"}
    assert served.post("/score", json=body, headers=granted).status_code == 200
    assert served.get("/metrics").status_code == served.get("/reward").status_code == 401
    assert served.get("/metrics", headers=granted).status_code == served.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
def test_off_loopback_there_is_no_server_without_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="--token-env"):
        ServerOptions(host=host)
    with pytest.raises(ConfigurationError, match="at least 8"):
        ServerOptions(host=host, token="short")
    assert ServerOptions(host=host, token=TOKEN).host == host


def test_who_asks_too_often_is_told_when_to_come_back(app: Callable[..., TestClient]) -> None:
    served = app(rate=0.5)
    body = {"episodes": [wire_episode()]}
    answers = [served.post("/score", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert answers[1].headers["retry-after"] == "2"
    assert served.get("/healthz").status_code == 200


def test_rates_are_per_client_and_buckets_fill_again() -> None:
    limiter = RateLimiter(2.0, burst=1)
    assert limiter.wait_s("a", 0.0) == 0
    assert limiter.wait_s("a", 0.1) == pytest.approx(0.4)
    assert limiter.wait_s("b", 0.1) == 0
    assert limiter.wait_s("a", 0.6) == 0


def test_requests_share_batches(app: Callable[..., TestClient], doubles: ModuleType, tmp_path: Path) -> None:
    served = app(doubles.Brightness(log=str(tmp_path / "log")), max_batch=8, max_wait_ms=2000)
    body = {"episodes": [wire_episode()] * 2}
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda _: served.post("/score", json=body), range(4)))
    assert [len(answer.json()["outputs"]) for answer in answers] == [2] * 4
    assert [line.split()[2] for line in (tmp_path / "log").read_text().splitlines()] == ["8"]


def test_a_reward_that_raises_gives_errors_and_spoils_no_other_request(
    app: Callable[..., TestClient],
) -> None:
    served = app(max_wait_ms=500)
    bodies = [{"episodes": [wire_episode(instruction=words)]} for words in ("raise", "fine")]
    with ThreadPoolExecutor(2) as callers:
        bad, good = callers.map(lambda body: served.post("/score", json=body).json()["outputs"][0], bodies)
    assert (bad["value"], bad["error"]) == (None, "RewardError: this batch cannot be scored")
    assert good["value"] == 80.0


def test_a_reward_that_hangs_is_a_504_and_then_unhealthy(app: Callable[..., TestClient], doubles: ModuleType) -> None:
    served = app(doubles.Brightness(seconds=1.5), timeout_s=0.3)
    assert served.get("/healthz").json() == {"status": "ok", "version": "0"}
    assert served.post("/score", json={"episodes": [wire_episode()]}).status_code == 504
    time.sleep(0.2)
    assert served.get("/healthz").status_code == 503


def test_too_many_requests_at_once_are_sent_away(app: Callable[..., TestClient], doubles: ModuleType) -> None:
    served = app(doubles.Brightness(seconds=0.5), max_requests=1)
    body = {"episodes": [wire_episode()]}
    with ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda _: served.post("/score", json=body), range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
    assert {answer.headers.get("retry-after") for answer in answers} == {None, "1"}


def test_metrics_count_requests_items_and_failures(app: Callable[..., TestClient]) -> None:
    served = app()
    served.post("/score", json={"episodes": [wire_episode(), wire_episode(instruction="fail")]})
    served.post("/score", content=b"{", headers={"Content-Type": "application/json"})
    lines = served.get("/metrics").text.splitlines()
    for line in (
        'retouch_reward_requests_total{status="200"} 1.0',
        'retouch_reward_requests_total{status="422"} 1.0',
        "retouch_reward_items_total 2.0",
        "retouch_reward_failures_total 1.0",
        "retouch_reward_request_seconds_count 2.0",
        "retouch_reward_queue 0.0",
    ):
        assert line in lines


class _Fake(BaseHTTPRequestHandler):
    """Describes itself well and then does what `plan` says, one entry a request, the last one for ever."""

    plan: list[tuple[int, bytes, dict[str, str]]]
    seen: int

    def do_GET(self) -> None:
        described = {"name": "fake", "low": 0.0, "high": 10.0, "components": [], "needs_reference": False}
        limits = {"scope": "episode", "version": "1", "max_episodes": 2, "max_bytes": 1 << 20}
        self._answer(200, json.dumps({**described, **limits}).encode(), {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        status, body, headers = kind.plan[min(kind.seen, len(kind.plan) - 1)]
        kind.seen += 1
        if status == 0:
            time.sleep(float(headers.get("seconds", 0)))
            self.connection.close()
            return
        self._answer(status, body, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the name that the base class gives it
        pass


@pytest.fixture
def fake() -> Iterator[Callable[..., tuple[HTTPReward, type[_Fake]]]]:
    servers: list[ThreadingHTTPServer] = []

    def start(*plan: tuple[int, bytes, dict[str, str]], **options: Any) -> tuple[HTTPReward, type[_Fake]]:
        handler = type("Handler", (_Fake,), {"plan": list(plan), "seen": 0})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {"timeout_s": 5, "backoff_s": 0.01, **options}
        return HTTPReward(f"http://127.0.0.1:{server.server_port}", **settings), handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def outputs(*values: float) -> bytes:
    found = [{"value": value, "components": {}, "error": None, "details": {}} for value in values]
    return json.dumps({"outputs": found, "version": "1"}).encode()


@pytest.mark.parametrize("trouble", [(500, b"", {}), (429, b"", {"Retry-After": "0"}), (503, b"", {}), (0, b"", {})])
def test_what_may_pass_is_tried_again(
    fake: Callable[..., Any], episodes: Episodes, trouble: tuple[int, bytes, dict[str, str]]
) -> None:
    reward, handler = fake(trouble, trouble, (200, outputs(4.0), {}))
    assert [output.value for output in reward.score(episodes(1))] == [4.0]
    assert handler.seen == 3


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (401, b"no", "refused: status 401"),
        (200, b"10", "not valid"),
        (200, b"score: 10/10", "not valid"),
        (200, outputs(5.0, 5.0), "2 outputs for 1 episodes"),
        (200, outputs(11.0), "outside the range 0.0..10.0"),
        (200, outputs(5.0).replace(b"5.0", b"NaN"), "not valid"),
        (200, outputs(5.0).replace(b"5.0", b'"5.0"'), "not valid"),
        (200, outputs(5.0).replace(b"null", b'"and an error"'), "either a value or an error"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_never_a_number(
    fake: Callable[..., Any], episodes: Episodes, status: int, body: bytes, problem: str
) -> None:
    reward, handler = fake((status, body, {}))
    (output,) = reward.score(episodes(1))
    assert output.value is None
    assert problem in (output.error or "")
    assert handler.seen == 1


def test_a_call_over_the_server_s_limit_becomes_several_requests(fake: Callable[..., Any], episodes: Episodes) -> None:
    reward, handler = fake((200, outputs(1.0, 2.0), {}), (200, outputs(3.0, 4.0), {}), (200, outputs(5.0), {}))
    assert [output.value for output in reward.score(episodes(5))] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert handler.seen == 3


@pytest.mark.parametrize("plan", [(0, b"", {"seconds": "20"}), (503, b"", {"Retry-After": "60"}), (500, b"", {})])
def test_a_bad_server_costs_bounded_time(
    fake: Callable[..., Any], episodes: Episodes, plan: tuple[int, bytes, dict[str, str]]
) -> None:
    reward, _ = fake(plan, timeout_s=1, attempts=100, backoff_s=0.2)
    began = time.monotonic()
    (output,) = reward.score(episodes(1))
    assert time.monotonic() - began < 2
    assert output.value is None
    assert "gave no answer" in (output.error or "")


def test_a_server_that_dies_gives_errors_and_one_that_never_was_is_told_at_once(episodes: Episodes) -> None:
    process, url = serve("--reward", "likeness")
    reward = HTTPReward(url, timeout_s=3, attempts=3, backoff_s=0.05)
    assert reward.score(episodes(1))[0].valid
    process.kill()
    process.wait()
    found = reward.score(episodes(2))
    assert [output.value for output in found] == [None, None]
    assert "gave no answer in 3 tries" in (found[0].error or "")
    with pytest.raises(RewardError, match="gave no answer"):
        HTTPReward(url, attempts=2, backoff_s=0.01)


def test_a_server_with_a_token_takes_its_client_alone(episodes: Episodes, monkeypatch: pytest.MonkeyPatch) -> None:
    process, url = serve("--reward", "edit", "--reward-kwargs", '{"alpha": 1.0}', "--token-env", "T", env={"T": TOKEN})
    try:
        with pytest.raises(RewardError, match="401"):
            HTTPReward(url)
        monkeypatch.setenv("MINE", TOKEN)
        native = get_renderer("native")
        given = [make_episode(task, Recipe("iea", {"exposure": 15}), native) for task in TinyDataset(3)]
        there = HTTPReward(url, token_env="MINE").score(given)
        assert [o.value for o in there] == [o.value for o in get_reward("edit", alpha=1.0).score(given)]
    finally:
        assert stop(process) in (0, -signal.SIGTERM)


def test_stopping_the_server_finishes_what_is_in_work(episodes: Episodes, tmp_path: Path) -> None:
    module = tmp_path / "slow_reward.py"
    module.write_text(Path(__file__).with_name("doubles.py").read_text())
    arguments = ("--reward", "slow_reward:Brightness", "--reward-kwargs", '{"seconds": 1.0}')
    process, url = serve(*arguments, env={"PYTHONPATH": str(tmp_path)})
    reward = HTTPReward(url, attempts=1)
    with ThreadPoolExecutor(1) as caller:
        scoring = caller.submit(reward.score, episodes(1))
        time.sleep(0.4)
        process.terminate()
        assert scoring.result(20)[0].value == episodes(1)[0].image.mean()
    assert process.wait(20) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--reward", "likeness", "--host", "0.0.0.0"], "--token-env"),
        (["--reward", "likeness", "--token-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
        (["--reward", "likenes"], "Did you mean 'likeness'"),
        (["--reward", "edit", "--reward-kwargs", "[1]"], "JSON object"),
    ],
)
def test_a_server_that_should_not_start_says_why(arguments: list[str], problem: str) -> None:
    with pytest.raises(AssertionError) as raised:
        serve(*arguments)
    assert problem in " ".join(str(raised.value).split())
    assert "Traceback" not in str(raised.value)
