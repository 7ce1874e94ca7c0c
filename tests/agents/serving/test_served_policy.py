"""What a runner samples with, and how it follows the policy."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import Prompt
from retouch_agents.finetuning import FineTuning, adapter_layers
from retouch_agents.generation import TransformersGenerator
from retouch_agents.models import load_model, load_policy
from retouch_agents.rllib.generators import Follower, make_generator
from retouch_agents.serving import EndpointSettings
from retouch_gym.errors import ConfigurationError


def test_a_served_policy_follows_the_policy(
    server: Any, tiny_folder: Path, tiny_chat: ChatFormat, prompts: list[Prompt], tmp_path: Path
) -> None:
    policy = load_policy(tiny_folder, FineTuning(lora_rank=4))
    settings = pickle.loads(pickle.dumps(EndpointSettings("tiny", server.url, adapter_folder=str(tmp_path))))
    served = make_generator(settings, policy, tiny_chat, max_rows=8)
    local = make_generator(None, policy, tiny_chat, max_rows=8)
    assert isinstance(served, Follower)
    assert isinstance(local, TransformersGenerator)
    before = None
    for seed in range(2):
        torch.manual_seed(seed)
        with torch.no_grad():
            for layer in adapter_layers(policy):
                layer.lora_B["default"].weight.normal_(std=0.5)
        served.follow(policy)
        found = [answer.token_ids.tolist() for answer in served.generate(prompts, temperature=0.0, max_new_tokens=12)]
        assert found == [a.token_ids.tolist() for a in local.generate(prompts, temperature=0.0, max_new_tokens=12)]
        assert found != before
        before = found
        # The one before is gone from the server and from the disk.
        assert len(server.adapters) == 1
        assert [str(path) for path in tmp_path.iterdir()] == [*server.adapters.values()]
    served.close()
    assert not server.adapters
    assert not [*tmp_path.iterdir()]


def test_full_weights_cannot_be_pushed(tiny_folder: Path, tiny_chat: ChatFormat) -> None:
    with pytest.raises(ConfigurationError, match="lora_rank"):
        make_generator(EndpointSettings("tiny"), load_model(tiny_folder), tiny_chat, max_rows=8)


def test_a_generator_of_ones_own(tiny_folder: Path, tiny_chat: ChatFormat) -> None:
    policy = load_model(tiny_folder)
    made = make_generator(
        lambda model, chat: TransformersGenerator(model, pad_id=chat.pad_id, eos_ids=[chat.eos_id], max_rows=3),
        policy,
        tiny_chat,
        max_rows=8,
    )
    assert isinstance(made, TransformersGenerator)
    assert made.model is policy
    assert made.max_rows == 3
