from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retouch_agents.chat import ConversationFormat
from retouch_agents.models import load_model, load_processor
from retouch_agents.sft import Demonstrations, Example, Examples, completion_loss
from retouch_agents.sft.examples import encode, stack
from retouch_gym.chat import Message, assistant_message, user_message
from retouch_gym.errors import DatasetError


@pytest.fixture
def chat(base: Path) -> ConversationFormat:
    return ConversationFormat(load_processor(base))


def learned(chat: ConversationFormat, example: Example) -> list[str]:
    ids = [example.prompt.input_ids[start:end] for start, end in example.earlier] + [example.answer]
    return [chat.tokenizer.decode(row.tolist()) for row in ids]


def test_what_is_learned_are_the_answers(chat: ConversationFormat, talks: Demonstrations) -> None:
    conversation = talks[0]
    example = encode(chat, conversation)
    said = [str(message["content"][0]["text"]) for message in conversation if message["role"] == "assistant"]
    assert learned(chat, example) == [f"{text}<|im_end|>" for text in said]
    assert example.learned == sum(len(chat.answer(text)) for text in said)


def test_a_conversation_reads_as_the_template_writes_it(chat: ConversationFormat, talks: Demonstrations) -> None:
    conversation = list(talks[0])
    example = encode(chat, conversation)
    ids = np.concatenate([example.prompt.input_ids, example.answer])
    whole = chat.encode([*conversation, user_message("cooler")])
    assert np.array_equal(ids, whole.input_ids[: len(ids)])
    images = int((ids == chat.tokenizer.convert_tokens_to_ids("<|image_pad|>")).sum())
    assert images == 2 * 4  # two photos of 32 pixels squared
    assert np.array_equal(example.prompt.features["pixel_values"], whole.features["pixel_values"])


def test_the_loss_of_a_conversation_is_the_sum_of_its_turns(
    base: Path, chat: ConversationFormat, talks: Demonstrations
) -> None:
    model = load_model(base)
    whole = encode(chat, talks[0])
    total = completion_loss(model, stack([whole], chat.pad_id), None, 1.0).detach()
    first = Example(chat.encode(talks[0][:1]), chat.answer(str(talks[0][1]["content"][0]["text"])))
    last = replace(whole, earlier=())
    parts = [completion_loss(model, stack([turn], chat.pad_id), None, 1.0).detach() for turn in (first, last)]
    assert float(total) == pytest.approx(float(parts[0] + parts[1]), rel=1e-5)


def test_conversations_of_any_turns_share_a_batch(base: Path, chat: ConversationFormat, talks: Demonstrations) -> None:
    model = load_model(base)
    examples = [encode(chat, talks[0]), encode(chat, list(talks[1])[:2]), encode(chat, talks[2])]
    alone = sum(float(completion_loss(model, stack([one], chat.pad_id), None, 1.0).detach()) for one in examples)
    together = completion_loss(model, stack(examples, chat.pad_id), None, 1.0).detach()
    assert float(together) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("kind", ["mixed", "talks"])
def test_a_tight_batch_is_the_same_in_fewer_columns(
    base: Path, chat: ConversationFormat, kind: str, request: pytest.FixtureRequest
) -> None:
    model = load_model(base)
    examples = [encode(chat, request.getfixturevalue(kind)[index]) for index in range(4)]
    loose, tight = (stack(examples, chat.pad_id, tight=way) for way in (False, True))
    assert tight["input_ids"].shape == (4, max(example.length for example in examples))
    assert loose["input_ids"].shape[1] >= tight["input_ids"].shape[1]
    for batch in (loose, tight):
        learned_ids = batch["input_ids"][batch["completion_mask"]].tolist()
        assert chat.tokenizer.decode(learned_ids) == "".join("".join(learned(chat, one)) for one in examples)
    found, expected = (completion_loss(model, batch, None, 1.0).detach() for batch in (tight, loose))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [user_message("a")],
        [assistant_message("a")],
        [user_message("a"), assistant_message("b"), assistant_message("c")],
        [user_message("a"), assistant_message("b"), user_message("c")],
    ],
)
def test_a_conversation_must_end_with_an_answer(chat: ConversationFormat, turns: list[Message]) -> None:
    with pytest.raises(DatasetError, match="cannot be learned from"):
        encode(chat, turns)


def test_examples_begin_again_after_the_last(base: Path, mixed: Demonstrations) -> None:
    examples = Examples(base, mixed, range(5, 8), 8)
    assert (len(examples), examples.size) == (24, 24)
    again = Examples(base, mixed, range(2, 3), 8)
    assert np.array_equal(examples[0].answer, again[0].answer)
    assert examples[0].prompt.photos == ()


def test_nothing_to_learn_from_is_said(base: Path, mixed: Demonstrations) -> None:
    empty = type(mixed)(0)
    with pytest.raises(DatasetError, match="the data is empty"):
        Examples(base, empty, range(1), 1)[0]
