import pytest
import torch


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
