"""Sampling and scoring against full forward passes and against transformers' own generate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt, collate
from retouch_agents.generation import TransformersGenerator, distribution, placeholder_ids
from retouch_agents.models import load_model
from retouch_agents.scoring import score
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.tools.iea import IEA

WORDS = ("make", "it", "warmer", "a", "little", "brighter", "please", "now")
LIMIT = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = TinySize(hidden=32, layers=2, heads=2, vision_hidden=16, vision_layers=1)
    return build_tiny(tmp_path_factory.mktemp("tiny"), IEA, WORDS, size=size)


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    return load_model(folder)


@pytest.fixture(scope="module")
def chat(folder: Path) -> ChatFormat:
    return ChatFormat.from_pretrained(folder, IEA)


@pytest.fixture(scope="module")
def prompts(chat: ChatFormat) -> list[Prompt]:
    """Photos of several shapes with requests of several lengths, so that padding and M-RoPE matter."""
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (48, 96), (96, 32), (64, 80)]
    return [
        chat.encode(
            {
                "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
                "instruction": " ".join(rng.choice(WORDS, count)),
                "recipe": "{}",
                "feedback": "",
                "turns_left": 1,
            }
        )
        for size, count in zip(sizes, (2, 5, 9, 3), strict=True)
    ]


@pytest.fixture
def generator(model: PreTrainedModel, chat: ChatFormat) -> TransformersGenerator:
    return TransformersGenerator(model, pad_id=chat.pad_id, eos_ids=[chat.eos_id])


def _full_logprobs(
    model: PreTrainedModel, prompt: Prompt, tokens: np.ndarray, pad_id: int, temperature: float
) -> np.ndarray:
    """Teacher-forced, one row, without cache, padding or shared prompt; positions left to the model."""
    batch = collate([prompt], pad_id, [tokens])
    mask = batch.pop("completion_mask")[0]
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits[0]
    logs = distribution(logits[:-1], temperature, placeholder_ids(model))
    return logs.gather(-1, batch["input_ids"][0, 1:, None])[:, 0][mask[1:]].numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_full_forward_pass(
    model: PreTrainedModel,
    chat: ChatFormat,
    prompts: list[Prompt],
    generator: TransformersGenerator,
    temperature: float,
) -> None:
    found = generator.generate(prompts, group_size=3, temperature=temperature, max_new_tokens=LIMIT)
    assert len(found) == 3 * len(prompts)
    for row, completion in enumerate(found):
        expected = _full_logprobs(model, prompts[row // 3], completion.token_ids, chat.pad_id, temperature)
        np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)


def test_greedy_equals_transformers_generate(
    model: PreTrainedModel, chat: ChatFormat, prompts: list[Prompt], generator: TransformersGenerator
) -> None:
    found = generator.generate(prompts, temperature=0.0, max_new_tokens=LIMIT)
    for prompt, completion in zip(prompts, found, strict=True):
        batch = collate([prompt], chat.pad_id)
        reference = model.generate(
            **batch,
            do_sample=False,
            max_new_tokens=LIMIT,
            suppress_tokens=placeholder_ids(model),
            eos_token_id=chat.eos_id,
            pad_token_id=chat.pad_id,
        )
        assert completion.token_ids.tolist() == reference[0, len(prompt.input_ids) :].tolist()


def test_scores_are_differentiable_and_equal_to_the_samplers(
    model: PreTrainedModel, chat: ChatFormat, prompts: list[Prompt], generator: TransformersGenerator
) -> None:
    found = generator.generate(prompts, group_size=2, temperature=0.9, max_new_tokens=LIMIT)
    rows = [row // 2 for row in range(len(found))]
    # Uneven groups and any order: the caller may pass any part of a batch.
    order = [5, 0, 1, 7, 2]
    scores = score(
        model,
        prompts,
        [rows[i] for i in order],
        [found[i].token_ids for i in order],
        pad_id=chat.pad_id,
        temperature=0.9,
        suppressed=generator.suppressed,
    )
    for row, index in enumerate(order):
        np.testing.assert_allclose(
            scores.logprobs[row][scores.mask[row]].detach().numpy(), found[index].logprobs, atol=1e-4
        )
    model.zero_grad()
    scores.logprobs[scores.mask].sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())


def test_shared_prompts_give_the_gradient_of_separate_rows(
    model: PreTrainedModel, chat: ChatFormat, prompts: list[Prompt], generator: TransformersGenerator
) -> None:
    found = generator.generate(prompts[:2], group_size=2, max_new_tokens=8)
    tokens = [completion.token_ids for completion in found]
    weights = torch.randn(4, max(map(len, tokens)), generator=torch.Generator().manual_seed(1))

    def gradient(shared: bool) -> torch.Tensor:
        model.zero_grad()
        if shared:
            scores = score(model, prompts[:2], [0, 0, 1, 1], tokens, pad_id=chat.pad_id)
            values, mask = scores.logprobs, scores.mask
        else:
            batch = collate([prompts[0], prompts[0], prompts[1], prompts[1]], chat.pad_id, tokens)
            sampled = batch.pop("completion_mask")
            width = int(weights.shape[1])
            logs = distribution(model(**batch).logits[:, -width - 1 : -1], 1.0, ())
            values = logs.gather(-1, batch["input_ids"][:, -width:, None])[..., 0]
            mask = sampled[:, -width:]
        (weights * values)[mask].sum().backward()
        parts = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        return torch.cat(parts).clone()

    shared, separate = gradient(shared=True), gradient(shared=False)
    model.zero_grad()
    assert torch.allclose(shared, separate, atol=1e-4 * float(separate.abs().max()))


def test_entropy_is_that_of_the_sampling_distribution(
    model: PreTrainedModel, chat: ChatFormat, prompts: list[Prompt]
) -> None:
    tokens = [np.array([5], dtype=np.int64)]
    suppressed = placeholder_ids(model)
    scores = score(model, prompts[:1], [0], tokens, pad_id=chat.pad_id, temperature=0.5, suppressed=suppressed)
    with torch.no_grad():
        logits = model(**collate(prompts[:1], chat.pad_id)).logits[0, -1] / 0.5
    logits[suppressed] = -torch.inf
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert scores.entropy[0, 0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_seed_fixes_the_answer_whatever_is_sampled_beside_it(
    prompts: list[Prompt], generator: TransformersGenerator
) -> None:
    state = torch.get_rng_state()
    together = generator.generate(prompts, group_size=2, max_new_tokens=LIMIT, seeds=[11, 12, 13, 14])
    alone = generator.generate(prompts[2:3], group_size=2, max_new_tokens=LIMIT, seeds=[13])
    other = generator.generate(prompts[2:3], group_size=2, max_new_tokens=LIMIT, seeds=[99])
    assert [c.token_ids.tolist() for c in alone] == [c.token_ids.tolist() for c in together[4:6]]
    assert [c.token_ids.tolist() for c in alone] != [c.token_ids.tolist() for c in other]
    assert torch.equal(state, torch.get_rng_state())


def test_few_rows_at_a_time_give_the_same_answers(
    model: PreTrainedModel, chat: ChatFormat, prompts: list[Prompt], generator: TransformersGenerator
) -> None:
    small = TransformersGenerator(model, pad_id=chat.pad_id, eos_ids=[chat.eos_id], max_rows=4)
    whole = generator.generate(prompts, group_size=4, max_new_tokens=10)
    parts = small.generate(prompts, group_size=4, max_new_tokens=10)
    assert [c.token_ids.tolist() for c in whole] == [c.token_ids.tolist() for c in parts]


def test_samples_follow_the_distribution(model: PreTrainedModel, chat: ChatFormat, prompts: list[Prompt]) -> None:
    generator = TransformersGenerator(model, pad_id=chat.pad_id, eos_ids=[chat.eos_id], max_rows=4000)
    found = generator.generate(prompts[:1], group_size=4000, temperature=0.3, max_new_tokens=1)
    with torch.no_grad():
        logits = model(**collate(prompts[:1], chat.pad_id)).logits[0, -1]
    expected = distribution(logits, 0.3, placeholder_ids(model)).exp().numpy()
    counts = np.bincount([completion.token_ids[0] for completion in found], minlength=len(expected)) / 4000
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max() / 4000)
    assert counts[placeholder_ids(model)].sum() == 0


def test_answers_end_at_the_end_token(
    prompts: list[Prompt], generator: TransformersGenerator, chat: ChatFormat
) -> None:
    found = generator.generate(prompts, group_size=16, max_new_tokens=60)
    ended = [completion for completion in found if completion.finished]
    assert ended, "the random model should end some of 64 answers"
    for completion in found:
        ends = np.flatnonzero(completion.token_ids == chat.eos_id)
        assert ends.tolist() == ([len(completion.token_ids) - 1] if completion.finished else [])
        assert completion.finished or len(completion.token_ids) == 60


def test_a_models_training_mode_survives(
    model: PreTrainedModel, prompts: list[Prompt], generator: TransformersGenerator
) -> None:
    model.train()
    generator.generate(prompts[:1], max_new_tokens=2)
    assert model.training
    model.eval()


def test_wrong_numbers_are_named(prompts: list[Prompt], generator: TransformersGenerator) -> None:
    with pytest.raises(ValueError, match="1 seeds for 4 prompts"):
        generator.generate(prompts, seeds=[1])
    with pytest.raises(ValueError, match="group_size = 0"):
        generator.generate(prompts, group_size=0)
