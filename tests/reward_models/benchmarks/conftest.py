"""Small benchmarks on disk whose photos are plain greys, and rewards that read the grey."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from retouch_gym.errors import RewardError
from retouch_gym.rewards.base import Reward, RewardOutput
from retouch_gym.rewards.pairwise import Pair, PairwiseReward, Preference
from retouch_gym.tasks import Episode


class Brightness(Reward):
    """The brighter the better; an edit of grey 13 cannot be scored."""

    name = "brightness"
    range = (0.0, 255.0)
    components = ("darkness",)

    def __init__(self) -> None:
        self.scored: list[int] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.tasks: list[str] = []

    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        greys = [int(episode.image.mean()) for episode in episodes]
        self.scored += greys
        self.tasks += [episode.task.id for episode in episodes]
        self.shapes |= {episode.image.shape for episode in episodes}
        return [
            RewardOutput(None, error="unlucky") if grey == 13 else RewardOutput(grey, {"darkness": 255.0 - grey})
            for grey in greys
        ]


class BrighterWins(PairwiseReward):
    """Prefers the brighter edit, with a probability that is never certain."""

    name = "brighter-wins"

    def compare(self, pairs: Sequence[Pair]) -> list[Preference]:
        found = []
        for first, second in pairs:
            if 13 in (first.image.mean(), second.image.mean()):
                found.append(Preference(None, "unlucky"))
            else:
                difference = first.image.mean() - second.image.mean()
                found.append(Preference(0.5 + 0.3 * float(np.sign(difference))))
        return found


class LikesThePlace(PairwiseReward):
    """Prefers whatever comes first; says that it is fair if told to."""

    name = "likes-the-place"

    def __init__(self, symmetric: bool = False) -> None:
        self.symmetric = symmetric
        self.asked = 0

    def compare(self, pairs: Sequence[Pair]) -> list[Preference]:
        self.asked += len(pairs)
        return [Preference(0.9)] * len(pairs)


class NeedsReference(Brightness):
    needs_reference = True


class RendersAgain(Brightness):
    def score(self, episodes: Sequence[Episode]) -> list[RewardOutput]:
        try:
            episodes[0].renderer.render([episodes[0].source], [episodes[0].recipe])
        except Exception as error:
            raise RewardError(str(error)) from error
        return super().score(episodes)


def grey_photo(path: Path, grey: int, size: tuple[int, int] = (6, 4)) -> str:
    """Write a plain photo and return its name."""
    path.mkdir(parents=True, exist_ok=True)
    name = f"{grey}-{size[0]}x{size[1]}.png"
    PIL.Image.new("RGB", size, (grey, grey, grey)).save(path / name)
    return name


def write_rows(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = name.endswith("jsonl")
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def bench() -> SimpleNamespace:
    """Rewards that read the grey, and writers of small benchmarks."""
    return SimpleNamespace(
        Brightness=Brightness,
        BrighterWins=BrighterWins,
        LikesThePlace=LikesThePlace,
        NeedsReference=NeedsReference,
        RendersAgain=RendersAgain,
        grey=grey_photo,
        write=write_rows,
    )
