import json

import pytest

from retouch_gym.adapters.rollout import Rollout, read_action
from retouch_gym.adapters.sharing import env_factory
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError, RendererError
from retouch_gym.renderers.native import NativeRenderer
from retouch_gym.rewards.likeness import Likeness
from retouch_gym.types import ToolCall, Unparsable


def call(name, arguments, call_id="c"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


class FailingRenderer(NativeRenderer):
    def render(self, photos, recipes):
        if any(recipe.controls for recipe in recipes):
            raise RendererError("the engine is gone")
        return super().render(photos, recipes)


def test_calls_are_read_in_order():
    calls = [call("exposure", '{"value": 3}'), call("finish", ""), call("undo", None)]
    assert read_action(calls, "text") == [ToolCall("exposure", {"value": 3}), ToolCall("finish"), ToolCall("undo")]


@pytest.mark.parametrize(
    "calls",
    [
        [],
        [call("exposure", "{")],
        [call("exposure", "[" * 100_000)],
        [call("exposure", "1" * 10_000)],
        [call("finish", "{}"), call("exposure", "value=3")],
    ],
)
def test_what_cannot_be_read_is_unparsable(calls):
    assert isinstance(read_action(calls, None), Unparsable)


@pytest.mark.parametrize(
    "calls",
    [
        [call("exposure", "null")],
        [call("exposure", '{"value": NaN}')],
        [call("exposure", '{"value": 1e400}')],
        [call("", "{}")],
        [{"id": "c", "type": "custom", "custom": {"name": "exposure", "input": "3"}}],
        [call(None, "{}")],
        [call("finish", "{}")] * 65,
        [call("undo", "{}")],
    ],
)
def test_a_strange_answer_is_feedback_for_every_call(calls):
    rollout = Rollout(RetouchEnv(max_turns=2), RetouchEnv().dataset.id_of(0), seed=0)
    before = rollout.observation
    replies = rollout.answer({"role": "assistant", "tool_calls": calls})
    assert [reply["role"] for reply in replies] == ["tool"] * len(calls)
    (result,) = replies[-1]["content"]
    assert result["text"].startswith("Refused, nothing was changed")
    assert (rollout.refused, rollout.turns, rollout.over) == (1, 1, False)
    assert rollout.observation["recipe"] == before["recipe"]
    json.dumps(replies, allow_nan=False)


def test_a_renderer_that_fails_is_told_at_the_end_and_scores_nothing():
    rollout = Rollout(RetouchEnv(renderer=FailingRenderer()), RetouchEnv().dataset.id_of(0), seed=0)
    rollout.answer({"tool_calls": [call("exposure", '{"value": 30}')]})
    assert rollout.over
    with pytest.raises(RendererError, match="the engine is gone"):
        rollout.settle()
    assert rollout.reward == 0
    assert not rollout.components


def test_turns_that_are_paid_add_up():
    one, all_turns = (
        Rollout(RetouchEnv(reward_mode=mode), RetouchEnv().dataset.id_of(0), 0) for mode in ("final", "delta")
    )
    for rollout in (one, all_turns):
        rollout.answer({"tool_calls": [call("exposure", '{"value": 30}')]})
        rollout.settle()
        assert not rollout.finished
    assert one.reward != 0
    assert all_turns.reward == pytest.approx(one.reward)


def test_environments_are_built_alike_and_share_what_is_dear():
    make = env_factory(
        dataset="samples", task="match", user="scripted", user_kwargs={"tolerance": 0.2}, reward=Likeness(), max_turns=3
    )
    first, second = make(), make()
    assert first is not second
    assert first.dataset is second.dataset
    assert first.reward is second.reward
    assert first.renderer is second.renderer
    assert first.engine.user is second.engine.user
    assert first.max_turns == 3
    assert first.dataset[0].id.endswith("@match")
    assert first.dataset[0].id.count("@") == 1


def test_options_are_checked_before_anything_is_made():
    with pytest.raises((ConfigurationError, TypeError), match="rewardd"):
        env_factory(rewardd="likeness")
    with pytest.raises(ConfigurationError):
        env_factory(max_turns=0)
