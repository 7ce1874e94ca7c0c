"""Sources of pairs: perturbed, recorded, mixed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from retouch_gym.errors import DatasetError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.testing.doubles import TinyDataset
from retouch_reward_models.training.pairs import MixedPairs, Pair, PairBuffer, PerturbedPairs, get_pairs

TASKS = TinyDataset(4)


def pair(number: int) -> Pair:
    return Pair(
        f"p{number}", TASKS[number % 4], Recipe("iea", {"exposure": 20}), Recipe("iea", {"tint": 5 + number}), "policy"
    )


def facts(found: Pair) -> tuple[str, Recipe, Recipe, str]:
    return found.task.id, found.better, found.worse, found.origin


def test_a_perturbed_pair_depends_on_seed_and_index_alone() -> None:
    first, second = PerturbedPairs(TASKS, seed=3), PerturbedPairs(TASKS, seed=3)
    backwards = [second[index] for index in reversed(range(4))][::-1]
    assert [facts(first[index]) for index in range(4)] == [facts(found) for found in backwards]
    assert [first[index].better for index in range(4)] == [TASKS[index].recipe for index in range(4)]
    other = PerturbedPairs(TASKS, seed=4)
    assert [other[index].worse for index in range(4)] != [first[index].worse for index in range(4)]
    assert len({first[index].id for index in range(4)} | {other[index].id for index in range(4)}) == 8


def test_a_buffer_gives_back_what_it_took_and_goes_on_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pairs.jsonl"
    buffer = PairBuffer(path, TASKS)
    assert len(buffer) == 0
    buffer.extend([pair(0), pair(1)])
    again = PairBuffer(path, TASKS)
    again.extend([pair(2)])
    last = PairBuffer(path, TASKS)
    assert [facts(last[index]) for index in range(3)] == [facts(pair(number)) for number in range(3)]
    for index in (-1, 3):
        with pytest.raises(IndexError):
            last[index]


def test_only_the_newest_pairs_are_given(tmp_path: Path) -> None:
    PairBuffer(tmp_path / "pairs.jsonl", TASKS).extend([pair(number) for number in range(5)])
    buffer = PairBuffer(tmp_path / "pairs.jsonl", TASKS, capacity=2)
    assert [facts(buffer[index]) for index in range(len(buffer))] == [facts(pair(3)), facts(pair(4))]
    buffer.extend([pair(5)])
    assert facts(buffer[1]) == facts(pair(5))
    assert len(PairBuffer(tmp_path / "pairs.jsonl", TASKS)) == 6


def test_a_last_line_cut_short_is_left_out_and_a_corrupt_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    PairBuffer(path, TASKS).extend([pair(0), pair(1)])
    whole = path.read_text()
    path.write_text(whole[:-20])
    cut = PairBuffer(path, TASKS)
    assert len(cut) == 1
    cut.extend([pair(2)])
    assert [facts(PairBuffer(path, TASKS)[index]) for index in range(2)] == [facts(pair(0)), facts(pair(2))]
    path.write_text('{"task_id": \n' + whole)
    with pytest.raises(DatasetError, match="not JSON"):
        PairBuffer(path, TASKS)
    for line in ("[]", "3", '{"task_id": "tiny/train/0"}', whole.splitlines()[0].replace("train/0", "train/9")):
        path.write_text(f"{line}\n{whole}")
        buffer = PairBuffer(path, TASKS)
        with pytest.raises(DatasetError):
            buffer[0]
        assert facts(buffer[1]) == facts(pair(0))


def test_sources_are_mixed_in_their_shares_and_the_same_every_time(tmp_path: Path) -> None:
    buffer = PairBuffer(tmp_path / "pairs.jsonl", TASKS)
    buffer.extend([pair(0)])
    perturbed = ["perturbed", {"dataset": TASKS}]
    mixed = MixedPairs([(buffer, 3), (perturbed, 1)], size=600, seed=1)
    origins = Counter(mixed[index].origin for index in range(len(mixed)))
    assert 0.69 < origins["policy"] / 600 < 0.81
    again = get_pairs("mixed", parts=[(buffer, 3), (perturbed, 1)], size=600, seed=1)
    assert all(facts(mixed[index]) == facts(again[index]) for index in range(50))
    alone = MixedPairs([(buffer, 0), (perturbed, 1)], size=20)
    assert {alone[index].origin for index in range(20)} == {"perturbed"}
    with pytest.raises(IndexError):
        mixed[600]


def test_shares_need_pairs_behind_them(tmp_path: Path) -> None:
    empty = PairBuffer(tmp_path / "none.jsonl", TASKS)
    for parts in ([(empty, 1)], [(PerturbedPairs(TASKS), 0)], [(PerturbedPairs(TASKS), -1)]):
        with pytest.raises(DatasetError, match="shares"):
            MixedPairs(parts)
