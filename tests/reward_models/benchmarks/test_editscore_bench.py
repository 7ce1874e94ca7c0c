"""EditScore's EditReward-Bench: the first edit is preferred, accuracy is averaged over the types of task."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retouch_gym.errors import ConfigurationError, DatasetError, RewardError
from retouch_gym.rewards.ranking import GroupRank, Tournament
from retouch_reward_models.benchmarks import EDITSCORE_COMPONENTS, load_editscore_bench, pairwise_accuracy

# type, dimension, grey of the preferred edit, grey of the other
EDITS = [
    ("color", "overall", 200, 100),  # right
    ("color", "overall", 50, 100),  # wrong
    ("color", "overall", 80, 80),  # tie
    ("color", "prompt_following", 90, 60),  # right by value; 'success' does not exist here
    ("tone", "overall", 120, 30),  # right
    ("tone", "overall", 13, 30),  # invalid
    ("style", "consistency", 40, 70),  # wrong by value, right by darkness
]


def rows(bench: SimpleNamespace, folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "key": [f"a{number}", f"b{number}"],
            "instruction": f"edit {number % 2}",
            "input_image": bench.grey(folder, 128),
            "output_images": [bench.grey(folder, first, (12, 8)), bench.grey(folder, second)],
            "task_type": kind,
            "dimension": dimension,
        }
        for number, (kind, dimension, first, second) in enumerate(EDITS)
    ]


@pytest.fixture
def folder(bench: SimpleNamespace, tmp_path: Path) -> Path:
    return bench.write(tmp_path / "editscore", rows(bench, tmp_path / "editscore"))


def test_reads_the_rows(folder: Path) -> None:
    found = load_editscore_bench(folder)
    assert len(found) == 7
    assert not found.grouped
    pair = found.pairs[3]
    assert (pair.preference, pair.kind, pair.dimension, pair.instruction) == (1, "color", "prompt_following", "edit 1")
    assert (pair.before.load() == 128).all()
    assert (pair.first.load() == 90).all()
    assert (pair.second.load() == 60).all()


def test_accuracies_are_those_counted_by_hand(bench: SimpleNamespace, folder: Path) -> None:
    result = pairwise_accuracy(bench.Brightness(), load_editscore_bench(folder), progress=False)
    # Valid: color 2 of 4 (a tie is wrong), tone 1 of 1, style 0 of 1.
    assert [row.right for row in result.rows] == [1, 0, 0, 1, 1, None, 0]
    assert result.overall is not None
    assert result.overall.mean == pytest.approx(3 / 6)
    assert {kind: interval.mean for kind, interval in result.by_kind.items()} == {"color": 0.5, "style": 0, "tone": 1}
    assert result.macro is not None
    assert result.macro.mean == pytest.approx((0.5 + 0 + 1) / 3)
    assert (result.ties, result.invalid) == (1, 1)
    assert result.floor == pytest.approx(3 / 7)
    assert result.groups is None
    assert result.rows[5].error == "first: unlucky"
    assert 0 <= result.overall.low < 0.5 < result.overall.high <= 1
    assert {name: interval.mean for name, interval in result.by_dimension.items()} == {
        "consistency": 0,
        "overall": 0.5,
        "prompt_following": 1,
    }


def test_a_tie_may_count_half_and_a_margin_makes_ties(bench: SimpleNamespace, folder: Path) -> None:
    found = load_editscore_bench(folder)
    half = pairwise_accuracy(bench.Brightness(), found, ties="half", progress=False)
    assert half.overall is not None
    assert half.overall.mean == pytest.approx(3.5 / 6)
    wide = pairwise_accuracy(bench.Brightness(), found, margin=30, progress=False)
    # |90 − 60| and |40 − 70| are ties now.
    assert wide.ties == 3
    assert [row.right for row in wide.rows] == [1, 0, 0, 0, 1, None, 0]


def test_a_dimension_may_be_judged_by_a_component(bench: SimpleNamespace, folder: Path) -> None:
    found = load_editscore_bench(folder)
    by = {"consistency": "darkness"}
    result = pairwise_accuracy(bench.Brightness(), found, components=by, progress=False)
    assert [row.right for row in result.rows] == [1, 0, 0, 1, 1, None, 1]
    missing = pairwise_accuracy(bench.Brightness(), found, components=EDITSCORE_COMPONENTS, progress=False)
    assert missing.rows[3].error == "no component 'success' for 'prompt_following'"
    assert missing.invalid == 3


def test_every_edit_is_scored_once_at_the_size_of_the_original(bench: SimpleNamespace, tmp_path: Path) -> None:
    written = rows(bench, tmp_path / "b")[:1] * 3
    for row, dimension in zip(written, ("overall", "consistency", "prompt_following"), strict=True):
        written[written.index(row)] = {**row, "dimension": dimension}
    reward = bench.Brightness()
    found = load_editscore_bench(bench.write(tmp_path / "b", written, "rows.json"))
    result = pairwise_accuracy(reward, found, batch_size=1, progress=False)
    assert sorted(reward.scored) == [100, 200]
    assert reward.shapes == {(4, 6, 3)}
    assert [row.right for row in result.rows] == [1, 1, 1]


def test_missing_photos_are_invalid_and_spoil_nothing(bench: SimpleNamespace, folder: Path) -> None:
    (folder / "120-12x8.png").unlink()
    (folder / "50-12x8.png").write_bytes(b"no photo")
    result = pairwise_accuracy(bench.Brightness(), load_editscore_bench(folder), batch_size=2, progress=False)
    assert [row.right for row in result.rows] == [1, None, 0, 1, None, None, 0]
    assert result.invalid == 3
    assert "120-12x8.png" in str(result.rows[4].error)


def test_a_pairwise_judge_can_be_scored(bench: SimpleNamespace, folder: Path) -> None:
    result = pairwise_accuracy(bench.BrighterWins(), load_editscore_bench(folder), progress=False)
    assert [row.right for row in result.rows] == [1, 0, 0, 1, 1, None, 0]
    assert [row.difference for row in result.rows[:3]] == pytest.approx([0.6, -0.6, 0.0])
    assert result.rows[5].error == "unlucky"
    with pytest.raises(ConfigurationError, match="no components"):
        pairwise_accuracy(bench.BrighterWins(), load_editscore_bench(folder), components={"a": "b"}, progress=False)


def test_liking_what_comes_first_gains_nothing(bench: SimpleNamespace, folder: Path) -> None:
    found = load_editscore_bench(folder)
    judge = bench.LikesThePlace()
    result = pairwise_accuracy(judge, found, progress=False)
    assert judge.asked == 2 * len(found)
    assert result.ties == len(found)
    assert result.overall is not None
    assert result.overall.mean == 0
    fair = bench.LikesThePlace(symmetric=True)
    pairwise_accuracy(fair, found, progress=False)
    assert fair.asked == len(found)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_rewards_that_rank_groups_see_one_pair_a_group(bench: SimpleNamespace, folder: Path, batch_size: int) -> None:
    found = load_editscore_bench(folder)
    for reward in (GroupRank(bench.Brightness()), Tournament(bench.BrighterWins())):
        result = pairwise_accuracy(reward, found, batch_size=batch_size, progress=False)
        assert [row.right for row in result.rows] == [1, 0, 0, 1, 1, None, 0]


def test_edits_of_one_photo_by_one_instruction_are_of_one_task(bench: SimpleNamespace, folder: Path) -> None:
    reward = bench.Brightness()
    pairwise_accuracy(reward, load_editscore_bench(folder), progress=False)
    # Two instructions, one photo.
    assert len(set(reward.tasks)) == 2


def test_what_needs_a_reference_or_a_renderer_is_refused(bench: SimpleNamespace, folder: Path) -> None:
    found = load_editscore_bench(folder)
    with pytest.raises(ConfigurationError, match="needs references"):
        pairwise_accuracy(bench.NeedsReference(), found, progress=False)
    with pytest.raises(ConfigurationError, match="needs references"):
        pairwise_accuracy("likeness", found, progress=False)
    with pytest.raises(RewardError, match="without recipes"):
        pairwise_accuracy(bench.RendersAgain(), found, progress=False)
    with pytest.raises(ConfigurationError, match="margin"):
        pairwise_accuracy(bench.Brightness(), found, margin=-1, progress=False)


def test_the_result_is_json_and_text(bench: SimpleNamespace, folder: Path) -> None:
    result = pairwise_accuracy(bench.Brightness(), load_editscore_bench(folder), progress=False)
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (written["invalid"], len(written["rows"])) == (1, 7)
    report = result.report()
    assert "7 pairs, 1 ties, 1 invalid" in report
    assert "mean over kinds: 0.500" in report
    assert "overall if all invalid pairs were wrong: 0.429" in report


def test_same_rows_same_intervals(bench: SimpleNamespace, folder: Path) -> None:
    one, other = (
        pairwise_accuracy(bench.Brightness(), load_editscore_bench(folder), batch_size=size, progress=False)
        for size in (1, 32)
    )
    assert one.rows == other.rows
    assert (one.overall, one.macro) == (other.overall, other.macro)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"instruction": 3}, "'instruction' is 3"), ({"task_type": None}, "'task_type' is None"), ({"key": []}, "'key'")],
)
def test_rows_that_lack_something_are_refused(
    bench: SimpleNamespace, tmp_path: Path, change: dict, reason: str
) -> None:
    written = rows(bench, tmp_path / "bad")
    written[2] = {**written[2], **change}
    with pytest.raises(DatasetError, match=f"Row 2.*{reason}"):
        load_editscore_bench(bench.write(tmp_path / "bad", written))
