from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retouch_agents.chat import ChatFormat
from retouch_agents.encoding import collate
from retouch_agents.models import load_model
from retouch_agents.sft import Examples, SFTConfig, SFTTrainer, completion_loss, soft_labels
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.errors import ConfigurationError
from retouch_gym.tools import IEA

ENV = {
    "dataset": "retouch_gym.testing.doubles:TinyDataset",
    "renderer": "retouch_gym.testing.doubles:TinyRenderer",
    "reward": "edit",
}
SIZE = TinySize(hidden=32, layers=2, heads=2, vision_hidden=16, vision_layers=1)
CONFIG = SFTConfig(steps=6, batch_size=4, workers=0, log_every=1, checkpoint_every=3, warmup=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["cooler", "and", "brighter", "please", "the", "photo", "is", "too", "warm", "dark"]
    return build_tiny(tmp_path_factory.mktemp("base"), IEA, words, size=SIZE)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(folder).state_dict())


def train(base: Path, output: Path, **changes: Any) -> list[dict[str, float]]:
    return list(SFTTrainer(base, output, ENV, replace(CONFIG, **changes)).train())


def test_every_parameter_moves_and_the_loss_falls(base: Path, tmp_path: Path) -> None:
    rows = train(base, tmp_path / "sft", steps=30)
    before, after = weights(base), weights(tmp_path / "sft")
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert [row["step"] for row in rows] == list(range(1, 31))


def test_only_answer_tokens_carry_loss(base: Path) -> None:
    model = load_model(base)
    chat = ChatFormat.from_pretrained(base, IEA)
    examples = Examples(base, ENV, range(1), 3)
    prompts, answers = zip(*(examples[index] for index in range(3)), strict=True)
    batch = collate(prompts, chat.pad_id, answers)
    labels = soft_labels(chat.tokenizer.convert_ids_to_tokens(range(len(chat.tokenizer))), 0.0)
    loss = completion_loss(model, batch, labels, float(sum(map(len, answers))))

    inputs = {name: tensor for name, tensor in batch.items() if name != "completion_mask"}
    log_probs = torch.log_softmax(model(**inputs).logits, dim=-1)[:, :-1]
    chosen = log_probs.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    expected = -chosen[batch["completion_mask"][:, 1:]].mean()
    assert torch.allclose(loss, expected, atol=1e-5)


def test_one_by_four_equals_four_by_one(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "whole", steps=3, micro_batches=1)
    train(base, tmp_path / "parts", steps=3, micro_batches=4)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name in whole:
        # Adam divides by the gradient's size, so rounding shows where the gradient is almost nothing.
        assert torch.allclose(whole[name], parts[name], atol=2e-4), name


def test_an_interrupted_run_ends_as_an_uninterrupted_one(base: Path, tmp_path: Path) -> None:
    expected = train(base, tmp_path / "straight")
    cut = SFTTrainer(base, tmp_path / "cut", ENV, CONFIG)
    rows = []
    for row in cut.train():
        rows.append(row)
        if row["step"] == 4:
            break
    resumed = SFTTrainer(base, tmp_path / "cut", ENV, CONFIG)
    assert resumed.step == 3
    rows = [row for row in rows if row["step"] <= resumed.step] + list(resumed.train())
    assert [row["loss"] for row in rows] == [row["loss"] for row in expected]
    straight, again = weights(tmp_path / "straight"), weights(tmp_path / "cut")
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert [path.name for path in tmp_path.iterdir() if "checkpoint" in path.name] == []


def test_data_workers_give_the_same_batches(base: Path, tmp_path: Path) -> None:
    alone = train(base, tmp_path / "alone", steps=2)
    beside = train(base, tmp_path / "beside", steps=2, workers=1)
    assert [row["loss"] for row in alone] == [row["loss"] for row in beside]


def test_numbers_are_softened_towards_their_neighbours() -> None:
    tokens = ["a", "-5", "0", "5", "10", "{"]
    labels = soft_labels(tokens, 1.0)
    assert torch.allclose(labels.sum(dim=1), torch.ones(6))
    assert labels[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert labels[2, 2] > labels[2, 3] > labels[2, 4] > 0
    assert labels[2, 1] == labels[2, 3]
    assert torch.equal(soft_labels(tokens, 0.0), torch.eye(6))


def test_micro_batches_must_divide() -> None:
    with pytest.raises(ConfigurationError, match="cannot be split"):
        SFTConfig(batch_size=10, micro_batches=3)
