"""What batches of like length save: share of padding and tokens per second of supervised fine-tuning.

    python benchmarks/sft_batching.py [steps]

One tiny model on the CPU, one set of requests whose lengths are log-normal (median 20 words, σ 1), four ways to batch
them. Each way is run three times, in turns; medians are printed. The last column counts the seconds of this process
alone, which other processes of the machine disturb less.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from retouch_agents.sft import Demonstration, SFTConfig, SFTTrainer
from retouch_agents.tiny import build_tiny
from retouch_gym.chat import user_message
from retouch_gym.tools.iea import IEA

WORDS = ["cooler", "and", "brighter", "please", "the", "photo", "is", "too", "warm", "dark"]
WAYS = {
    "as they come": {},
    "bucket=8": {"bucket": 8},
    "max_tokens_per_micro_batch=1024": {"max_tokens_per_micro_batch": 1024},
    "both": {"bucket": 8, "max_tokens_per_micro_batch": 1024},
}
REPEATS = 3


class MixedLengths:
    """Requests of 1 to 400 words with a photo of 64 pixels, and answers of 4 to 40 words."""

    def __init__(self, count: int = 512) -> None:
        rng = np.random.default_rng(0)
        self.requests = np.clip(rng.lognormal(np.log(20), 1.0, count), 1, 400).astype(int)
        self.answers = rng.integers(4, 41, count)

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> Demonstration:
        photo = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        return [user_message(_words(index, self.requests[index]), [photo])], _words(index + 1, self.answers[index])


def _words(seed: int, count: int) -> str:
    return "".join(f" {WORDS[(seed + place) % len(WORDS)]}" for place in range(count))


def main(steps: int) -> None:
    """Measure and print a table."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        base = build_tiny(Path(folder) / "base", IEA, WORDS)
        for _ in range(REPEATS):
            for way, changes in WAYS.items():
                # One row of the whole run; the first two steps of a process are slow and are not in it.
                config = SFTConfig(steps=steps, batch_size=16, workers=0, log_every=steps, number_sigma=0, **changes)
                trainer = SFTTrainer(base, Path(folder) / "out", MixedLengths(), config)
                began = time.process_time()
                (row,) = trainer.train()
                tokens = row["tokens_per_s"] / row["examples_per_s"] * steps * config.batch_size
                found[way].append({**row, "tokens_per_cpu_s": tokens / (time.process_time() - began)})
    print("| | padding | tokens/s | examples/s | tokens per CPU second |\n|---|---|---|---|---|")
    for way, rows in found.items():
        median = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
        print(
            f"| {way} | {median['padding']:.1%} | {median['tokens_per_s']:,.0f} | {median['examples_per_s']:.1f} "
            f"| {median['tokens_per_cpu_s']:,.0f} |"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
