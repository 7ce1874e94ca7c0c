"""The built-in dataset: synthetic requests on freely licensed photos, nothing to download."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retouch_gym.datasets.augment import CachedFile, Crop, Mosaic, Recoloured, Turned, is_ordinary
from retouch_gym.datasets.base import Dataset
from retouch_gym.datasets.grammar import (
    ADJECTIVES,
    STEP,
    describe_faults,
    draw_instruction,
    draw_vague_instruction,
)
from retouch_gym.datasets.scenes import Scene
from retouch_gym.errors import DatasetError
from retouch_gym.images import PHOTO_SUFFIXES
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Rendered
from retouch_gym.tasks import Task
from retouch_gym.types import Photo

Folders = str | Path | Sequence[str | Path]
"""A photo or a folder of photos, or several of these."""

ASSETS = Path(__file__).parent / "assets"

TRAIN_PHOTOS = ("flower", "grace_hopper", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
"""Shipped photos of the training split."""

TEST_PHOTOS = ("astronaut", "chelsea", "china", "coffee")
"""Shipped photos of the test split."""

EVERYDAY_PHOTOS = (*TEST_PHOTOS, "flower", "grace_hopper", "rocket")
"""Shipped photos of people, things and places: the test split of whoever trains on photos of their own."""

KINDS = ("instruct", "restore")
SPLITS = ("train", "test")

_SCENES, _SCENES_AMONG_OWN_PHOTOS = 0.35, 0.1
_TRIES = 8
_REMEDIES: dict[str, tuple[int, int, int]] = {
    "exposure": (35, 90, 90),
    "contrast": (30, 80, 80),
    "saturation": (35, 50, 90),
    "temperature": (40, 95, 95),
    "tint": (45, 95, 95),
}
"""Sliders that a *restore* task needs: least absolute value, most when negative, most when positive.

Half the saturation mends the strongest damage there is (+100)."""

_LEAST_DAMAGE = 0.06
"""Mean absolute difference (0..1) below which damage would hardly be seen, and is drawn again."""


class SamplesDataset(Dataset):
    """Synthetic editing tasks on the shipped photos, split by photo.

    Two kinds of task. *instruct*: the words name one to three effects and how strong they should be; the
    reference is the photo rendered with the recipe that the words were made from. *restore*: the photo is
    off in exposure, contrast or colour and the words are vague, so that the agent has to look; the reference
    is the undamaged photo itself, and the recipe undoes the damage nearly.

    Task i depends on (seed, split, i) alone. Training photos are cropped, turned, mirrored, put together
    and, in *instruct* tasks, recoloured; some are procedural scenes. Test photos are cropped and
    mirrored only. Photos are drawn again (up to 8 times) until they are ordinary: see
    `retouch_gym.datasets.augment.is_ordinary`.

    Args:
        split: ``"train"`` or ``"test"``; no photo is in both.
        size: Number of tasks.
        kinds: Kinds of task, in turn.
        resolution: Side of the square photos in pixels.
        seed: Seed of the whole dataset.
        photos: Photos, or folders of them, to train on instead of the shipped ones. The test split is then every
            shipped everyday photo.
        sliders: Sliders that *instruct* tasks use.
        scenes: Share of training photos that are procedural scenes, 0..1. None: .35, or .1 with photos of your
            own, which are more and more like what the agent will meet.
        test_photos: Photos, or folders of them, to test on instead of the shipped ones.

    Raises:
        DatasetError: If an option has no meaning, a folder holds no photo, or a photo is to be trained and tested on.
    """

    name = "samples"

    def __init__(
        self,
        split: str = "train",
        size: int = 1000,
        kinds: Sequence[str] = KINDS,
        resolution: int = 64,
        seed: int = 0,
        photos: Folders | None = None,
        sliders: Sequence[str] = tuple(ADJECTIVES),
        scenes: float | None = None,
        test_photos: Folders | None = None,
    ) -> None:
        _check("split", [split], SPLITS)
        _check("kinds", kinds, KINDS)
        _check("sliders", sliders, tuple(ADJECTIVES))
        for name, value, least in (("size", size, 1), ("resolution", resolution, 8), ("seed", seed, 0)):
            if type(value) is not int or value < least:
                raise DatasetError(f"{name} = {value!r} should be a whole number of at least {least}.")
        if scenes is not None and not 0 <= scenes <= 1:
            raise DatasetError(f"scenes = {scenes!r} should be a share between 0 and 1.")
        self.split = split
        self.size = size
        self.kinds = tuple(kinds)
        self.resolution = resolution
        self.seed = seed
        self.sliders = tuple(sliders)
        usual = _SCENES if photos is None else _SCENES_AMONG_OWN_PHOTOS
        self.scenes = usual if scenes is None else scenes
        self.files = _files(split, photos, test_photos)

    def __len__(self) -> int:
        return self.size

    def id_of(self, index: int) -> str:
        """``samples/SPLIT-SEED-INDEX``."""
        return f"{self.name}/{self.split}-{self.seed}-{index:06d}"

    def index_of(self, task_id: str) -> int:
        """Inverse of `id_of`."""
        match = re.fullmatch(r"samples/(train|test)-(\d+)-(\d{6,})", task_id)
        if match is None or self.id_of(int(match[3])) != task_id or int(match[3]) >= self.size:
            raise DatasetError(
                f"No task {task_id!r} here; ids run from {self.id_of(0)!r} to {self.id_of(self.size - 1)!r}."
            )
        return int(match[3])

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < self.size:
            raise IndexError(f"Task {index} of {self.size}.")
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        kind = self.kinds[index % len(self.kinds)]
        photo = self._draw_photo(rng, recolour=kind == "instruct")
        return (self._instruct if kind == "instruct" else self._restore)(self.id_of(index), photo, rng)

    def _instruct(self, task_id: str, photo: Photo, rng: np.random.Generator) -> Task:
        count = min(len(self.sliders), int(rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25])))
        chosen = [str(name) for name in rng.choice(self.sliders, count, replace=False)]
        instruction, reasoning, recipe, read = draw_instruction(rng, chosen)
        return Task(
            id=task_id,
            photo=photo,
            instruction=instruction,
            kind="instruct",
            reference=Rendered(photo, recipe),
            recipe=recipe,
            reasoning=reasoning,
            metadata={"reader_recipe": dict(read.controls)},
        )

    def _restore(self, task_id: str, clean: Photo, rng: np.random.Generator) -> Task:
        pixels = clean.load().astype(np.float32)
        for _ in range(_TRIES):
            remedy = draw_remedy(rng)
            damaged = Rendered(clean, undo(remedy))
            if np.abs(damaged.load() - pixels).mean() / 255 >= _LEAST_DAMAGE:
                break
        return Task(
            id=task_id,
            photo=damaged,
            instruction=draw_vague_instruction(rng),
            kind="restore",
            reference=clean,
            recipe=remedy,
            reasoning=describe_faults(remedy),
        )

    def _draw_photo(self, rng: np.random.Generator, *, recolour: bool) -> Photo:
        for _ in range(_TRIES):
            photo = self._draw_training_photo(rng) if self.split == "train" else self._draw_crop(rng)
            if is_ordinary(photo.load()):
                break
        if self.split == "test":
            return Turned(photo, 0, bool(rng.random() < 0.5))
        photo = Turned(photo, int(rng.integers(4)), bool(rng.random() < 0.5))
        if recolour and rng.random() < 0.6:
            channels = tuple(int(channel) for channel in rng.permutation(3))
            grey = float(rng.uniform(0.5, 1)) if rng.random() < 0.2 else 0.0
            return Recoloured(photo, float(rng.uniform(0, 360)), (channels[0], channels[1], channels[2]), grey)
        return photo

    def _draw_training_photo(self, rng: np.random.Generator) -> Photo:
        if rng.random() < self.scenes:
            return Scene(int(rng.integers(2**32)), self.resolution)
        first = self._draw_crop(rng)
        if rng.random() < 0.2:
            return Mosaic(first, self._draw_crop(rng), float(rng.uniform(0.3, 0.7)), bool(rng.random() < 0.5))
        return first

    def _draw_crop(self, rng: np.random.Generator) -> Photo:
        file = self.files[int(rng.integers(len(self.files)))]
        left, top, side = (float(value) for value in rng.uniform((0, 0, 0.4), (1, 1, 1)))
        return Crop(file, left, top, side, self.resolution)


def draw_remedy(rng: np.random.Generator) -> Recipe:
    """Draw what a damaged photo needs: one to three sliders, multiples of 5."""
    chosen = rng.choice(list(_REMEDIES), int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25])), replace=False)
    values = {}
    for name in chosen:
        least, most_negative, most_positive = _REMEDIES[str(name)]
        sign, most = (1, most_positive) if rng.random() < 0.5 else (-1, most_negative)
        values[str(name)] = sign * STEP * int(rng.integers(least // STEP, most // STEP, endpoint=True))
    return Recipe("iea", values)


def undo(remedy: Recipe) -> Recipe:
    """The damage that a remedy mends: every slider's inverse. Saturation multiplies, so its inverse divides."""
    damage: dict[str, float] = {name: -value for name, value in remedy.controls.items()}
    if "saturation" in damage:
        damage["saturation"] = round(100 / (1 + remedy["saturation"] / 100) - 100)
    return Recipe(remedy.toolset, damage)


def _check(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown or not values or isinstance(values, str):
        raise DatasetError(f"{name} = {values!r} should be chosen from {', '.join(known)}.")


def _files(split: str, photos: Folders | None, test_photos: Folders | None) -> tuple[CachedFile, ...]:
    own = None if photos is None else _own_files("photos", photos)
    test = None if test_photos is None else _own_files("test_photos", test_photos)
    both = set(own or ()) & set(test or ())
    if both:
        raise DatasetError(f"{min(both)!r} is in photos and in test_photos; keep what is tested out of training.")
    if split == "test":
        found = test or _shipped(EVERYDAY_PHOTOS if own else TEST_PHOTOS)
    else:
        found = own or _shipped(TRAIN_PHOTOS)
    return tuple(CachedFile(path) for path in found)


def _shipped(names: Sequence[str]) -> list[str]:
    return [str(ASSETS / f"{name}.png") for name in names]


def _own_files(option: str, given: Folders) -> list[str]:
    found: list[str] = []
    for path in [given] if isinstance(given, str | Path) else given:
        root = Path(path)
        inside = [root] if root.is_file() else list(root.rglob("*"))
        photos = sorted(str(file) for file in inside if file.suffix.lower() in PHOTO_SUFFIXES)
        if not photos:
            endings = ", ".join(sorted(PHOTO_SUFFIXES))
            raise DatasetError(f"No photo below {str(path)!r}; give a folder that holds files ending in {endings}.")
        found += photos
    if not found:
        raise DatasetError(f"{option} is empty; give at least one folder, or None for the shipped photos.")
    return found
