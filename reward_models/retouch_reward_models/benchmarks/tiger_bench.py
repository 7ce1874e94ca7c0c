"""EditReward-Bench of EditReward (TIGER-Lab)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retouch_gym.errors import DatasetError
from retouch_reward_models.benchmarks.base import PreferenceBenchmark, PreferencePair
from retouch_reward_models.benchmarks.tables import Table, open_table

_CANDIDATES = tuple(f"candidate_{number}" for number in range(1, 5))
_LETTER = re.compile(r"[A-D]")
_COMPARISON = re.compile(r"([A-D])vs([A-D])")


def load_tiger_bench(source: str | Path, split: str | None = None) -> PreferenceBenchmark:
    """Read TIGER-Lab's EditReward-Bench (``TIGER-Lab/EditReward-Bench``) from disk.

    Known from the public repository TIGER-AI-Lab/EditReward (arXiv 2509.26346): rows ``id``, ``instruction``,
    ``source_image``, ``candidate_1``, ``candidate_2``, ``ranking`` such as ``A>B``, ``C>A`` or ``A=B`` (also written
    ``A=B=Good`` and ``A=B=Bad``), ``comparison_type`` such as ``AvsC`` (the letters of the two candidates), and
    ``dataset``: ``2pair`` (186 rows), ``3pair`` (150 groups of 3 rows) or ``4pair`` (148 groups of 6). Rows of one
    group share what stands before the first underscore of their ``id``. A group counts when all its pairs are right
    (`AccuracyResult.groups`); the published table gives that for each K and over all groups. Rows with
    ``candidate_3`` and ``candidate_4`` and a ranking of all of them (``C>A>B``) are read too, each as a group.

    Different on purpose: there the margin within which two scores count as equal is tuned on the benchmark itself;
    here it is an argument of `pairwise_accuracy`, 0 unless given.

    Args:
        source: See `retouch_reward_models.benchmarks.tables.open_table`.
        split: Which files; None takes all.

    Raises:
        DatasetError: If it cannot be read, or a row lacks something or ranks what it does not hold.
    """
    table = open_table(source, ("source_image", *_CANDIDATES), split)
    pairs: list[PreferencePair] = []
    sizes: dict[str, int] = {}
    for number, row in enumerate(table.rows):
        count = _count(table, number)
        found = _two(table, number, row) if count == 2 else _several(table, number, row, count)
        pairs += found
        for pair in found:
            ways = int(pair.kind.removesuffix("pair"))
            sizes[pair.group] = ways * (ways - 1) // 2
    return PreferenceBenchmark("tiger-bench", tuple(pairs), sizes)


def read_ranking(text: str) -> dict[str, int]:
    """The place of every letter, 0 the best; letters joined by ``=`` share theirs.

    Args:
        text: For instance ``"C>A>B"``, ``"A<B"``, ``"A=B"`` or ``"A=B=Good"``.

    Raises:
        DatasetError: If it is none of these, or a letter occurs twice.
    """
    plain = text.replace(" ", "")
    plain = re.sub(r"=(?:Good|Bad)$", "", plain)
    if "<" in plain and ">" not in plain:
        plain = ">".join(reversed(plain.split("<")))
    levels = [level.split("=") for level in plain.split(">")]
    letters = list(itertools.chain.from_iterable(levels))
    if len(letters) < 2 or len(set(letters)) < len(letters) or not all(map(_LETTER.fullmatch, letters)):
        raise DatasetError(f"The ranking {text!r} cannot be read; expected something like 'A>B', 'C>A>B' or 'A=B'.")
    return {letter: place for place, level in enumerate(levels) for letter in level}


def _two(table: Table, number: int, row: Mapping[str, Any]) -> list[PreferencePair]:
    """A row that compares two edits, of a group of two, three or four."""
    name, kind = _word(row, number, "id", str(number)), _word(row, number, "dataset", "2pair")
    if kind not in ("2pair", "3pair", "4pair"):
        raise DatasetError(f"Row {number} of TIGER-Lab's EditReward-Bench: 'dataset' is {kind!r}.")
    match = _COMPARISON.fullmatch(_word(row, number, "comparison_type", "AvsB"))
    places = read_ranking(_word(row, number, "ranking"))
    if match is None or set(places) != set(match.groups()):
        raise DatasetError(
            f"Row {number} of TIGER-Lab's EditReward-Bench ranks {sorted(places)} and compares "
            f"{row.get('comparison_type')!r}; expected the same two letters."
        )
    group = f"{kind}/{number}" if kind == "2pair" else f"{kind}/{name.partition('_')[0]}"
    return [_pair(table, number, row, kind, group, (0, 1), (places[match[1]], places[match[2]]))]


def _several(table: Table, number: int, row: Mapping[str, Any], count: int) -> list[PreferencePair]:
    """A row that ranks three or four edits."""
    places = read_ranking(_word(row, number, "ranking"))
    letters = [chr(ord("A") + place) for place in range(count)]
    if set(places) != set(letters):
        raise DatasetError(
            f"Row {number} of TIGER-Lab's EditReward-Bench ranks {sorted(places)} and holds {count} candidates."
        )
    kind = f"{count}pair"
    return [
        _pair(
            table, number, row, kind, f"{kind}/{number}", (one, other), (places[letters[one]], places[letters[other]])
        )
        for one, other in itertools.combinations(range(count), 2)
    ]


def _pair(
    table: Table,
    number: int,
    row: Mapping[str, Any],
    kind: str,
    group: str,
    shown: tuple[int, int],
    places: tuple[int, int],
) -> PreferencePair:
    first, second = (_CANDIDATES[place] for place in shown)
    return PreferencePair(
        id=f"{number}/{row.get('id', number)}/{shown[0] + 1}v{shown[1] + 1}",
        instruction=_word(row, number, "instruction"),
        before=table.photo(number, "source_image"),
        first=table.photo(number, first),
        second=table.photo(number, second),
        preference=(places[0] < places[1]) - (places[0] > places[1]),
        kind=kind,
        group=group,
    )


def _count(table: Table, number: int) -> int:
    """How many candidates a row has; a column may be there and empty."""
    for count in (4, 3):
        column = _CANDIDATES[count - 1]
        if column in table.columns and table.cell(number, column) is not None:
            return count
    return 2


def _word(row: Mapping[str, Any], number: int, name: str, default: str | None = None) -> str:
    value = row.get(name)
    value = default if value is None else value
    if isinstance(value, int) and not isinstance(value, bool) and name == "id":
        return str(value)
    if not isinstance(value, str):
        raise DatasetError(f"Row {number} of TIGER-Lab's EditReward-Bench: {name!r} is {value!r}, expected a string.")
    return value
