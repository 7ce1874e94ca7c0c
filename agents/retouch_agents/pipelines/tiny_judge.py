"""A tiny judge built from nothing: the model, its words, and what it learns from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retouch_agents.sft import SFTConfig, SFTTrainer
from retouch_agents.tiny import TinySize, build_tiny
from retouch_gym.datasets.grammar import ADJECTIVES, words
from retouch_gym.tools.iea import IEA
from retouch_reward_models.grm.files import save_judge_prompt
from retouch_reward_models.grm.prompts import JudgePrompt
from retouch_reward_models.grm.verdict import BEST
from retouch_reward_models.training.demonstrations import JudgeDemonstrations
from retouch_reward_models.training.oracle import NOTE_LIMIT, OTHER

TINY_PROMPT = JudgePrompt(system="", user="{instruction}", views=("before", "difference"), longest=None)
"""A tiny judge sees the photo before and the difference of each edit, and the request: nothing that it would have to
learn to ignore."""

MAX_TOKENS = 48
"""Enough for a verdict about two edits."""

_STEP = 5


def build_tiny_judge(folder: str | Path, *, size: TinySize | None = None, seed: int = 0) -> Path:
    """Write a tiny judge with random weights into a folder, with its prompt; verdicts are lines.

    A weight with its separator is one token, and so is a note, and a score with its equals sign.

    Args:
        folder: Where to write; opens with `load_generalist` and trains with `SFTTrainer`.
        size: Sizes of the model; photos are seen at 32 pixels by default.
        seed: Seed of the weights.
    """
    notes = [f"|{value}" for value in range(-NOTE_LIMIT, NOTE_LIMIT + 1, _STEP)]
    scores = [f"={value}" for value in range(round(BEST) + 1)]
    whole = [*ADJECTIVES, OTHER, *notes, *scores]
    built = build_tiny(folder, IEA, words(), size=size or TinySize(image_side=32), seed=seed, whole=whole)
    save_judge_prompt(built, TINY_PROMPT, "lines")
    return built


def teach_judge(
    base: Path, output: Path, pairs: Any, config: SFTConfig, *, both: float = 0.4, seed: int = 0
) -> Iterator[dict[str, float]]:
    """Supervised fine-tuning of a tiny judge on the right verdicts about pairs; yields rows of metrics.

    Args:
        base: Folder of the judge to start from.
        output: Folder of the trained one.
        pairs: See `retouch_reward_models.training.pairs.get_pairs`.
        config: Settings.
        both: Share of examples that show both edits.
        seed: Seed of what is shown.
    """
    demonstrations = JudgeDemonstrations(pairs, TINY_PROMPT, "lines", both=both, seed=seed)
    yield from SFTTrainer(base, output, demonstrations, config).train()
