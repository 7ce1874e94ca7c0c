from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

from retouch_gym.envs.drawing import CAPTION, side_by_side
from retouch_gym.envs.retouch import RetouchEnv
from retouch_gym.errors import ConfigurationError
from retouch_gym.images import resize
from retouch_gym.tasks import Task
from retouch_gym.testing import NoisePhoto, TinyDataset, TinyRenderer
from retouch_gym.types import Image, ToolCall
from retouch_gym.wrappers import FitFrames

pytest.importorskip("moviepy")


class OddDataset(TinyDataset):
    """Photos of odd and of different sizes."""

    def __getitem__(self, index: int) -> Task:
        return replace(super().__getitem__(index), photo=NoisePhoto(index, 31 + index, 47))


def make(**options: Any) -> RetouchEnv:
    return RetouchEnv(
        **{
            "dataset": OddDataset(4),
            "renderer": TinyRenderer(),
            "max_turns": 3,
            "render_mode": "rgb_array",
            **options,
        }
    )


def play(env: Any, index: int) -> list[Image]:
    env.reset(options={"index": index})
    frames = [env.unwrapped.render()]
    for value in (20, 500, 60):
        env.step(ToolCall("exposure", {"value": value}))
        frames.append(env.unwrapped.render())
    return frames


def read_video(path: Path) -> tuple[list[Image], str]:
    """The frames of a video and its pixel format."""
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, frame = video.read()
        if not good:
            break
        frames.append(np.asarray(frame[:, :, ::-1], np.uint8))
    code = int(video.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))
    return frames, code.to_bytes(4, "little").decode("latin-1")


@pytest.mark.parametrize("task", ["edit", "match", "transfer"])
def test_gymnasium_records_a_video_of_every_episode(tmp_path: Path, task: str) -> None:
    env = RecordVideo(make(task=task), str(tmp_path / "videos"), episode_trigger=lambda _: True)
    played = [play(env, index) for index in range(4)]
    env.close()
    for index, frames in enumerate(played):
        shape = frames[0].shape
        assert all(frame.shape == shape for frame in frames)
        assert shape[0] % 2 == shape[1] % 2 == 0
        shown, pixel_format = read_video(tmp_path / "videos" / f"rl-video-episode-{index}.mp4")
        # Planar 4:2:0, which every player takes; x264 chooses another for odd sides.
        assert pixel_format == "I420"
        assert len(shown) == len(frames)
        for seen, frame in zip(shown, frames, strict=True):
            assert seen.shape == shape
            assert np.abs(seen.astype(int) - frame).mean() < 12


def test_an_odd_picture_gets_a_black_border() -> None:
    photo = np.full((31, 47, 3), 200, np.uint8)
    picture = side_by_side([("one", photo)])
    assert picture.shape == (54, 48, 3)
    assert np.array_equal(picture[CAPTION : CAPTION + 31, :47], photo)
    assert not picture[-1].any()
    assert not picture[:, -1].any()


def test_one_video_of_several_episodes_of_different_sizes(tmp_path: Path) -> None:
    env = RecordVideo(FitFrames(make(), 120, 60), str(tmp_path / "videos"), step_trigger=lambda step: step == 0)
    env.video_length = 8
    for index in range(4):
        play(env, index)
    env.close()
    (file,) = (tmp_path / "videos").iterdir()
    frames, _ = read_video(file)
    assert len(frames) > 4
    assert {frame.shape for frame in frames} == {(60, 120, 3)}


def test_frames_are_fitted_without_distortion() -> None:
    env = make()
    frame = play(env, 1)[-1]
    large, small = FitFrames(env, 400, 300).render(), FitFrames(env, 60, 60).render()
    rows, columns = frame.shape[:2]
    top, left = (300 - rows) // 2, (400 - columns) // 2
    assert np.array_equal(large[top : top + rows, left : left + columns], frame)
    assert large.sum() == frame.sum()
    height = rows * 60 // columns
    top = (60 - height) // 2
    assert np.array_equal(small[top : top + height], resize(frame, 60, height))
    assert not small[:top].any()
    assert not small[top + height :].any()
    ansi = make(render_mode="ansi")
    ansi.reset(seed=0)
    assert FitFrames(ansi, 60, 60).render() == ansi.render()


@pytest.mark.parametrize("sides", [(61, 60), (60, 0), (60.0, 60)])
def test_sides_are_checked(sides: Any) -> None:
    with pytest.raises(ConfigurationError, match="even number"):
        FitFrames(make(), *sides)
