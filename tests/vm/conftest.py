"""The `vm` marker, and the contract suite's network of its own."""

import pytest

from tests.contract.conftest import machine
from tests.vm import marker

__all__ = ["machine", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Let the marker mean what it means."""
    marker.register(config)
