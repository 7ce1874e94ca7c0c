"""EditReward-Bench of EditScore (VectorSpaceLab)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retouch_gym.errors import DatasetError
from retouch_reward_models.benchmarks.base import OVERALL, PreferenceBenchmark, PreferencePair
from retouch_reward_models.benchmarks.tables import open_table

EDITSCORE_COMPONENTS: Mapping[str, str] = {"prompt_following": "success", "consistency": "restraint"}
"""Which component of `EditJudge`, `EditScore` and `UnifiedRewardEdit` is compared in which dimension; in the others
the value is."""


def load_editscore_bench(source: str | Path, split: str | None = None) -> PreferenceBenchmark:
    """Read EditScore's EditReward-Bench (``EditScore/EditReward-Bench``) from disk.

    Known from the public repository VectorSpaceLab/EditScore and its benchmark (arXiv 2509.23909): rows ``key`` (the
    names of the two edits), ``instruction``, ``input_image``, ``output_images`` (two, the first preferred),
    ``task_type``, and ``dimension``, one of ``prompt_following``, ``consistency`` and ``overall``; the score of that
    dimension is compared; outputs are resized to the input. Its measure is the accuracy in each task type, averaged
    over the types (`AccuracyResult.macro`). Assumed: that a tie is wrong. The same two edits may be compared in several
    dimensions.

    Args:
        source: See `retouch_reward_models.benchmarks.tables.open_table`. As it lies on the hub: parquet in ``data``.
        split: Which files; None takes all.

    Raises:
        DatasetError: If it cannot be read or a row lacks something.
    """
    table = open_table(source, ("input_image", "output_images"), split)
    pairs = []
    for number, row in enumerate(table.rows):
        dimension = _word(row, number, "dimension", OVERALL)
        pairs.append(
            PreferencePair(
                id=f"{number}/{_key(row, number)}/{dimension}",
                instruction=_word(row, number, "instruction"),
                before=table.photo(number, "input_image"),
                first=table.photo(number, "output_images", 0),
                second=table.photo(number, "output_images", 1),
                preference=1,
                kind=_word(row, number, "task_type"),
                dimension=dimension,
            )
        )
    return PreferenceBenchmark("editscore-bench", tuple(pairs))


def _key(row: Mapping[str, Any], number: int) -> str:
    key = row.get("key")
    if isinstance(key, list) and key and all(isinstance(part, str) for part in key):
        return "|".join(key)
    return _word(row, number, "key")


def _word(row: Mapping[str, Any], number: int, name: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if not isinstance(value, str):
        raise DatasetError(f"Row {number} of EditScore's EditReward-Bench: {name!r} is {value!r}, expected a string.")
    return value
