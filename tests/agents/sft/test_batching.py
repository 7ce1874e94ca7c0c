from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain, pairwise

import numpy as np
import pytest

from retouch_agents.encoding import Prompt
from retouch_agents.sft import Example
from retouch_agents.sft.batching import bucketed, split_by_tokens, split_evenly, window_start


def make(seed: int, count: int) -> list[Example]:
    lengths = np.random.default_rng(seed).integers(1, 100, (count, 2))
    return [
        Example(Prompt(np.arange(int(prompt))), np.arange(int(answer), dtype=np.int64)) for prompt, answer in lengths
    ]


def names(examples: Iterable[Example]) -> Counter[int]:
    return Counter(id(example) for example in examples)


def positions(part: list[Example]) -> int:
    return len(part) * max(example.length for example in part)


def test_a_window_has_the_same_examples_in_batches_of_like_length() -> None:
    batches = [make(step, 6) for step in range(10)]
    found = list(bucketed(iter(batches), range(10), 4))
    assert [len(batch) for batch in found] == [6] * 10
    for start, stop in ((0, 4), (4, 8), (8, 10)):
        window, expected = found[start:stop], batches[start:stop]
        assert names(chain.from_iterable(window)) == names(chain.from_iterable(expected))
        spans = sorted((min(e.length for e in batch), max(e.length for e in batch)) for batch in window)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_a_window_is_the_same_whenever_it_is_begun() -> None:
    batches = [make(step, 3) for step in range(9)]
    whole = list(bucketed(iter(batches), range(9), 4))
    start = window_start(6, 4)
    assert start == 4
    resumed = list(bucketed(iter(batches[start:]), range(start, 9), 4))
    assert [list(map(id, batch)) for batch in resumed] == [list(map(id, batch)) for batch in whole[start:]]
    assert window_start(6, 0) == 6


@pytest.mark.parametrize("most", [150, 400, 3000])
def test_no_micro_batch_is_larger_than_allowed(most: int) -> None:
    examples = make(0, 40)
    parts = split_by_tokens(examples, most)
    assert names(chain.from_iterable(parts)) == names(examples)
    assert all(positions(part) <= most or len(part) == 1 for part in parts)
    assert len(parts) < len(examples)


def test_an_example_longer_than_allowed_goes_alone() -> None:
    examples = make(0, 4)
    assert [len(part) for part in split_by_tokens(examples, 1)] == [1, 1, 1, 1]


def test_even_parts_keep_the_order() -> None:
    examples = make(0, 6)
    assert list(chain.from_iterable(split_evenly(examples, 3))) == examples
    assert [len(part) for part in split_evenly(examples, 3)] == [2, 2, 2]
