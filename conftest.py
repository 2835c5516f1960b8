"""For every test, those in docstrings and in .rst files too."""

from __future__ import annotations

import os

# Before matplotlib is imported by anything: tests draw on no screen.
os.environ["MPLBACKEND"] = "Agg"

import pytest
from hypothesis import settings

# The machines that run the tests differ in speed; a time limit of an example says nothing about halopy.
settings.register_profile("halopy", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("halopy")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    """No test leaves files in the checkout, and none sees another's."""
    monkeypatch.chdir(tmp_path)
