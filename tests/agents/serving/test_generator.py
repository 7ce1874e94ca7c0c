"""Answers from a server against those of the same model in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt
from retouch_agents.generation import Completion, TransformersGenerator
from retouch_agents.models import load_model
from retouch_agents.scoring import score
from retouch_agents.serving import EndpointGenerator, EndpointSettings, GenerationError
from retouch_gym.errors import ConfigurationError

WIRES = ("vllm", "sglang", "chat")
LIMIT = 20

Make = Callable[..., EndpointGenerator]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> PreTrainedModel:
    return load_model(tiny_folder)


@pytest.fixture
def local(model: PreTrainedModel, tiny_chat: ChatFormat) -> TransformersGenerator:
    return TransformersGenerator(model, pad_id=tiny_chat.pad_id, eos_ids=[tiny_chat.eos_id])


def _same(found: list[Completion], expected: list[Completion]) -> None:
    assert [answer.token_ids.tolist() for answer in found] == [answer.token_ids.tolist() for answer in expected]
    assert [answer.finished for answer in found] == [answer.finished for answer in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)


@pytest.mark.parametrize("wire", WIRES)
def test_likeliest_answers_are_those_of_the_local_generator(
    endpoint: Make, local: TransformersGenerator, prompts: list[Prompt], wire: str
) -> None:
    found = endpoint(wire=wire).generate(prompts, temperature=0.0, group_size=2, max_new_tokens=LIMIT)
    _same(found, local.generate(prompts, temperature=0.0, group_size=2, max_new_tokens=LIMIT))


@pytest.mark.parametrize("wire", WIRES)
def test_logprobs_are_those_that_the_learner_computes(
    endpoint: Make,
    server: Any,
    model: PreTrainedModel,
    local: TransformersGenerator,
    tiny_chat: ChatFormat,
    prompts: list[Prompt],
    wire: str,
) -> None:
    found = endpoint(wire=wire).generate(prompts, group_size=4, temperature=0.7, max_new_tokens=LIMIT, seeds=[3, 4, 5])
    assert len(found) == 4 * len(prompts)
    with torch.no_grad():
        scores = score(
            model,
            prompts,
            [row // 4 for row in range(len(found))],
            [answer.token_ids for answer in found],
            pad_id=tiny_chat.pad_id,
            temperature=0.7,
            suppressed=local.suppressed,
        )
    for row, answer in enumerate(found):
        np.testing.assert_allclose(answer.logprobs, scores.logprobs[row, : len(answer.token_ids)].numpy(), atol=1e-4)
        assert not {*answer.token_ids.tolist()} & {*local.suppressed}
        assert answer.finished == (answer.token_ids[-1] == tiny_chat.eos_id)
    assert len({tuple(answer.token_ids) for answer in found[:4]}) > 1
    # A group is one request, so that its prompt is encoded once there too.
    answered = server.bodies(
        {"vllm": "/inference/v1/generate", "sglang": "/generate"}.get(wire, "/v1/chat/completions")
    )
    assert [body.get("sampling_params", body)["n"] for body in answered].count(4) == len(prompts)


def test_same_seed_same_answers(endpoint: Make, prompts: list[Prompt]) -> None:
    generator = endpoint()
    first, again = (generator.generate(prompts, group_size=2, max_new_tokens=8, seeds=[7, 8, 9]) for _ in range(2))
    other = generator.generate(prompts, group_size=2, max_new_tokens=8, seeds=[17, 18, 19])
    _same(first, again)
    assert [answer.token_ids.tolist() for answer in other] != [answer.token_ids.tolist() for answer in first]


def test_sglang_with_seeds_asks_for_every_answer_by_itself(endpoint: Make, server: Any, prompts: list[Prompt]) -> None:
    found = endpoint(wire="sglang", seeded=True, check_logprobs=False).generate(
        prompts[:1], group_size=3, max_new_tokens=8, seeds=[7]
    )
    assert sorted(body["sampling_params"]["sampling_seed"] for body in server.bodies("/generate")) == [7, 8, 9]
    assert len({tuple(answer.token_ids) for answer in found}) > 1


@pytest.mark.parametrize("wire", WIRES)
def test_photos_and_text_in_any_order(
    endpoint: Make, local: TransformersGenerator, tiny_chat: ChatFormat, prompts: list[Prompt], wire: str
) -> None:
    # A later turn: photos apart from one another, an answer between them, and no conversation that a server renders.
    answer = tiny_chat.answer(" make it warmer")
    conversation = prompts[0].then(answer).joined(prompts[1])
    found = endpoint(wire=wire).generate([conversation], temperature=0.0, max_new_tokens=LIMIT)
    _same(found, local.generate([conversation], temperature=0.0, max_new_tokens=LIMIT))


@pytest.mark.parametrize("wire", WIRES)
def test_logprobs_of_another_distribution_are_refused(
    endpoint: Make, server: Any, prompts: list[Prompt], wire: str
) -> None:
    server.raw_logprobs = True
    with pytest.raises(GenerationError, match="processed_logprobs"):
        endpoint(wire=wire).generate(prompts, max_new_tokens=4)


@pytest.mark.parametrize("wire", WIRES)
def test_photos_that_the_server_prepares_otherwise_are_refused(
    endpoint: Make, server: Any, prompts: list[Prompt], wire: str
) -> None:
    server.max_pixels = 32 * 32
    with pytest.raises(GenerationError, match=r"docs/generation\.md|mm-processor-kwargs"):
        endpoint(wire=wire).generate(prompts[:1], max_new_tokens=4)


def test_a_prompt_that_is_tokenised_otherwise_is_refused(
    endpoint: Make, tiny_chat: ChatFormat, prompts: list[Prompt]
) -> None:
    # Two tokens that a tokenizer would have written as one: "5", "5" and "55".
    five = tiny_chat.tokenizer.get_vocab()["5"]
    changed = prompts[0].then(np.array([five, five]))
    with pytest.raises(GenerationError, match="differ first at"):
        endpoint(wire="chat").generate([changed], max_new_tokens=4)
    assert endpoint(wire="vllm").generate([changed], max_new_tokens=4)


@pytest.mark.parametrize("wire", WIRES)
def test_a_pushed_adapter_answers(
    endpoint: Make,
    server: Any,
    tiny_folder: Path,
    tiny_chat: ChatFormat,
    prompts: list[Prompt],
    tmp_path: Path,
    wire: str,
) -> None:
    torch.manual_seed(0)
    adapted = get_peft_model(
        load_model(tiny_folder), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(str(tmp_path / "1"))
    merged = PeftModel.from_pretrained(load_model(tiny_folder), str(tmp_path / "1")).merge_and_unload()
    local = TransformersGenerator(merged, pad_id=tiny_chat.pad_id, eos_ids=[tiny_chat.eos_id])
    generator = endpoint(wire=wire)
    before = generator.generate(prompts, temperature=0.0, max_new_tokens=LIMIT)
    generator.push_adapter(tmp_path / "1", "weights-1")
    after = generator.generate(prompts, temperature=0.0, max_new_tokens=LIMIT)
    _same(after, local.generate(prompts, temperature=0.0, max_new_tokens=LIMIT))
    assert [answer.token_ids.tolist() for answer in after] != [answer.token_ids.tolist() for answer in before]
    generator.push_adapter(tmp_path / "1", "weights-2")
    assert [*server.adapters] == ["weights-2"]
    with pytest.raises(ConfigurationError, match="already"):
        generator.push_adapter(tmp_path / "1", "weights-2")
    with pytest.raises(ConfigurationError, match=r"adapter_config\.json"):
        generator.push_adapter(tmp_path, "weights-3")


def test_a_load_whose_answer_was_lost_has_succeeded(
    endpoint: Make, server: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    get_peft_model(load_model(tiny_folder), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(str(tmp_path))

    def lost(reply: Any) -> Any:
        raise ConnectionError

    server.faults = [lost]
    generator = endpoint()
    generator.push_adapter(tmp_path, "weights-1")
    assert generator.model == "weights-1"


def test_another_machine_does_not_see_our_folders(tmp_path: Path) -> None:
    generator = EndpointGenerator(EndpointSettings("m", "http://gpu-host:8000"), eos_ids=[1])
    with pytest.raises(ConfigurationError, match="adapter_folder"):
        generator.push_adapter(tmp_path, "weights-1")
