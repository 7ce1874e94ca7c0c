"""Any dataset of edits as tasks of every mode: refine, summary, match and transfer."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retouch_gym.datasets.base import Dataset, get_dataset
from retouch_gym.datasets.grammar import describe_change, draw_mode_request, draw_request, say
from retouch_gym.datasets.reader import follow
from retouch_gym.datasets.spoiling import spoil
from retouch_gym.errors import DatasetError
from retouch_gym.recipes.recipe import Recipe
from retouch_gym.renderers.base import Rendered
from retouch_gym.tasks import MODES, Mode, Task
from retouch_gym.tools.toolset import get_toolset
from retouch_gym.types import JSON, Photo

_NEEDS: Mapping[Mode, tuple[str, ...]] = {
    "edit": (),
    "refine": ("recipe",),
    "summary": ("reference", "instruction"),
    "match": ("reference",),
    "transfer": ("recipe",),
}
_TRIES = 64


class ModeDataset(Dataset):
    """Every task of another dataset in several modes, in turn.

    Task i is task i // n of the other dataset in mode i % n of n. The edit keeps its id, the others append
    ``@refine`` and so on. What is drawn depends on the seed and the task's id alone.

    | mode | the agent sees besides the photo | it is asked | reference |
    |---|---|---|---|
    | edit | nothing | as it is | as it is |
    | refine | a spoilt start, the old request | for the way back, in the grammar's words | see below |
    | summary | the reference | for words; the old request is the answer | as it is |
    | match | the reference | to make it like the second | as it is |
    | transfer | another task's photo before and after the recipe | to do the same | see below |

    In refine and transfer the reference is the photo rendered with the recipe, so that pixels and sliders agree
    even where the recipe only nearly leads to the other dataset's reference. See `retouch_gym.datasets.spoiling`
    for what is spoilt. A vague request makes a poor answer: summaries are best drawn from tasks whose words
    name the effects (``kinds=["instruct"]`` of the samples).

    Args:
        base: The other dataset or its name. Its tasks are edits.
        modes: Modes, each at most once, in turn.
        seed: Seed of what is drawn.
        renderer: Name of the renderer of references and examples. None: the one that rendered the task's own
            reference, or the native one.
        base_kwargs: Options of a dataset given by name.

    Raises:
        DatasetError: If a mode is not known or given twice, or the other dataset is one of modes already.
        ConfigurationError: If the dataset or its options are not known.
    """

    def __init__(
        self,
        base: str | Dataset = "samples",
        modes: Sequence[Mode] = MODES,
        seed: int = 0,
        renderer: str | None = None,
        base_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        unknown = [mode for mode in modes if mode not in MODES]
        if unknown or not modes or isinstance(modes, str) or len(set(modes)) < len(modes):
            raise DatasetError(f"modes = {modes!r} should be chosen from {', '.join(MODES)}, each at most once.")
        if type(seed) is not int or seed < 0:
            raise DatasetError(f"seed = {seed!r} should be a whole number of at least 0.")
        self.base = get_dataset(base, **(base_kwargs or {}))
        if self.base.modes != ("edit",):
            raise DatasetError(
                f"The dataset {self.base.name!r} has tasks of {', '.join(self.base.modes)} already; "
                "give the dataset of edits that it is made of."
            )
        self.name = self.base.name
        self.split = self.base.split
        self.seed = seed
        self.renderer = renderer
        self._modes = tuple(modes)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes, in turn."""
        return self._modes

    def __len__(self) -> int:
        return len(self.base) * len(self._modes)

    def id_of(self, index: int) -> str:
        """The other dataset's id, with ``@MODE`` behind it unless it is an edit."""
        base, mode = self._split_index(index)
        base_id = self.base.id_of(base)
        return base_id if mode == "edit" else f"{base_id}@{mode}"

    def index_of(self, task_id: str) -> int:
        """Inverse of `id_of`."""
        head, _, tail = task_id.rpartition("@")
        base_id, mode = (head, tail) if tail in self._modes and tail != "edit" else (task_id, "edit")
        if mode not in self._modes:
            raise DatasetError(f"No task {task_id!r} here: an edit, and the modes are {', '.join(self._modes)}.")
        return self.base.index_of(base_id) * len(self._modes) + self._modes.index(mode)

    def __getitem__(self, index: int) -> Task:
        if not 0 <= index < len(self):
            raise IndexError(f"Task {index} of {len(self)}.")
        base_index, mode = self._split_index(index)
        base = self.base[base_index]
        if mode == "edit":
            return base
        task_id = self.id_of(index)
        lacking = [need for need in _NEEDS[mode] if not getattr(base, need)]
        if lacking:
            raise DatasetError(
                f"Task {base.id!r} cannot be a {mode} task: it has no {' and no '.join(lacking)}. Choose a dataset "
                f"that has, or leave {mode!r} out of the modes."
            )
        rng = np.random.default_rng([self.seed, zlib.crc32(task_id.encode())])
        made = dataclasses.replace(base, id=task_id, mode=mode, metadata=_origin(base))
        return self._view(made, base_index, rng)

    def _split_index(self, index: int) -> tuple[int, Mode]:
        base, turn = divmod(index, len(self._modes))
        return base, self._modes[turn]

    def _view(self, task: Task, base_index: int, rng: np.random.Generator) -> Task:
        """Make the mode's task of one that is an edit in all but id, mode and metadata."""
        if task.mode == "refine":
            return self._refine(task, rng)
        if task.mode == "transfer":
            return self._transfer(task, base_index, rng)
        context = () if task.reference is None else (task.reference,)
        instruction = draw_mode_request(rng, task.mode)
        answer = task.instruction if task.mode == "summary" else ""
        return dataclasses.replace(task, instruction=instruction, context=context, answer=answer)

    def _refine(self, task: Task, rng: np.random.Generator) -> Task:
        recipe = _recipe(task)
        controls = get_toolset(recipe.toolset).controls
        start = spoil(rng, recipe, controls)
        phrases = describe_change(rng, start, recipe)
        instruction = draw_request(rng, phrases)
        read = follow(start, instruction, controls)
        return dataclasses.replace(
            task,
            instruction=instruction,
            start=start,
            history=(task.instruction,) if task.instruction else (),
            reference=Rendered(task.photo, recipe, self._renderer_of(task)),
            reasoning=say(phrases),
            metadata={**task.metadata, "reader_recipe": dict(read.controls)},
        )

    def _transfer(self, task: Task, base_index: int, rng: np.random.Generator) -> Task:
        recipe = _recipe(task)
        other = self._other_photo(task, base_index, rng)
        phrases = describe_change(rng, Recipe(recipe.toolset), recipe)
        return dataclasses.replace(
            task,
            instruction=draw_mode_request(rng, task.mode),
            context=(other, Rendered(other, recipe, self._renderer_of(task))),
            reference=Rendered(task.photo, recipe, self._renderer_of(task)),
            reasoning=say(phrases) if phrases else "",
        )

    def _renderer_of(self, task: Task) -> str:
        usual = task.reference.renderer if isinstance(task.reference, Rendered) else "native"
        return self.renderer or usual

    def _other_photo(self, task: Task, base_index: int, rng: np.random.Generator) -> Photo:
        """The photo of another task; several tasks may share one photo, which is no other."""
        count = len(self.base)
        first = int(rng.integers(1, max(count, 2)))
        for step in range(min(count - 1, _TRIES)):
            # From a drawn distance onwards around the ring, leaving out the task itself.
            distance = (first - 1 + step) % (count - 1) + 1
            photo = self.base[(base_index + distance) % count].photo
            if photo != task.photo:
                return photo
        raise DatasetError(
            f"Task {task.id!r} needs the photo of another task as its example, and {self.name!r} has no other photo. "
            "Add photos, or leave 'transfer' out of the modes."
        )


def _origin(base: Task) -> dict[str, JSON]:
    return {"base": base.id, "base_metadata": dict(base.metadata)}


def _recipe(task: Task) -> Recipe:
    if task.recipe is None:
        raise DatasetError(f"Task {task.id!r} has no recipe.")
    return task.recipe
