from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from retouch_agents.chat import ChatFormat, ConversationFormat
from retouch_agents.encoding import collate
from retouch_agents.errors import ModelError
from retouch_agents.models import load_model, load_processor
from retouch_agents.prompts import FILE_NAME, build_messages, copy_prompt, load_prompt, save_prompt
from retouch_agents.tiny import TinySize, build_tiny, build_tokenizer
from retouch_gym import Recipe, ToolCall
from retouch_gym.chat import (
    ANSWER_FORMATS,
    BARE,
    IEA_EDIT,
    AnswerFormat,
    IEAFormat,
    PromptTemplate,
    get_answer_format,
    user_message,
)
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA

WORDS = [
    "make",
    "it",
    "much",
    "warmer",
    "slightly",
    "darker",
    "the",
    "photo",
    "is",
    "too",
    "dark",
    "and",
    "cool",
    "please",
]
SIZE = TinySize(hidden=32, layers=1, heads=2, vision_hidden=16, vision_layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"), IEA, WORDS, size=SIZE)


@pytest.fixture(scope="module")
def chat(folder: Path) -> ChatFormat:
    return ChatFormat.from_pretrained(folder, IEA)


def observation(instruction: str = "make it warmer", side: int = 64, value: int = 0) -> dict[str, Any]:
    image = np.full((side, side, 3), value, np.uint8)
    return {"image": image, "instruction": instruction, "recipe": "{}", "feedback": "", "turns_left": 1}


def test_a_64_pixel_photo_is_sixteen_image_tokens_and_reaches_the_model(folder: Path, chat: ChatFormat) -> None:
    model = load_model(folder)
    dark, bright = (chat.encode(observation(value=value)) for value in (10, 250))
    image_token = model.config.image_token_id
    assert (dark.input_ids == image_token).sum() == 16
    outputs = [model(**collate([prompt], chat.pad_id)).logits for prompt in (dark, bright)]
    assert not torch.allclose(*outputs)


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=12),
    st.dictionaries(st.sampled_from(sorted(IEA.controls)), st.integers(1, 20).map(lambda n: 5 * n), max_size=5),
)
def test_known_text_survives_the_tokenizer(chat: ChatFormat, words: list[str], controls: dict[str, int]) -> None:
    tokens = chat.target(" ".join(words), Recipe("iea", controls))
    text = chat.decode(tokens)
    assert chat.tokenizer.unk_token_id not in tokens
    assert set(chat.parse(text)) == {ToolCall(name, {"value": value}) for name, value in controls.items()}
    assert f"<think> {' '.join(words)}</think>" in text


def test_every_slider_value_is_one_token() -> None:
    tokenizer = build_tokenizer(IEA, WORDS)
    for value in range(-100, 101, 5):
        assert len(tokenizer(str(value), add_special_tokens=False)["input_ids"]) == 1


def test_unknown_words_become_unknown_tokens_and_do_not_raise(chat: ChatFormat) -> None:
    prompt = chat.encode(observation("ÿ 猫 <|image_pad|>x zebra"))
    assert chat.tokenizer.unk_token_id in prompt.input_ids


def test_a_saved_model_opens_with_plain_transformers(folder: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) < 200_000


def test_the_same_seed_builds_the_same_weights_and_leaves_the_global_generator(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (
        load_model(build_tiny(tmp_path / str(n), IEA, WORDS, size=SIZE, seed=seed)).state_dict()
        for n, seed in enumerate((1, 1, 2))
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_prompt_template_travels_with_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    assert load_prompt(folder) == (BARE, IEAFormat())
    assert load_prompt(tmp_path) == (IEA_EDIT, IEAFormat())
    own = PromptTemplate(user="{instruction} ({turns_left})", system="be brief", follow_up="{feedback}")
    save_prompt(tmp_path, own, "tool_call")
    assert load_prompt(tmp_path) == (own, get_answer_format("tool_call"))
    (tmp_path / "copy").mkdir()
    copy_prompt(tmp_path, tmp_path / "copy")
    assert load_prompt(tmp_path / "copy") == load_prompt(tmp_path)


def test_a_checkpoint_of_the_first_release_still_loads(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"user": " {instruction}", "system": ""}')
    assert load_prompt(tmp_path) == (BARE, IEAFormat())
    (tmp_path / FILE_NAME).write_text('{"usr": " {instruction}"}')
    with pytest.raises(ConfigurationError, match=f"{FILE_NAME}.*the keys .'usr'"):
        load_prompt(tmp_path)


class LocalFormat(IEAFormat):
    """Says that it is another than the built-in of its name."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalFormat)

    def __hash__(self) -> int:
        return 1


class NeverEqual(LocalFormat):
    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 2


def test_an_answer_format_that_cannot_be_found_again_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="NeverEqual"):
        save_prompt(tmp_path, BARE, NeverEqual())


@pytest.mark.parametrize("name", ANSWER_FORMATS)
def test_a_model_is_asked_and_taught_in_its_answer_format(folder: Path, tmp_path: Path, name: str) -> None:
    template = PromptTemplate(user="{instruction}\n{guide}")
    chat = ChatFormat(load_processor(folder), IEA, template, name)
    spoken: AnswerFormat = get_answer_format(name)
    assert spoken.example() in build_messages(observation(), template, IEA, spoken)[0]["content"][1]["text"]
    written: list[str] = []
    chat.tokenizer = lambda text, add_special_tokens: written.append(text) or {"input_ids": []}
    chat.tokenizer.eos_token_id = 0
    chat.target("it is dark", Recipe("iea", {"exposure": 20.0}))
    chat.target("it is fine", Recipe("iea"))
    assert chat.parse(written[0]) == (ToolCall("exposure", {"value": 20}),)
    assert chat.parse(written[1]) in ((), (ToolCall("finish"),))
    assert spoken.reasoning(written[0]) == "it is dark"
    ChatFormat(load_processor(folder), IEA, template, name).save_pretrained(tmp_path)
    assert ChatFormat.from_pretrained(tmp_path, IEA).answer_format == spoken


def test_a_conversation_with_several_photos_is_encoded(chat: ChatFormat) -> None:
    photos = [np.full((64, 64, 3), value, np.uint8) for value in (10, 250)]
    one, two = (
        ConversationFormat(chat.processor).encode([user_message("warmer <|im_end|>", photos[:n])]) for n in (1, 2)
    )
    assert one.features["pixel_values"].shape[0] * 2 == two.features["pixel_values"].shape[0]
    assert (two.input_ids == chat.eos_id).sum() == (chat.encode(observation("warmer")).input_ids == chat.eos_id).sum()
    plain = ConversationFormat(chat.processor).encode(
        [{"role": "user", "content": [{"type": "text", "text": "warmer"}]}]
    )
    assert "pixel_values" not in plain.features


def test_the_full_prompt_names_every_slider_with_its_range() -> None:
    system = build_messages(observation(), IEA_EDIT, IEA)[0]["content"][0]["text"]
    for control in IEA.controls.values():
        assert f"- {control.name} ({control.low:g}..{control.high:g})" in system
    assert '<answer>{"slider": value}</answer>' in system


def test_an_unknown_field_in_a_template_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown field"):
        PromptTemplate(user="{instrction}")


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_a_missing_model_says_what_to_do(load: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        load(tmp_path)


def test_collate_pads_prompts_left_and_completions_right(chat: ChatFormat) -> None:
    prompts = [chat.encode(observation(text)) for text in ("warmer", "make it much warmer please")]
    completions = [np.array([5, 6, 7]), np.array([8])]
    batch = collate(prompts, chat.pad_id, completions)
    width = max(len(prompt.input_ids) for prompt in prompts)
    assert batch["input_ids"].shape == (2, width + 3)
    assert batch["input_ids"][0, width:].tolist() == [5, 6, 7]
    assert batch["attention_mask"][0, 0] == 0
    assert batch["attention_mask"][1].tolist() == [1] * (width + 1) + [0, 0]
    assert batch["completion_mask"].sum(dim=1).tolist() == [3, 1]
    assert batch["pixel_values"].shape[0] == 2 * 64
