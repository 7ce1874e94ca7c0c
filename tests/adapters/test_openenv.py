import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openenv")

import pydantic
import uvicorn
from openenv.core.generic_client import GenericEnvClient
from websockets.sync.client import connect

from retouch_gym.adapters.openenv.client import RetouchClient
from retouch_gym.adapters.openenv.models import Call, RetouchAction
from retouch_gym.adapters.openenv.server import create_app, serve
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards.base import Reward
from retouch_gym.types import ToolCall, Unparsable

OPTIONS = {"dataset": "samples", "reward": "likeness", "max_turns": 3}
PLAN = [ToolCall("exposure", {"value": 30}), ToolCall("temperature", {"value": -10})]
FINISH = ToolCall("finish")
TEXTS = ("task", "instruction", "history", "feedback", "recipe", "turns_left")


class BrokenJudge(Reward):
    name = "broken"
    range = (0.0, 1.0)

    def score(self, episodes):
        raise RewardError("the judge is down")


class Running:
    """A real server on a free port of the loopback interface."""

    def __init__(self, **options):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.url = f"http://{self.address}"
        config = uvicorn.Config(create_app(**options), log_level="critical", ws_per_message_deflate=False)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)

    def __enter__(self):
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *exc):
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def running():
    with Running(max_sessions=3, **OPTIONS) as server:
        yield server


@pytest.fixture
def client(running):
    with RetouchClient(base_url=running.url).sync() as env:
        yield env


def assert_seen(seen, observation, info):
    for name in ("image", "original"):
        photo = getattr(seen, name)
        assert photo.dtype == np.uint8
        np.testing.assert_array_equal(photo, observation[name])
    for mine, theirs in zip(seen.context, observation["context"], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert {name: getattr(seen, name) for name in TEXTS} == {name: observation[name] for name in TEXTS}
    assert (seen.task_id, seen.kind, seen.tool_error) == (info["task_id"], info["kind"], info["tool_error"])


def test_an_episode_is_the_local_one_bit_for_bit(client):
    local = RetouchEnv(**OPTIONS)
    observation, info = local.reset(seed=5)
    result = client.reset(seed=5)
    assert_seen(result.observation, observation, info)
    assert (result.reward, result.done, result.metadata) == (None, False, {})
    for action in (PLAN, ToolCall("exposure", {"value": 400}), FINISH):
        observation, reward, terminated, _, info = local.step(action)
        result = client.step(action)
        assert_seen(result.observation, observation, info)
        assert (result.reward, result.done) == (reward, terminated)
    assert result.done
    assert result.reward != 0
    assert result.metadata["reward_components"] == info["reward_components"]
    assert result.metadata["finished"] is True
    # The generator goes on where it was, as it does locally.
    observation, info = local.reset()
    assert_seen(client.reset().observation, observation, info)


@pytest.mark.parametrize("options", [{"task": "transfer"}, {"task": "refine"}, {"user": "scripted"}])
def test_every_kind_of_episode_is_the_local_one(options):
    local = RetouchEnv(**OPTIONS | options)
    with Running(**OPTIONS | options) as server, RetouchClient(base_url=server.url).sync() as client:
        observation, info = local.reset(seed=2)
        assert_seen(client.reset(seed=2).observation, observation, info)
        for action in (PLAN, FINISH):
            observation, reward, *_, info = local.step(action)
            result = client.step(action)
            assert_seen(result.observation, observation, info)
        assert result.reward == reward


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (ToolCall("exposure", {"value": 400}), "less than or equal to 100"),
        (ToolCall("exposure", {"value": "30"}), "valid integer"),
        (ToolCall("expossure", {"value": 1}), "Did you mean 'exposure'?"),
        ([ToolCall("exposure", {"value": 1})] * 65, "too long"),
        (Unparsable("no call in the answer", "Looks fine."), "no call in the answer"),
    ],
)
def test_a_bad_action_is_feedback(client, action, told):
    before = client.reset(index=0)
    result = client.step(action)
    assert told in result.observation.feedback
    assert told in result.observation.tool_error
    assert not result.done
    assert result.observation.turns_left == before.observation.turns_left - 1
    np.testing.assert_array_equal(result.observation.image, before.observation.image)


def test_the_task_can_be_chosen(client):
    dataset = RetouchEnv(**OPTIONS).dataset
    assert client.reset(task_id=dataset.id_of(3)).observation.task_id == dataset.id_of(3)
    assert client.reset(index=2).observation.task_id == dataset.id_of(2)
    with pytest.raises(RuntimeError, match="No task 'nowhere'"):
        client.reset(task_id="nowhere")
    with pytest.raises(RuntimeError, match="Did you mean 'task_id'"):
        client.reset(taskid="nowhere")
    assert client.reset(index=2).observation.task_id == dataset.id_of(2)


def test_sessions_are_independent(running):
    first, second = (RetouchClient(base_url=running.url).sync() for _ in range(2))
    with first, second:
        first.reset(seed=1)
        second.reset(seed=2)
        first.step(ToolCall("exposure", {"value": 50}))
        untouched = second.step(ToolCall("exposure", {"value": 0}))
        mine = first.step(ToolCall("contrast", {"value": 5}))
        assert json.loads(mine.observation.recipe) == {"exposure": 50, "contrast": 5}
        np.testing.assert_array_equal(untouched.observation.image, untouched.observation.original)
        assert first.state().episode_id != second.state().episode_id
        assert (first.state().step_count, second.state().step_count) == (2, 1)
        assert first.state().turns_left == 1


def test_a_client_too_many_is_turned_away_and_a_place_becomes_free(running):
    clients = [RetouchClient(base_url=running.url).sync() for _ in range(4)]
    try:
        for client in clients[:3]:
            client.reset(seed=0)
        with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
            clients[3].reset(seed=0)
    finally:
        for client in clients:
            client.close()
    with RetouchClient(base_url=running.url).sync() as late:
        assert late.reset(seed=0).observation.turns_left == OPTIONS["max_turns"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "INVALID_JSON"),
        ('{"type": "dance"}', "UNKNOWN_TYPE"),
        ('{"type": "step"}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"name": "finish", "plan": []}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"plan": [], "arguments": {"value": 1}}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"name": "finish", "score": 10}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"name": 7}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"plan": [{"name": "finish", "x": 1}]}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": {"plan": {"name": "finish"}}}', "VALIDATION_ERROR"),
        ('{"type": "step", "data": [1, 2]}', "VALIDATION_ERROR"),
        ('{"type": "reset", "data": {"seed": "now"}}', "EXECUTION_ERROR"),
        ('{"type": "reset", "data": {"seed": -1}}', "EXECUTION_ERROR"),
        ('{"type": "reset", "data": {"index": 1e9}}', "EXECUTION_ERROR"),
    ],
)
def test_a_malformed_message_is_refused_and_the_session_lives_on(running, message, code):
    with connect(f"ws://{running.address}/ws", proxy=None) as ws:

        def ask(text):
            ws.send(text)
            return json.loads(ws.recv(timeout=20))

        begun = ask('{"type": "reset", "data": {"seed": 3}}')
        assert begun["type"] == "observation"
        refused = ask(message)
        assert (refused["type"], refused["data"]["code"]) == ("error", code)
        assert refused["data"]["message"]
        ended = ask('{"type": "step", "data": {"name": "finish"}}')
        assert ended["data"]["done"] is True
        # Whatever was refused cost no turn.
        assert ended["data"]["observation"]["turns_left"] == OPTIONS["max_turns"] - 1


def test_a_step_before_the_first_reset_is_refused_in_words(client):
    with pytest.raises(RuntimeError, match="reset"):
        client.step(FINISH)


def test_plain_http_steps_meet_no_session_and_score_nothing(running):
    body = json.dumps({"action": {"name": "finish"}}).encode()
    request = urllib.request.Request(f"{running.url}/step", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20)
    assert refused.value.code == 500


def test_a_judge_that_fails_is_an_error_and_no_score():
    with Running(**OPTIONS | {"reward": BrokenJudge()}) as server, RetouchClient(base_url=server.url).sync() as env:
        env.reset(seed=0)
        with pytest.raises(RuntimeError, match="the judge is down"):
            env.step(FINISH)
        assert env.reset(seed=0).observation.turns_left == OPTIONS["max_turns"]


def test_a_judge_that_fails_is_no_zero_when_the_environment_truncates():
    options = OPTIONS | {"reward": BrokenJudge(), "on_reward_error": "truncate"}
    with Running(**options) as server, RetouchClient(base_url=server.url).sync() as env:
        env.reset(seed=0)
        result = env.step(FINISH)
        assert result.done
        assert result.reward is None
        assert result.metadata["reward_valid"] is False
        assert result.metadata["truncated"] is True
        assert "the judge is down" in result.metadata["reward_error"]


def test_openenvs_generic_client_works_too(running):
    with GenericEnvClient(base_url=running.url).sync() as env:
        assert env.reset(seed=0).observation["instruction"]
        result = env.step({"plan": [{"name": "exposure", "arguments": {"value": 10}}, {"name": "finish"}]})
        assert result.done


def test_the_schema_tells_what_may_be_sent(running):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{running.url}/schema", timeout=20) as reply:
        schema = json.load(reply)
    assert schema["action"]["additionalProperties"] is False
    assert {"name", "arguments", "plan", "unparsable"} <= set(schema["action"]["properties"])


@pytest.mark.parametrize("action", [FINISH, PLAN, Unparsable("why")])
def test_actions_travel_and_come_back(action):
    sent = RetouchAction.of(action).model_dump_json(exclude_defaults=True)
    assert RetouchAction.model_validate_json(sent).to_action() == action


def test_actions_forbid_what_they_do_not_know():
    with pytest.raises(pydantic.ValidationError):
        RetouchAction(name="finish", reward=10)
    with pytest.raises(pydantic.ValidationError):
        Call(name="finish", reward=10)


def test_options_are_checked_before_anybody_connects():
    with pytest.raises((ConfigurationError, TypeError), match="rewardd"):
        create_app(rewardd="likeness")


def test_it_listens_on_the_loopback_interface_unless_told_otherwise(monkeypatch):
    calls = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **where: calls.append(where))
    serve(**OPTIONS)
    serve("0.0.0.0", 1234, **OPTIONS)
    assert [(call["host"], call["port"]) for call in calls] == [("127.0.0.1", 8000), ("0.0.0.0", 1234)]


def test_the_example_plays_on_a_server(running):
    example = Path(__file__).parents[2] / "examples" / "serve_openenv.py"
    command = [sys.executable, str(example), "play", "--url", running.url, "--episodes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("reward") == 2
