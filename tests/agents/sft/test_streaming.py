"""Ray Data as the source of examples, on a real cluster of this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from retouch_agents.rllib import start_ray
from retouch_agents.sft import Demonstration, Example, Examples, SFTConfig, SFTTrainer
from retouch_agents.sft.streaming import stream
from retouch_gym.chat import user_message
from retouch_gym.errors import ConfigurationError

pytestmark = pytest.mark.ray
CONFIG = SFTConfig(steps=4, batch_size=4, workers=0, log_every=1, checkpoint_every=2, warmup=2)
ENV = {
    "dataset": "retouch_gym.testing.doubles:TinyDataset",
    "renderer": "retouch_gym.testing.doubles:TinyRenderer",
    "reward": "edit",
}


class Slow:
    """Demonstrations that take unlike times, and leave a file for each that was asked for."""

    def __init__(self, count: int, folder: Path, side: int = 32) -> None:
        self.count = count
        self.folder = folder
        self.side = side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Demonstration:
        (self.folder / f"{index}").touch()
        time.sleep(0.03 * (index % 3 == 0))
        noise = np.random.default_rng(index).integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)
        return [user_message(" cooler" * (1 + index % 7), [noise])], " brighter" * (1 + index % 3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    running = ray.is_initialized()
    start_ray(num_cpus=4)
    # Workers cannot import tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    if not running:
        ray.shutdown()


def same(one: Example, other: Example) -> bool:
    arrays = [{"ids": e.prompt.input_ids, "answer": e.answer, **e.prompt.features} for e in (one, other)]
    assert arrays[0].keys() == arrays[1].keys()
    return all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0]) and all(
        arrays[0][name].dtype == arrays[1][name].dtype for name in arrays[0]
    )


def test_examples_come_in_order_from_any_step_on_and_no_faster_than_used(
    base: Path, tmp_path: Path, cluster: None
) -> None:
    rest = Examples(base, Slow(4000, tmp_path), range(20, 220), 4)
    batches = stream(rest, 4, 2, buffer_bytes=500_000)
    found = [example for _ in range(8) for example in next(batches)]
    asked = [-1]
    while len(asked) < 5 or len(set(asked[-5:])) > 1:
        time.sleep(0.5)
        asked.append(len(list(tmp_path.iterdir())))
    batches.close()
    assert asked[-1] < 400  # of 800: the workers wait for who learns
    assert min(int(path.name) for path in tmp_path.iterdir()) == 80  # nothing before the step was encoded
    assert len(found) == 32
    assert all(same(found[index], rest[index]) for index in range(32))


def test_training_from_ray_gives_the_same_weights(base: Path, tmp_path: Path, cluster: None) -> None:
    rows = {}
    for source, workers in (("torch", 0), ("ray", 1)):
        config = replace(CONFIG, source=source, workers=workers, bucket=2)
        rows[source] = list(SFTTrainer(base, tmp_path / source, ENV, config).train())
    assert [row["loss"] for row in rows["ray"]] == [row["loss"] for row in rows["torch"]]


def test_too_few_cores_are_said_and_not_waited_for(base: Path, tmp_path: Path, cluster: None) -> None:
    with pytest.raises(ConfigurationError, match="Ray has 4 cores, and 4 workers"):
        next(stream(Examples(base, Slow(4, tmp_path), range(1), 4), 4, 4))
