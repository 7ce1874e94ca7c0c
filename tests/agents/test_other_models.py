"""Nothing in the path from observation to log-probabilities is particular to Qwen: here with a LLaVA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import collate
from retouch_agents.generation import TransformersGenerator, distribution
from retouch_agents.models import load_model
from retouch_agents.prompts import save_prompt
from retouch_agents.tiny import build_tokenizer
from retouch_gym.chat import BARE
from retouch_gym.datasets.grammar import words
from retouch_gym.tools import IEA

TEMPLATE = (
    "{% for message in messages %}user: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("llava")
    tokenizer = build_tokenizer(IEA, words())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_token = tokenizer.get_vocab()["<image>"]
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config = LlavaConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), image_token_index=image_token)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlavaForConditionalGeneration(config).save_pretrained(root)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(root)
    save_prompt(root, BARE)
    return root


def test_a_llava_answers_and_its_log_probabilities_are_those_of_a_whole_forward_pass(folder: Path) -> None:
    chat, model = ChatFormat.from_pretrained(folder, IEA), load_model(folder).eval()
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    common = {"image": photo, "recipe": "{}", "feedback": "", "turns_left": 1}
    requests = ("warmer.", "make it much warmer and slightly darker.")
    prompts = [chat.encode({**common, "instruction": request}) for request in requests]
    assert prompts[0].features["pixel_values"].shape == (1, 3, 32, 32)
    generator = TransformersGenerator(model, pad_id=chat.pad_id, eos_ids=[chat.eos_id])
    answers = generator.generate(prompts, group_size=2, max_new_tokens=8)

    batch = collate([prompts[0]] * 2 + [prompts[1]] * 2, chat.pad_id, [answer.token_ids for answer in answers])
    sampled = batch.pop("completion_mask")[:, 1:]
    with torch.inference_mode():
        logs = distribution(model(**batch).logits[:, :-1], 1.0, generator.suppressed)
    chosen = logs.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    for row, answer in enumerate(answers):
        assert np.allclose(chosen[row][sampled[row]].numpy(), answer.logprobs, atol=1e-4)
