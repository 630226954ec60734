"""Drivers of runs on real Delta tables; see `sink`."""

import pytest

from w2vb_ray.embed import claim as module

from .sink import DEAD, LAYOUTS_WITH_FRAMES, Driver


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """What a driver would have slept between attempts, in seconds."""
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    return slept


@pytest.fixture
def driver(tmp_path):
    def driver(run_id, *arguments, **options):
        return Driver(tmp_path, run_id, *arguments, **options)

    driver.folder = tmp_path
    return driver


@pytest.fixture
def run_a(driver):
    """A run that holds new tables."""
    run = driver("a")
    assert run.hold()
    return run


@pytest.fixture
def zombie(driver):
    run = driver("a", DEAD)
    assert run.hold(LAYOUTS_WITH_FRAMES)
    return run
