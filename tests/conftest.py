"""What every test shares: the same random draws each time, no secret left over from another test, exported models."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from w2vb_ray.config import secrets
from w2vb_ray.config.sections import EncoderSection

# A red test must mean the code changed: examples are drawn from a fixed seed.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _no_remembered_secrets(monkeypatch):
    """`secrets.remember` is for the life of a process, and a test is shorter."""
    monkeypatch.setattr(secrets, "_known", set())


@pytest.fixture
def at_root(monkeypatch):
    """The paths in the files of conf/ are the repository's own."""
    monkeypatch.chdir(Path(__file__).parents[1])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Name of a variant -> folder of a tiny random checkpoint, made once."""
    from tests.unit.encoder import checkpoints

    return cache(lambda variant: checkpoints.save(tmp_path_factory.mktemp("checkpoints") / variant, variant))


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Checkpoint and kind -> folder of an artifact, made once: a graph takes half a minute on a slow machine."""
    from w2vb_ray.encoder import resolve_checkpoint
    from w2vb_ray.export.write import write_weights

    @cache
    def export(checkpoint, kind):
        folder = tmp_path_factory.mktemp(kind)
        write_weights(resolve_checkpoint(EncoderSection(checkpoint=str(checkpoint))), kind, folder)
        return folder

    return export
