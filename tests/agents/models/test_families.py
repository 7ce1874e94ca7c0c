"""Nothing in the path from observation to log-probabilities is particular to one family of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt, collate
from retouch_agents.generation import TransformersGenerator, distribution
from retouch_agents.models import load_model
from retouch_agents.scoring import score
from retouch_gym.tools import IEA


@pytest.fixture
def questions(family: Path) -> tuple[ChatFormat, list[Prompt]]:
    chat = ChatFormat.from_pretrained(family, IEA)
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    common = {"image": photo, "recipe": "{}", "feedback": "", "turns_left": 1}
    requests = ("warmer please", "make it a little brighter now")
    return chat, [chat.encode({**common, "instruction": request}) for request in requests]


def test_a_family_answers_and_its_log_probabilities_are_those_of_a_whole_forward_pass(
    family: Path, questions: tuple[ChatFormat, list[Prompt]]
) -> None:
    chat, prompts = questions
    model = load_model(family).eval()
    assert prompts[0].features["pixel_values"].size > 0
    generator = TransformersGenerator(model, pad_id=chat.pad_id, eos_ids=[chat.eos_id])
    answers = generator.generate(prompts, group_size=2, max_new_tokens=8)

    tokens = [answer.token_ids for answer in answers]
    batch = collate([prompts[0]] * 2 + [prompts[1]] * 2, chat.pad_id, tokens)
    sampled = batch.pop("completion_mask")[:, 1:]
    with torch.inference_mode():
        logs = distribution(model(**batch).logits[:, :-1], 1.0, generator.suppressed)
        found = score(
            model, prompts, [0, 0, 1, 1], tokens, pad_id=chat.pad_id, suppressed=generator.suppressed
        ).logprobs
    chosen = logs.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    for row, answer in enumerate(answers):
        assert np.allclose(chosen[row][sampled[row]].numpy(), answer.logprobs, atol=1e-4)
        assert np.allclose(found[row, : len(tokens[row])].numpy(), answer.logprobs, atol=1e-4)  # the ratio is 1


def test_the_photo_counts(family: Path, questions: tuple[ChatFormat, list[Prompt]]) -> None:
    chat, prompts = questions
    model = load_model(family).eval()
    batch = collate(prompts[:1], chat.pad_id)
    with torch.inference_mode():
        seen = model(**batch).logits
        other = model(**{**batch, "pixel_values": batch["pixel_values"].flip(-1) + 0.5}).logits
    assert not torch.allclose(seen, other, atol=1e-4)
