"""TIGER-Lab's EditReward-Bench: a group counts when all its pairs are right."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retouch_gym.errors import DatasetError
from retouch_reward_models.benchmarks import load_tiger_bench, pairwise_accuracy
from retouch_reward_models.benchmarks.tiger_bench import read_ranking


def row(
    bench: SimpleNamespace, folder: Path, name: str, kind: str, letters: str, greys: tuple[int, int], ranking: str
) -> dict[str, Any]:
    return {
        "id": name,
        "dataset": kind,
        "instruction": f"edit {name}",
        "source_image": bench.grey(folder, 128),
        "candidate_1": bench.grey(folder, greys[0]),
        "candidate_2": bench.grey(folder, greys[1]),
        "comparison_type": letters,
        "ranking": ranking,
    }


def pair_rows(bench: SimpleNamespace, folder: Path) -> list[dict[str, Any]]:
    """Greys of a group's edits A, B, C: x is (150, 100, 50), y (60, 90, 20), z (10, 13, 40)."""
    return [
        row(bench, folder, "p0", "2pair", "AvsB", (200, 100), "A>B"),  # right
        row(bench, folder, "p1", "2pair", "AvsB", (200, 100), "B>A"),  # wrong
        row(bench, folder, "p2", "2pair", "AvsB", (70, 70), "A=B=Good"),  # right: a tie found
        row(bench, folder, "p3", "2pair", "AvsB", (70, 75), "A=B"),  # wrong without a margin
        row(bench, folder, "x_0", "3pair", "AvsB", (150, 100), "A>B"),  # right
        row(bench, folder, "x_1", "3pair", "AvsC", (150, 50), "A>C"),  # right
        row(bench, folder, "x_2", "3pair", "BvsC", (100, 50), "B>C"),  # right
        row(bench, folder, "y_0", "3pair", "AvsB", (60, 90), "A>B"),  # wrong
        row(bench, folder, "y_1", "3pair", "AvsC", (60, 20), "A>C"),  # right
        row(bench, folder, "y_2", "3pair", "BvsC", (90, 20), "B>C"),  # right
        row(bench, folder, "z_0", "3pair", "AvsB", (10, 13), "A>B"),  # invalid
        row(bench, folder, "z_1", "3pair", "AvsC", (10, 40), "C>A"),  # right
        row(bench, folder, "z_2", "3pair", "BvsC", (13, 40), "C>B"),  # invalid
        row(bench, folder, "w_0", "4pair", "AvsB", (30, 20), "A>B"),  # right, five of six are missing
    ]


def test_accuracies_are_those_counted_by_hand(bench: SimpleNamespace, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "tiger", pair_rows(bench, tmp_path / "tiger"))
    result = pairwise_accuracy(bench.Brightness(), load_tiger_bench(folder), progress=False)
    assert [r.right for r in result.rows] == [1, 0, 1, 0, 1, 1, 1, 0, 1, 1, None, 1, None, 1]
    assert result.overall is not None
    assert result.overall.mean == pytest.approx(9 / 12)
    assert {kind: interval.mean for kind, interval in result.by_kind.items()} == {
        "2pair": pytest.approx(2 / 4),
        "3pair": pytest.approx(6 / 7),
        "4pair": 1.0,
    }
    # K = 2: 2 of 4; K = 3: x right, y wrong, z neither known; K = 4: incomplete, so wrong. Together 3 of 7.
    assert {kind: interval.mean for kind, interval in result.groups_by_kind.items()} == {
        "2pair": 0.5,
        "3pair": 0.5,
        "4pair": 0.0,
    }
    assert result.groups is not None
    assert result.groups.mean == pytest.approx(3 / 7)
    assert (result.ties, result.invalid) == (1, 2)
    assert "whole groups: 0.429" in result.report()


def test_a_margin_finds_people_s_ties(bench: SimpleNamespace, tmp_path: Path) -> None:
    folder = bench.write(tmp_path / "tiger", pair_rows(bench, tmp_path / "tiger")[:4])
    result = pairwise_accuracy(bench.Brightness(), load_tiger_bench(folder), margin=5, progress=False)
    assert [r.right for r in result.rows] == [1, 0, 1, 1]
    half = pairwise_accuracy(bench.Brightness(), load_tiger_bench(folder), ties="half", progress=False)
    # Half a point is for ties that people did not see, never for a tie missed.
    assert [r.right for r in half.rows] == [1, 0, 1, 0]


def listwise(bench: SimpleNamespace, folder: Path, greys: list[int], ranking: str) -> dict[str, Any]:
    photos = {f"candidate_{n}": bench.grey(folder, grey) for n, grey in enumerate(greys, 1)}
    return {"id": ranking, "instruction": "go", "source_image": bench.grey(folder, 128), "ranking": ranking} | photos


def test_rows_that_rank_several_edits_are_groups_of_all_their_pairs(bench: SimpleNamespace, tmp_path: Path) -> None:
    folder = tmp_path / "list"
    rows = [
        listwise(bench, folder, [50, 20, 90], "C>A>B"),  # all right
        listwise(bench, folder, [50, 20, 90, 10], "C>A>D>B"),  # B > D by grey: one of six wrong
        listwise(bench, folder, [50, 20], "A>B"),  # a pair among them
        listwise(bench, folder, [50, 50, 20], "A=B>C"),  # all right, a tie among them
    ]
    found = load_tiger_bench(bench.write(folder, rows, "rows.json"))
    assert [len([p for p in found if p.group.endswith(f"/{n}")]) for n in range(4)] == [3, 6, 1, 3]
    result = pairwise_accuracy(bench.Brightness(), found, progress=False)
    assert result.overall is not None
    assert result.overall.mean == pytest.approx(12 / 13)
    assert {kind: interval.mean for kind, interval in result.groups_by_kind.items()} == {
        "2pair": 1.0,
        "3pair": 1.0,
        "4pair": 0.0,
    }
    assert result.groups is not None
    assert result.groups.mean == pytest.approx(3 / 4)


def test_numbers_as_ids_do_not_make_one_group_of_two(bench: SimpleNamespace, tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    rows = [row(bench, folder, "7", "2pair", "AvsB", (200, 100), "A>B") | {"id": 7} for _ in range(2)]
    found = load_tiger_bench(bench.write(folder, rows))
    assert len({pair.group for pair in found}) == 2


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("A>B", {"A": 0, "B": 1}),
        ("A<B", {"B": 0, "A": 1}),
        ("C > A > B", {"C": 0, "A": 1, "B": 2}),
        ("A=B=Bad", {"A": 0, "B": 0}),
        ("A>B=C>D", {"A": 0, "B": 1, "C": 1, "D": 2}),
    ],
)
def test_reads_rankings(text: str, places: dict[str, int]) -> None:
    assert read_ranking(text) == places


@pytest.mark.parametrize("text", ["", "A", "A>A", "A>E", "A?B", "A>B<C", "Good"])
def test_refuses_what_is_no_ranking(text: str) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_ranking(text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"comparison_type": "AvsC"}, "ranks .* compares"),
        ({"dataset": "5pair"}, "'5pair'"),
        ({"ranking": None}, "'ranking' is None"),
        ({"candidate_3": "128-6x4.png"}, "holds 3 candidates"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(
    bench: SimpleNamespace, tmp_path: Path, change: dict, reason: str
) -> None:
    folder = tmp_path / "bad"
    rows = [row(bench, folder, "p0", "2pair", "AvsB", (200, 100), "A>B") | change]
    with pytest.raises(DatasetError, match=reason):
        load_tiger_bench(bench.write(folder, rows))
