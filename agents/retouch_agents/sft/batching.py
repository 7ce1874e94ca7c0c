"""Which examples share a batch: less padding, the same examples, the same gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np

from retouch_agents.sft.examples import Example


def window_start(step: int, bucket: int) -> int:
    """The first step of the window in which `step` lies; `step` itself without windows (`bucket` 0)."""
    return step - step % bucket if bucket else step


def bucketed(batches: Iterator[list[Example]], steps: range, bucket: int) -> Iterator[list[Example]]:
    """Batches of examples of like length, from windows of `bucket` steps.

    The examples of a window are sorted by length and cut into as many batches as it has steps, which come in an order
    drawn from the window's first step alone, so that no window runs from short to long. Holds one window in memory.

    Args:
        batches: The batches of `steps`, in their own order.
        steps: From the start of a window to the last step of the run.
        bucket: Steps of a window; the last one may have fewer.
    """
    for start in range(steps.start, steps.stop, bucket):
        count = min(bucket, steps.stop - start)
        examples = sorted(chain.from_iterable(islice(batches, count)), key=_length)
        size = len(examples) // count
        for number in np.random.default_rng(start).permutation(count):
            yield examples[number * size : (number + 1) * size]


def split_evenly(examples: Sequence[Example], parts: int) -> list[list[Example]]:
    """The examples in their order, in `parts` micro-batches of the same size."""
    size = len(examples) // parts
    return [list(examples[start : start + size]) for start in range(0, len(examples), size)]


def split_by_tokens(examples: Sequence[Example], most: int) -> list[list[Example]]:
    """The examples, by length, in micro-batches of at most `most` token positions, padding included.

    A tight batch (see `retouch_agents.sft.examples.stack`) of n examples takes n times the longest. An example that is
    longer than `most` goes alone.
    """
    parts: list[list[Example]] = []
    for example in sorted(examples, key=_length):
        if not parts or (len(parts[-1]) + 1) * example.length > most:
            parts.append([])
        parts[-1].append(example)
    return parts


def _length(example: Example) -> int:
    return example.length
