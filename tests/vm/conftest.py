"""The `vm` and `nightly` markers, the contract suite's network of its own, and what a failed attack says."""

import pytest

from tests.contract.conftest import machine
from tests.hostile.conftest import pytest_runtest_makereport
from tests.vm import marker
from tests.vm.nightly import pytest_addoption, pytest_collection_modifyitems

__all__ = [
    "machine",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_makereport",
]


def pytest_configure(config: pytest.Config) -> None:
    """Let the marker mean what it means."""
    marker.register(config)
