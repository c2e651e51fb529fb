"""How the helper's tests run: examples take the time they take, and what needs root says so where there is none."""

from hypothesis import settings

from tests.lab.requirements import pytest_runtest_setup, pytest_terminal_summary

__all__ = ["pytest_runtest_setup", "pytest_terminal_summary"]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
