"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photo pairs and photo sets that are not part of the project; skips where it is absent.

    Found through the variable RETOUCH_GYM_DATA, or in ``../shared/data`` beside the checkout.
    """
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RETOUCH_GYM_DATA", default))
    if not folder.is_dir():
        pytest.skip("shared data is not here; set RETOUCH_GYM_DATA to its folder")
    return folder
