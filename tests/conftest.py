"""What every test shares: the same random draws each time, and no secret left over from another test."""

import pytest
from hypothesis import settings

from w2vb_ray.config import secrets

# A red test must mean the code changed: examples are drawn from a fixed seed.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _no_remembered_secrets(monkeypatch):
    """`secrets.remember` is for the life of a process, and a test is shorter."""
    monkeypatch.setattr(secrets, "_known", set())
