from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from retouch_agents.sft.optimizer import FullPrecisionAdamW


def run(weight: Parameter, steps: int, lr: float = 1e-4) -> FullPrecisionAdamW:
    optimizer = FullPrecisionAdamW([weight], lr=lr, weight_decay=0.0)
    for _ in range(steps):
        torch.autograd.backward(weight.sum())
        optimizer.collect()
        optimizer.step(lr, 1e9)
    return optimizer


def test_steps_below_the_resolution_of_bfloat16_add_up() -> None:
    weight, plain = (Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(2))
    run(weight, 100)
    adamw = torch.optim.AdamW([plain], lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        torch.autograd.backward(plain.sum())
        adamw.step()
        adamw.zero_grad()
    assert plain.tolist() == [1, 1, 1]
    assert weight.tolist() == pytest.approx([0.99] * 3, abs=2e-3)


def test_float32_weights_have_no_copy_and_move_as_with_adamw() -> None:
    weight, plain = (Parameter(torch.ones(3)) for _ in range(2))
    optimizer = run(weight, 5)
    adamw = torch.optim.AdamW([plain], lr=1e-4, weight_decay=0.0, betas=(0.9, 0.98))
    for _ in range(5):
        adamw.zero_grad()
        torch.autograd.backward(plain.sum())
        adamw.step()
    assert optimizer.copies == []
    assert torch.equal(weight, plain)


def test_gradients_of_micro_batches_add_up_in_float32() -> None:
    weight = Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = FullPrecisionAdamW([weight], lr=0.0, weight_decay=0.0)
    for scale in [1.0] + [2**-9] * 64:  # each too small to be added to 1 in bfloat16
        torch.autograd.backward((weight * scale).sum())
        optimizer.collect()
    assert optimizer.step(0.0, 1e9) == pytest.approx(1 + 64 * 2**-9)


def test_copies_come_back_exactly() -> None:
    weight = Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = run(weight, 7)
    again = FullPrecisionAdamW([Parameter(torch.zeros(4, dtype=torch.bfloat16))], lr=1e-4, weight_decay=0.0)
    again.load_copies(optimizer.copies)
    assert torch.equal(again.masters[0], optimizer.masters[0])
    assert torch.equal(again.weights[0], weight)


def test_frozen_weights_are_passed_over() -> None:
    frozen = Parameter(torch.ones(2), requires_grad=False)
    assert FullPrecisionAdamW([frozen, Parameter(torch.ones(3))], lr=0.1, weight_decay=0.0).weights[0].shape == (3,)
