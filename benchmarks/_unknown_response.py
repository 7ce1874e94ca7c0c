"""A task that cannot be solved without looking at the photo between two turns, made with the public API alone.

The request names an effect and its strength ("slightly warmer"), so the goal is known. The slider is not: in every
episode its value is multiplied by a hidden response, one of `RESPONSES`, before anything is rendered. Whoever answers
once can at best hedge; whoever answers twice can try a value, look at what it did, and correct it.

The response is a pure function of the recipe's seed, which a task sets in the recipe that it starts with. A recipe is
absolute and is rendered from the source each time, as ever; the seed is in no prompt. The only thing that shows the
response is the photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from retouch_gym.chat import IEAFormat, Message
from retouch_gym.datasets.augment import CachedFile, Crop, Turned, is_ordinary
from retouch_gym.datasets.base import Dataset
from retouch_gym.datasets.grammar import draw_phrase, words
from retouch_gym.datasets.samples import ASSETS, TEST_PHOTOS, TRAIN_PHOTOS
from retouch_gym.datasets.scenes import Scene
from retouch_gym.envs.chat import ChatEnv
from retouch_gym.errors import DatasetError, RendererError
from retouch_gym.recipes import Recipe
from retouch_gym.renderers import Rendered, Renderer, get_renderer
from retouch_gym.tasks import Task
from retouch_gym.tools.iea import IEA
from retouch_gym.types import Image, Photo, ToolCall

SLIDER = "temperature"
"""The slider that responds in an unknown way. Its effect is a shift of colours, which 32 pixels show well."""

RESPONSES = (-1.0, 0.5, 1.0, 2.0)
"""What the slider's value may be multiplied by; all are equally likely."""

AMOUNTS = (20, 40)
"""What requests ask for, as slider values of a slider that responds by 1: the middles of two strengths of the
grammar ("slightly warmer", "warmer"), so that the words say exactly how much. Whatever the response, there is a value
of at most 100, and a multiple of 5, that reaches the goal."""

PROBE = 50
"""The value that demonstrations try first, in the direction asked for. Large, so that its effect is easy to see."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_VALIDATION = ("flower", "rocket")
PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": tuple(name for name in TRAIN_PHOTOS if name not in _VALIDATION),
    "validation": _VALIDATION,
    "test": TEST_PHOTOS,
}
"""Shipped photos of each split. Two of the samples' training photos are set aside for choices."""

SCENES = 0.35
"""Share of training photos that are procedural scenes."""

SEEN = {-1.0: "reversed", 0.5: "half", 1.0: "normal", 2.0: "double"}
"""What demonstrations say of each response once they have seen it."""

TRY, GUESS = "try", "guess"
"""What demonstrations say before they have seen it: with a turn to come, and without one."""


def vocabulary() -> set[str]:
    """Every word of requests and demonstrations."""
    return {*words(), *SEEN.values(), TRY, GUESS}


def response_of(seed: int) -> float:
    """The hidden response of an episode whose recipe has this seed."""
    return RESPONSES[int(np.random.default_rng(seed % 2**64).integers(len(RESPONSES)))]


class UnknownResponse(Renderer):
    """The native renderer behind a slider whose value is multiplied by `response_of` the recipe's seed.

    The product is clipped to the slider's range. An empty recipe gives the source back, whatever its seed.
    """

    name = "unknown-response"
    toolsets = frozenset({IEA.name})

    def __init__(self) -> None:
        self.native = get_renderer("native")

    def render(self, photos: Sequence[Image], recipes: Sequence[Recipe]) -> list[Image]:
        """Render each photo with its recipe. See `Renderer.render`.

        Raises:
            RendererError: If a recipe has another toolset, and as the native renderer.
        """
        foreign = {recipe.toolset for recipe in recipes} - self.toolsets
        if foreign:
            raise RendererError(f"{self.name} renders recipes of {IEA.name!r} alone, got {sorted(foreign)}.")
        return self.native.render(photos, [felt(recipe, response_of(recipe.seed)) for recipe in recipes])


def felt(recipe: Recipe, response: float) -> Recipe:
    """What a recipe comes to where the slider responds by `response`."""
    control, value = IEA.controls[SLIDER], recipe[SLIDER]
    if not control.low <= value <= control.high:
        return recipe  # the native renderer refuses it
    clipped = min(max(response * value, control.low), control.high)
    return replace(recipe, controls={**recipe.controls, SLIDER: clipped})


class UnknownResponseDataset(Dataset):
    """Requests to make photos warmer or cooler, each with a hidden response of the slider.

    Photos are square crops of the shipped ones, turned and mirrored; in ``"train"`` also procedural scenes. The split
    ``"validation"`` has training photos that ``"train"`` leaves out; ``"test"`` has the samples' test photos. Task i
    depends on (seed, split, i) alone.

    Args:
        split: One of `SPLITS`; no photo is in two of them.
        size: Number of tasks.
        resolution: Side of the photos in pixels.
        seed: Seed of the whole dataset.

    Raises:
        DatasetError: If the split is not known.
    """

    name = "unknown-response"

    def __init__(self, split: Split = "train", size: int = 1000, resolution: int = 32, seed: int = 0) -> None:
        if split not in SPLITS:
            raise DatasetError(f"split = {split!r} should be one of {', '.join(SPLITS)}.")
        self.split, self.size, self.resolution, self.seed = split, size, resolution, seed

    def __len__(self) -> int:
        return self.size

    def id_of(self, index: int) -> str:
        """``unknown-response/SPLIT-SEED-INDEX``."""
        return f"{self.name}/{self.split}-{self.seed}-{index:06d}"

    def index_of(self, task_id: str) -> int:
        """Inverse of `id_of`."""
        tail = task_id.rpartition("-")[2]
        index = int(tail) if tail.isdecimal() else -1
        if not 0 <= index < len(self) or self.id_of(index) != task_id:
            raise DatasetError(f"No task {task_id!r} here; the first is {self.id_of(0)!r}.")
        return index

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < self.size:
            raise IndexError(f"Task {index} of {self.size}.")
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        photo = self._draw_photo(rng)
        target = int(rng.choice(AMOUNTS)) * (1 if rng.random() < 0.5 else -1)
        return Task(
            id=self.id_of(index),
            photo=photo,
            instruction=f"{draw_phrase(rng, SLIDER, target)}.",
            kind=self.name,
            start=Recipe(IEA.name, seed=int(rng.integers(2**31))),
            reference=Rendered(photo, Recipe(IEA.name, {SLIDER: target})),
            metadata={"target": target},
        )

    def _draw_photo(self, rng: np.random.Generator) -> Photo:
        names, scenes = PHOTOS[self.split], SCENES if self.split == "train" else 0.0
        for _ in range(8):
            if rng.random() < scenes:
                photo: Photo = Scene(int(rng.integers(2**32)), self.resolution)
            else:
                file = CachedFile(str(ASSETS / f"{names[int(rng.integers(len(names)))]}.png"))
                left, top, side = (float(value) for value in rng.uniform((0, 0, 0.4), (1, 1, 1)))
                photo = Crop(file, left, top, side, self.resolution)
            if is_ordinary(photo.load()):
                break
        return Turned(photo, int(rng.integers(4)), bool(rng.random() < 0.5))


def target_of(task: Task) -> int:
    """What the request asks for, as the value of a slider that responds by 1."""
    return int(str(task.metadata["target"]))


def hidden_response(task: Task) -> float:
    """The response of a task's episodes, for demonstrations and for measuring; agents never get it."""
    assert task.start is not None
    return response_of(task.start.seed)


def probe_of(task: Task) -> int:
    """The value that demonstrations try first."""
    return PROBE if target_of(task) > 0 else -PROBE


def write(reasoning: str, value: float) -> str:
    """An answer that sets the slider, rounded to a multiple of 5."""
    return IEAFormat().write(reasoning, [ToolCall(SLIDER, {"value": 5 * round(value / 5)})])


def env_options(split: Split, turns: int, size: int, seed: int) -> dict[str, Any]:
    """Arguments of ``Retouch/Chat-v0``, JSON-able.

    A later turn shows the photo as it then is, without a word. Paid is the likeness at the end: 0 for the untouched
    photo, 1 for the goal, −1 for twice as far away or more.
    """
    return {
        "toolset": IEA.name,
        "dataset": "_unknown_response:UnknownResponseDataset",
        "dataset_kwargs": {"split": split, "size": size, "seed": seed},
        "renderer": "_unknown_response:UnknownResponse",
        "reward": "likeness",
        "max_turns": turns,
        "prompts": {"user": " {instruction}", "follow_up": ""},
    }


class Demonstrated:
    """What to answer, for supervised training: `retouch_agents.sft.Demonstrations`.

    With one turn, the best that can be done without seeing the response: `fraction` of what the words ask for. With
    two turns, every eighth example is the first turn (try `PROBE`); the others are the second, behind the photo that
    the probe led to: say what it did, and set what the request takes at that response.

    Args:
        options: Arguments of the environment.
        fraction: Share of the requested amount that is best on average where the answer is the only one.
    """

    def __init__(self, options: dict[str, Any], fraction: float) -> None:
        self.options = options
        self.fraction = fraction
        self._env: ChatEnv | None = None

    def __len__(self) -> int:
        return int(self.options["dataset_kwargs"]["size"])

    def __getitem__(self, index: int) -> tuple[Sequence[Message], str]:
        if self._env is None:
            self._env = ChatEnv(**self.options)
        env = self._env
        messages, _ = env.reset(options={"index": index})
        task = env.episode.task
        if env.max_turns == 1:
            return messages, write(GUESS, self.fraction * target_of(task))
        first = write(TRY, probe_of(task))
        if index % 8 == 0:
            return messages, first
        messages, *_ = env.step(first)
        response = hidden_response(task)
        return messages, write(SEEN[response], target_of(task) / response)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_env": None}
