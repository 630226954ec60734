from pathlib import Path

import pytest
import torch

from tests.unit.encoder import checkpoints


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Name of a variant -> folder of a tiny random checkpoint, made once."""
    made: dict[str, Path] = {}

    def get(variant):
        if variant not in made:
            made[variant] = checkpoints.save(tmp_path_factory.mktemp("checkpoints") / variant, variant)
        return made[variant]

    return get


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of this package."""
    monkeypatch.setenv("W2VB_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny models gain nothing from threads, and on a busy machine torch's threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
