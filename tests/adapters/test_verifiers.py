import asyncio
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

pytest.importorskip("verifiers.v1")

import verifiers.v1 as vf

from retouch_gym.adapters.photos import from_base64_png
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError, RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.types import ToolCall, Unparsable

PLUGIN = "from retouch_gym.adapters.verifiers import *\nfrom retouch_gym.adapters.verifiers import __all__\n"
OPTIONS = {"dataset": "samples", "reward": "likeness", "max_turns": 4}


class BrokenJudge(Reward):
    name = "broken"
    range = (0.0, 1.0)

    def score(self, episodes):
        raise RewardError("the judge is down")


class CountingJudge(Reward):
    """Counts how often it is asked."""

    name = "counting"
    range = (0.0, 1.0)
    asked = 0

    def score(self, episodes):
        type(self).asked += len(episodes)
        return [RewardOutput(0.25) for _ in episodes]


def call(name, call_id="c1", **arguments):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def says(*calls, text=None):
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


class Model:
    """An OpenAI chat completions endpoint on the loopback interface that answers from a script."""

    def __init__(self):
        self.script, self.requests, self.status = [], [], 200
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model.requests.append(body)
                answer = model.answer(body, self.path)
                self.send_response(model.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, body, path):
        if self.status != 200:
            return json.dumps({"error": {"message": "out of order"}}).encode()
        assert path == "/v1/chat/completions"
        message = self.script[len([m for m in body["messages"] if m["role"] == "assistant"])]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        completion = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        return json.dumps({**completion, "choices": [choice], "usage": usage}).encode()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def model():
    endpoint = Model()
    yield endpoint
    endpoint.close()


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The one-file plug-in of the adapter's manual."""
    (tmp_path / "retouch_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield "retouch_plugin"
    sys.modules.pop("retouch_plugin", None)


def load(plugin, model, agent=None, **options):
    agent = {
        "model": "tiny",
        "client": {"type": "eval", "base_url": model.url, "api_key_var": "NO_KEY"},
        **(agent or {}),
    }
    taskset = {"id": plugin, "task": {"environment": OPTIONS | options}}
    return vf.load_environment(vf.resolve_env_config({"taskset": taskset, "agent": agent}))


def play(env, index=0):
    """One episode with verifiers' own machinery; returns its only trace."""
    task = next(iter(env.taskset.skip(index).take(1)))
    context = vf.ModelContext(model="tiny", client=vf.EvalClientConfig(api_key_var="NO_KEY"))

    async def run():
        async with env.serving():
            (slot,) = env.slots(task)
            return await env.run_slot(slot, context)

    episode = asyncio.run(run())
    assert not episode.errors, episode.errors
    (trace,) = episode.traces
    return trace


def photos(message):
    urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [from_base64_png(url.partition(",")[2]) for url in urls]


def texts(message):
    return " ".join(part["text"] for part in message["content"] if part["type"] == "text")


def reference(actions, index=0, **options):
    env = RetouchEnv(**OPTIONS | options)
    observations = [env.reset(seed=0, options={"index": index})[0]]
    for action in actions:
        observation, reward, over, _, info = env.step(action)
        observations.append(observation)
    return observations, reward, over, info


def test_a_rollout_pays_what_the_environment_pays_and_shows_the_photos(plugin, model):
    model.script = [says(call("exposure", value=30), call("temperature", "c2", value=10)), says(call("finish"))]
    trace = play(load(plugin, model), index=2)

    plan = [ToolCall("exposure", {"value": 30}), ToolCall("temperature", {"value": 10})]
    observations, reward, over, info = reference([plan, ToolCall("finish")], index=2)
    assert over
    assert trace.ok
    assert trace.reward == reward != 0
    assert trace.stop_condition == "agent_completed"
    assert {name: trace.metrics[name] for name in info["reward_components"]} == info["reward_components"]
    assert trace.metrics["finished"] == 1
    assert trace.metrics["env_turns"] == 2

    first, second = model.requests
    system, opening = first["messages"]
    assert system["role"] == "system"
    assert observations[0]["instruction"] in texts(opening)
    np.testing.assert_array_equal(photos(opening)[0], observations[0]["image"])
    *_, answer, unimportant, result = second["messages"]
    assert [m["role"] for m in (answer, unimportant, result)] == ["assistant", "tool", "tool"]
    assert [unimportant["tool_call_id"], result["tool_call_id"]] == ["c1", "c2"]
    assert "exposure = 30" in texts(result)
    assert "Turns left: 3." in texts(result)
    np.testing.assert_array_equal(photos(result)[0], observations[1]["image"])
    names = [tool["function"]["name"] for tool in first["tools"]]
    assert names == [tool.name for tool in RetouchEnv(**OPTIONS).toolset.tools]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (says(call("exposure", value=400)), "less than or equal to 100"),
        (says(call("brighten", value=4)), "unknown tool 'brighten'"),
        (says({**call("exposure"), "function": {"name": "exposure", "arguments": "{value"}}), "no JSON"),
        (says({**call("exposure"), "function": {"name": "exposure", "arguments": "[1]"}}), "JSON object"),
        (says(text="It looks fine."), "calls no tool"),
    ],
)
def test_a_bad_answer_is_feedback_and_costs_a_turn(plugin, model, bad, told):
    model.script = [bad, says(call("exposure", value=30)), says(call("finish"))]
    trace = play(load(plugin, model))
    _, reward, *_ = reference([ToolCall("exposure", {"value": 30}), ToolCall("finish")])
    assert trace.ok
    assert trace.reward == reward
    assert trace.metrics["refused_turns"] == 1
    assert trace.metrics["env_turns"] == 3
    last = model.requests[1]["messages"][-1]
    assert last["role"] == ("tool" if "tool_calls" in bad else "user")
    assert told in texts(last)
    assert "Turns left: 3." in texts(last)
    assert photos(last) == []


def test_a_judge_that_fails_is_a_task_error_and_scores_nothing(plugin, model):
    model.script = [says(call("finish"))]
    trace = play(load(plugin, model, reward=BrokenJudge()))
    assert not trace.ok
    assert [error.type for error in trace.errors] == ["TaskError"]
    assert "the judge is down" in trace.errors[0].message
    assert trace.rewards == {"retouch": None}


def test_a_judge_that_fails_is_no_zero_when_the_environment_truncates(plugin, model):
    model.script = [says(call("finish"))]
    trace = play(load(plugin, model, reward=BrokenJudge(), on_reward_error="truncate"))
    assert [error.type for error in trace.errors] == ["TaskError"]
    assert trace.rewards == {"retouch": None}


def test_a_model_that_fails_is_a_provider_error(plugin, model):
    model.status = 400
    trace = play(load(plugin, model))
    assert [error.type for error in trace.errors] == ["ProviderError"]
    assert not trace.rewards


def test_a_task_that_cannot_begin_is_a_task_error(plugin, model):
    env = load(plugin, model)
    task = next(iter(env.taskset)).with_data(id="no-such-task")

    async def run():
        async with env.serving():
            (slot,) = env.slots(task)
            return await env.run_slot(slot, vf.ModelContext(model="tiny", client=vf.EvalClientConfig()))

    (trace,) = asyncio.run(run()).traces
    assert [error.type for error in trace.errors] == ["TaskError"]
    assert "no-such-task" in trace.errors[0].message
    assert not model.requests


def test_a_rollout_that_is_cut_off_is_scored_as_it_is(plugin, model):
    model.script = [says(call("exposure", value=30))] * 4
    trace = play(load(plugin, model, agent={"max_turns": 1}))
    _, reward, *_ = reference([ToolCall("exposure", {"value": 30})] * 4)
    assert trace.ok
    assert trace.stop_condition == "max_turns"
    assert trace.reward == reward != 0
    assert trace.metrics["finished"] == 0
    assert trace.metrics["env_turns"] == 1


def test_the_judge_is_asked_once_and_a_saved_trace_can_be_scored_again(plugin, model):
    model.script = [says(text="Hm."), says(call("exposure", value=30)), says(call("finish"))]
    CountingJudge.asked = 0
    trace = play(load(plugin, model, reward=CountingJudge()))
    assert CountingJudge.asked == 1
    assert trace.reward == 0.25
    assert trace.state.rollout is None

    record = json.loads(json.dumps(trace.to_record()))
    saved = vf.Trace[vf.WireTaskData, vf.State, vf.AgentConfig].model_validate(record)
    saved.rewards, saved.metrics = {}, {}
    env = load(plugin, model)
    task = next(iter(env.taskset))
    asyncio.run(task.score(saved))
    _, reward, *_ = reference([ToolCall("exposure", {"value": 30}), ToolCall("finish")])
    assert saved.reward == reward
    assert saved.metrics["refused_turns"] == 1


@pytest.mark.parametrize("mode", ["edit", "refine", "summary", "match", "transfer"])
def test_every_mode_shows_its_photos_and_offers_its_tools(plugin, model, mode):
    last = call("summarize", text="make it brighter") if mode == "summary" else call("finish")
    model.script = [says(last)]
    trace = play(load(plugin, model, task=mode))
    action = ToolCall(last["function"]["name"], json.loads(last["function"]["arguments"]))
    observations, reward, over, _ = reference([action], task=mode)
    assert over
    assert trace.ok
    assert trace.reward == reward

    (request,) = model.requests
    opening, seen = request["messages"][-1], observations[0]
    for shown, expected in zip(photos(opening), (seen["image"], *seen["context"]), strict=True):
        np.testing.assert_array_equal(shown, expected)
    told = texts(opening)
    assert told.endswith(seen["instruction"])
    assert all(earlier in told for earlier in json.loads(seen["history"]))
    assert seen["recipe"] in told or seen["recipe"] == "{}"
    offered = {tool["function"]["name"] for tool in request["tools"]}
    assert offered == {"summarize"} if mode == "summary" else {"exposure", "finish"} < offered


def test_a_user_who_takes_part_is_heard(plugin, model):
    model.script = [says(call("exposure", value=30)), says(text="Better?"), says(call("contrast", value=-20))]
    trace = play(load(plugin, model, user="scripted", max_turns=3))
    actions = [ToolCall("exposure", {"value": 30}), Unparsable("no call"), ToolCall("contrast", {"value": -20})]
    observations, reward, *_ = reference(actions, user="scripted", max_turns=3)
    assert trace.ok
    assert trace.reward == reward
    _, second, third = (request["messages"] for request in model.requests)
    assert [message["role"] for message in second[-2:]] == ["tool", "user"]
    assert texts(second[-1]) == observations[1]["instruction"]
    # A refused turn changed nothing, so the request stands and is not said again.
    assert third[-1]["role"] == "user"
    assert "calls no tool" in texts(third[-1])
    assert observations[2]["instruction"] == observations[1]["instruction"]


def test_rollouts_at_once_do_not_disturb_each_other(plugin, model):
    model.script = [says(call("exposure", value=30)), says(call("finish"))]
    env = load(plugin, model)
    context = vf.ModelContext(model="tiny", client=vf.EvalClientConfig(api_key_var="NO_KEY"))

    async def run():
        async with env.serving():
            slots = [slot for task in env.taskset.take(4) for slot in env.slots(task, 2)]
            return await asyncio.gather(*(env.run_slot(slot, context) for slot in slots))

    rewards = [episode.traces[0].reward for episode in asyncio.run(run())]
    actions = [ToolCall("exposure", {"value": 30}), ToolCall("finish")]
    assert rewards == [reference(actions, index=index)[1] for index in range(4) for _ in range(2)]


def test_the_taskset_is_the_dataset_without_pixels(plugin, model):
    taskset = load(plugin, model).taskset
    dataset = RetouchEnv(**OPTIONS).dataset
    tasks = list(taskset)
    assert [task.data.id for task in tasks] == [dataset.id_of(index) for index in range(len(dataset))]
    assert len({task.key for task in tasks}) == len(dataset)
    assert all(len(task.data.model_dump_json()) < 4000 for task in tasks)
    again = type(tasks[3])(type(tasks[3].data).model_validate_json(tasks[3].data.model_dump_json()), tasks[3].config)
    assert again.data == tasks[3].data


def test_an_unknown_option_is_named(plugin, model):
    with pytest.raises((ConfigurationError, TypeError), match="rewardd"):
        list(load(plugin, model, rewardd="likeness").taskset)


def test_another_tasksets_task_is_refused_in_words(plugin, model):
    class Other(vf.Task[vf.TaskData]):
        pass

    env = load(plugin, model)

    async def run():
        async with env.serving():
            (slot,) = env.slots(Other(vf.TaskData(prompt="hello")))
            return await env.run_slot(slot, vf.ModelContext(model="tiny", client=vf.EvalClientConfig()))

    (trace,) = asyncio.run(run()).traces
    assert [error.type for error in trace.errors] == ["HarnessError"]
    assert re.search("plays tasks of RetouchTaskset only", trace.errors[0].message)
