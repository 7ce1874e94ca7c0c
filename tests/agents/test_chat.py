from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import collate
from retouch_agents.errors import ModelError
from retouch_agents.models import load_model, load_processor
from retouch_agents.prompts import BARE, IEA_EDIT, PromptTemplate, build_messages
from retouch_agents.tiny import TinySize, build_tiny, build_tokenizer
from retouch_gym import Recipe, ToolCall
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
    assert PromptTemplate.load(folder) == BARE
    assert PromptTemplate.load(tmp_path) == IEA_EDIT
    own = PromptTemplate(user="{instruction} ({turns_left})", system="be brief")
    own.save(tmp_path)
    assert PromptTemplate.load(tmp_path) == own


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
