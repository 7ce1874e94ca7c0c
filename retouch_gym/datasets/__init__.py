"""Datasets of retouching tasks: lazy, lossless, addressed by id."""

from retouch_gym.datasets.base import DATASETS, Dataset, get_dataset

__all__ = ["DATASETS", "Dataset", "get_dataset"]
