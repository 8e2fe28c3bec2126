"""Settings that every test shares."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# The same examples on every machine and no deadline: a busy runner must not make a test fail.
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under mutmut a function chooses among its mutants when it is called, which torch.compile cannot trace."""
    if "MUTANT_UNDER_TEST" in os.environ:
        items[:] = [item for item in items if "compiles" not in item.name]
