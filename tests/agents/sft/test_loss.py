from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retouch_agents.chat import ConversationFormat
from retouch_agents.models import load_model, load_processor
from retouch_agents.sft import Demonstrations, Example, Examples, completion_loss, soft_labels
from retouch_agents.sft.examples import stack
from retouch_agents.sft.loss import LARGEST_SOFT, count_right
from retouch_gym.errors import ConfigurationError


@pytest.fixture
def chat(base: Path) -> ConversationFormat:
    return ConversationFormat(load_processor(base))


def examples_of(base: Path, data: Demonstrations, count: int) -> list[Example]:
    examples = Examples(base, data, range(1), count)
    return [examples[index] for index in range(count)]


def all_log_probs(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """log p of every token of the batch but the first, (B, T − 1), from an ordinary forward pass."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "completion_mask"}
    log_probs = torch.log_softmax(model(**inputs).logits, dim=-1)[:, :-1]
    return log_probs.gather(2, batch["input_ids"][:, 1:, None])[..., 0]


@pytest.mark.parametrize("kind", ["mixed", "talks"])
def test_only_answer_tokens_carry_loss(
    base: Path, chat: ConversationFormat, kind: str, request: pytest.FixtureRequest
) -> None:
    model = load_model(base)
    examples = examples_of(base, request.getfixturevalue(kind), 4)
    batch = stack(examples, chat.pad_id)
    tokens = sum(example.learned for example in examples)
    labels = soft_labels(chat.tokenizer.convert_ids_to_tokens(range(len(chat.tokenizer))), 0.0)
    expected = -all_log_probs(model, batch)[batch["completion_mask"][:, 1:]].mean().detach()
    assert int(batch["completion_mask"].sum()) == tokens
    for target in (labels, None):
        assert torch.allclose(completion_loss(model, batch, target, tokens), expected, atol=1e-5)
    loss, right = count_right(model, batch)
    assert loss / tokens == pytest.approx(float(expected), abs=1e-5)
    assert 0 <= right <= tokens


def test_logits_get_no_gradient_where_others_speak(base: Path, chat: ConversationFormat, talks: Demonstrations) -> None:
    model = load_model(base)
    batch = stack(examples_of(base, talks, 3), chat.pad_id)
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], logits: torch.Tensor) -> None:
        logits.retain_grad()
        seen.append(logits)

    # All logits are computed here, so that those which get no gradient are there to be looked at.
    head = model.get_output_embeddings()
    head.register_forward_hook(keep)
    inputs = {name: tensor for name, tensor in batch.items() if name != "completion_mask"}
    log_probs = torch.log_softmax(model(**inputs).logits[:, :-1], dim=-1)
    mask = batch["completion_mask"]
    torch.autograd.backward(-log_probs.gather(2, batch["input_ids"][:, 1:, None])[..., 0][mask[:, 1:]].sum())
    whole = seen.pop()
    assert whole.grad is not None
    expected = whole.grad[:, :-1][mask[:, 1:]]

    torch.autograd.backward(completion_loss(model, batch, None, 1.0))
    kept = seen.pop()
    assert kept.grad is not None
    columns = mask.any(dim=0).nonzero()[:, 0]
    assert kept.shape[1] == len(columns) < mask.shape[1] - 1
    assert torch.allclose(kept.grad[mask[:, columns]], expected, atol=1e-5)
    assert not kept.grad[~mask[:, columns]].any()
    assert not whole.grad[:, :-1][~mask[:, 1:]].any()


def test_numbers_are_softened_towards_their_neighbours() -> None:
    tokens = ["a", "-5", "0", "5", "10", "{"]
    labels = soft_labels(tokens, 1.0)
    assert torch.allclose(labels.sum(dim=1), torch.ones(6))
    assert labels[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert labels[2, 2] > labels[2, 3] > labels[2, 4] > 0
    assert labels[2, 1] == labels[2, 3]
    assert torch.equal(soft_labels(tokens, 0.0), torch.eye(6))


def test_a_vocabulary_too_large_for_a_table_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Set number_sigma=0"):
        soft_labels([str(index) for index in range(LARGEST_SOFT + 1)], 1.0)
