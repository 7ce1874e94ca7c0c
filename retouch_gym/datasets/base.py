"""The dataset protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from retouch_gym.errors import ConfigurationError, DatasetError
from retouch_gym.resolve import locate
from retouch_gym.tasks import Mode, Task


class Dataset(ABC):
    """A finite, ordered collection of tasks, built lazily: `len` and an id cost no pixels.

    Implementations are picklable and deterministic: the same arguments give the same tasks in every
    process. Check one with `retouch_gym.testing.check_dataset`.

    Attributes:
        name: Short name.
        split: Name of the split, for instance ``"train"`` or ``"test"``.
    """

    name: str
    split: str

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What its tasks may ask of the agent; an environment offers its tools accordingly."""
        return ("edit",)

    @abstractmethod
    def __len__(self) -> int:
        """Number of tasks."""

    @abstractmethod
    def id_of(self, index: int) -> str:
        """The id of the task at `index` (0 ≤ index < len), without building it."""

    @abstractmethod
    def index_of(self, task_id: str) -> int:
        """The index of a task.

        Raises:
            DatasetError: If there is no such task here.
        """

    @abstractmethod
    def __getitem__(self, index: int) -> Task:
        """The task at `index` (0 ≤ index < len).

        Raises:
            IndexError: If the index is out of range.
        """

    def __iter__(self) -> Iterator[Task]:
        return (self[index] for index in range(len(self)))

    def get(self, task_id: str) -> Task:
        """The task of an id.

        Raises:
            DatasetError: If there is no such task here.
        """
        return self[self.index_of(task_id)]


class ListedDataset(Dataset):
    """Base of datasets that know all their ids from the start.

    Args:
        ids: The ids in order.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = tuple(ids)
        self._index = {task_id: index for index, task_id in enumerate(self._ids)}

    def __len__(self) -> int:
        return len(self._ids)

    def id_of(self, index: int) -> str:
        """The id of the task at `index`."""
        return self._ids[index]

    def index_of(self, task_id: str) -> int:
        """Inverse of `id_of`."""
        try:
            return self._index[task_id]
        except KeyError:
            raise DatasetError(f"No task {task_id!r} in {self.name!r}; the first is {self._ids[0]!r}.") from None


DATASETS: Mapping[str, str] = {
    "samples": "retouch_gym.datasets.samples:SamplesDataset",
    "folder": "retouch_gym.datasets.folder:FolderDataset",
    "pairs": "retouch_gym.datasets.pairs:PairsDataset",
    "modes": "retouch_gym.datasets.modes:ModeDataset",
    "recorded": "retouch_gym.datasets.recorded:RecordedDataset",
}
"""Short names of the datasets that come with the package; ``"folder:PATH"`` passes PATH as `root`."""


def get_dataset(dataset: str | Dataset, **kwargs: Any) -> Dataset:
    """The dataset of a name such as ``"samples"`` or ``"folder:photos/"``, or itself.

    A name may also be ``"module:attribute"`` of a class or factory. `kwargs` go to its constructor.

    Raises:
        ConfigurationError: If the name is not known, or options come with a ready object.
        DatasetError: If the data cannot be found.
    """
    if isinstance(dataset, Dataset):
        if kwargs:
            raise ConfigurationError(f"Options {sorted(kwargs)} need a dataset name, not a ready {dataset.name!r}.")
        return dataset
    head, _, argument = dataset.partition(":")
    name, options = (head, {"root": argument, **kwargs}) if argument and head in DATASETS else (dataset, kwargs)
    try:
        built = locate(name, DATASETS, "dataset")(**options)
    except TypeError as error:
        raise ConfigurationError(f"Dataset {dataset!r} does not take these options: {error}") from error
    if not isinstance(built, Dataset):
        raise ConfigurationError(f"Dataset {dataset!r} is a {type(built).__name__}, expected a Dataset.")
    return built
