"""How the helper's tests run: examples take the time they take, servers are gone after the test, and what needs root
says so where there is none."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.lab.requirements import pytest_runtest_setup, pytest_terminal_summary
from tests.unit.privhelper.serving import Serving, Start

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def start() -> Iterator[Start]:
    """Servers, and their end."""
    started: list[Serving] = []

    def begin(*args: float, **options: object) -> Serving:
        serving = Serving(*args, **options)  # type: ignore[arg-type]
        started.append(serving)
        return serving.start()

    yield begin
    for serving in started:
        serving.close()
