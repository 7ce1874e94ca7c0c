from __future__ import annotations

import errno
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retouch_agents.checkpoints import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    Keep,
    recover_folder,
    swap_folder,
)
from retouch_agents.metrics_log import MetricsLog
from retouch_gym.errors import ConfigurationError


def save(checkpoints: Checkpoints, step: int, value: float | None = None) -> Checkpoint:
    fresh = checkpoints.begin(step)
    with checkpoints.writing(fresh):
        (fresh / "state").mkdir()
        (fresh / "state" / "weights").write_bytes(bytes([step]) * 100_000)
    return checkpoints.commit(fresh, step, value)


def steps(checkpoints: Checkpoints) -> list[int]:
    return [found.step for found in checkpoints.all()]


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file can grow past `size` bytes in the body: the system refuses the write, as it does on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_the_newest_stay_and_the_last_is_what_training_goes_on_from(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run", Keep(last=2))
    assert checkpoints.all() == []
    assert checkpoints.latest() is checkpoints.best() is checkpoints.recover() is None
    for step in (5, 10, 15, 20):
        save(checkpoints, step)
    assert steps(checkpoints) == [15, 20]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["step-000015", "step-000020"]
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.step == 20
    assert (latest.state / "weights").read_bytes() == bytes([20]) * 100_000
    note = json.loads((latest.folder / "checkpoint.json").read_text())
    assert note == {"step": 20, "metric": "reward", "value": None, "time": latest.time}
    assert latest.time.endswith("+00:00")
    assert checkpoints.best() is None


@pytest.mark.parametrize(("highest", "expected"), [(True, 4), (False, 6)])
def test_the_best_stays_however_old_it_is(tmp_path: Path, highest: bool, expected: int) -> None:
    checkpoints = Checkpoints(tmp_path, Keep(best=True, highest=highest))
    for step, value in ((2, 0.3), (4, 0.9), (6, -0.1), (8, float("nan")), (10, 0.9), (12, None), (14, 0.2)):
        save(checkpoints, step, value)
    best = checkpoints.best()
    assert best is not None
    assert best.step == expected
    assert steps(checkpoints) == [expected, 14]
    checkpoints.finish()
    assert steps(checkpoints) == [expected]


def test_what_stays_when_the_stage_is_done(tmp_path: Path) -> None:
    plain, kept = Checkpoints(tmp_path / "plain"), Checkpoints(tmp_path / "kept", Keep(last=2, after=True))
    for checkpoints in (plain, kept):
        for step in (1, 2, 3):
            save(checkpoints, step)
        checkpoints.finish()
    assert not plain.folder.exists()
    assert steps(kept) == [2, 3]
    Checkpoints(tmp_path / "never").finish()


def test_what_a_kill_left_half_done_is_cleared_away_and_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, Keep(last=3))
    for step in (2, 4, 6):
        save(checkpoints, step)
    # Killed while 8 was written, and while 2 was removed.
    (checkpoints.begin(8) / "state").mkdir()
    (tmp_path / "step-000002").rename(tmp_path / "step-000002.old")
    (tmp_path / "step-000002.old" / "checkpoint.json").unlink()
    assert steps(checkpoints) == [4, 6]
    found = checkpoints.recover()
    assert found is not None
    assert found.step == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000004", "step-000006"]
    # The same iteration again, and one that was there before.
    save(checkpoints, 8)
    save(checkpoints, 8)
    assert steps(checkpoints) == [4, 6, 8]


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with small_disk(50_000), pytest.raises(CheckpointError, match=r"step-000001 .* start from its beginning"):
        save(checkpoints, 1)
    save(checkpoints, 1)
    with (
        small_disk(50_000),
        pytest.raises(CheckpointError, match="checkpoint of iteration 1 is untouched: start again") as raised,
    ):
        save(checkpoints, 2)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EFBIG
    assert "MB are free there" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    save(checkpoints, 2)
    assert steps(checkpoints) == [2]


def test_a_note_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    (save(checkpoints, 1).folder / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"step-000001 is no checkpoint.*checkpoint\.json.*Move the folder away"):
        checkpoints.latest()


@pytest.mark.parametrize("options", [{"last": 0}, {"window": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=r"=0\): expected 1 or more"):
        Keep(**options)


def test_a_swap_that_was_cut_is_undone(tmp_path: Path) -> None:
    fresh, target = tmp_path / "fresh", tmp_path / "target"
    for folder, text in ((target, "old"), (fresh, "new")):
        folder.mkdir()
        (folder / "file").write_text(text)
    target.rename(tmp_path / "target.old")
    assert (recover_folder(target) / "file").read_text() == "old"
    swap_folder(fresh, target)
    assert (recover_folder(target) / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_the_mean_of_the_newest_rows_of_a_stage(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.flush()
    assert log.mean("grpo", "reward", 2) is None
    for step, reward in enumerate((5.0, 1.0, float("nan"), 3.0)):
        log.append("grpo", {"step": step, "reward": reward})
        log.append("sft", {"step": step, "reward": 100.0})
    log.flush()
    assert log.mean("grpo", "reward", 2) == 2.0
    assert log.mean("grpo", "reward", 50) == 3.0
    assert log.mean("grpo", "kl", 2) is None
