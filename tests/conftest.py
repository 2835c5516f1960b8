"""What more than one test file needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository():
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data():
    """The folder of real images (HALOPY_TEST_DATA); the test is skipped where there is none."""
    folder = Path(os.environ.get("HALOPY_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "index.csv").is_file():
        pytest.skip("no real images here: HALOPY_TEST_DATA names their folder")
    return folder
