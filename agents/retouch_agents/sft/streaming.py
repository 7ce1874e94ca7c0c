"""Ray Data as the source of examples: encoded on the workers of a cluster, in order, no faster than they are used."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, ExecutionResources

from retouch_agents.sft.examples import Example, Examples
from retouch_gym.errors import ConfigurationError, StateError

STEPS_PER_DATASET = 2048
"""Ray Data plans each step as a task of its own before the first one runs, so a long run is fed in pieces."""


def stream(
    examples: Examples, batch_size: int, workers: int, buffer_bytes: int | None = None
) -> Iterator[list[Example]]:
    """The batches of a range of steps, encoded by Ray Data.

    The workers are an actor pool, each with its own processor. A batch is a task; batches come in the order of their
    steps whatever the number of workers and whichever ends first (``preserve_order``). Workers pause when what waits
    to be used fills the budget (back-pressure), so the data is never all in memory. To resume, begin with `examples`
    of a later step: nothing before it is encoded.

    Args:
        examples: What is encoded; goes to each worker once.
        batch_size: Examples of a batch; divides their number.
        workers: Actors, of one core each; reading takes another core.
        buffer_bytes: Object store memory that may be filled ahead; None leaves it to Ray: half of the object store.

    Raises:
        ConfigurationError: If Ray does not run, or has too few cores, so that it would wait for ever.
    """
    _check_cluster(workers)
    rows = batch_size * STEPS_PER_DATASET
    for start in range(0, len(examples), rows):
        count = min(rows, len(examples) - start)
        yield from _piece(examples, start, count, batch_size, workers, buffer_bytes)


def _piece(
    examples: Examples, start: int, count: int, batch_size: int, workers: int, buffer_bytes: int | None
) -> Iterator[list[Example]]:
    dataset = ray.data.range(count, override_num_blocks=count // batch_size).map_batches(
        _Encode,
        fn_constructor_args=(examples, start),
        batch_size=batch_size,
        batch_format="numpy",
        compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
    )
    # Of this dataset alone: other users of Ray Data in this process keep their settings.
    context = dataset.context
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    if buffer_bytes is not None:
        context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=buffer_bytes)
    expected = 0
    for table in dataset.iter_batches(batch_size=batch_size, batch_format="pyarrow", prefetch_batches=2):
        assert isinstance(table, pa.Table)
        found = table["id"].to_pylist()
        if found != list(range(expected, expected + batch_size)):
            raise StateError(f"Ray Data gave examples {found[:3]}… where {expected} was next; the order is not kept.")
        expected += batch_size
        yield [pickle.loads(example.as_buffer()) for example in table["example"]]


class _Encode:
    """Encodes examples in a worker; each as pickled bytes, which keeps every array's type and shape."""

    def __init__(self, examples: Examples, start: int) -> None:
        self.examples = examples
        self.start = start

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        ids = np.asarray(batch["id"], dtype=np.int64)
        encoded = [pickle.dumps(self.examples[self.start + int(index)], protocol=5) for index in ids]
        return pa.table({"id": ids, "example": pa.array(encoded, type=pa.large_binary())})


def _check_cluster(workers: int) -> None:
    if not ray.is_initialized():
        raise ConfigurationError(
            "source 'ray' needs a running Ray: call retouch_agents.rllib.start_ray(num_cpus=…) or "
            "ray.init(address=…) first."
        )
    cores = ray.cluster_resources().get("CPU", 0)
    if cores < workers + 1:
        raise ConfigurationError(
            f"Ray has {cores:g} cores, and {workers} workers of source 'ray' need {workers + 1}: one each, and one to "
            "plan. Start Ray with more, or set fewer workers."
        )
