import os

import fsspec
import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import EndpointConnectionError
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from w2vb_ray import storage
from w2vb_ray.audio import fetch as module
from w2vb_ray.audio.fetch import fetch
from w2vb_ray.errors import AudioRejected, RejectReason


class Store(MemoryFileSystem):
    """A private in-memory store whose reads fail as scripted: each entry is an error to raise or bytes to return."""

    cachable = False

    def __init__(self, *script, **objects):
        super().__init__()
        self.store, self.pseudo_dirs = {}, [""]
        self.script, self.reads = list(script), 0
        for name, data in objects.items():
            self.pipe(f"/{name}", data)

    def cat_file(self, path, **kwargs):
        self.reads += 1
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            raise step
        return super().cat_file(path, **kwargs) if step is None else step


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_S", 0.0)


def reason_of(store, path="/a", expected_bytes=3, max_bytes=100):
    with pytest.raises(AudioRejected) as caught:
        fetch(store, path, expected_bytes=expected_bytes, max_bytes=max_bytes)
    return caught.value.reason


def test_whole_object():
    assert fetch(Store(a=b"abc"), "/a", expected_bytes=3, max_bytes=3) == b"abc"
    assert fetch(Store(a=b"abc"), "/a", expected_bytes=None, max_bytes=3) == b"abc"


def test_missing():
    assert reason_of(Store()) is RejectReason.MISSING
    assert reason_of(Store(), expected_bytes=None) is RejectReason.MISSING


def test_directory(tmp_path):
    local = fsspec.filesystem("file")
    for expected_bytes in (None, 4096):
        assert reason_of(local, str(tmp_path), expected_bytes, 10_000) is RejectReason.MISSING
    assert reason_of(local, str(tmp_path / "file" / "below")) is RejectReason.MISSING


def test_too_large_is_not_read():
    store = Store(a=b"abcd")
    assert reason_of(store, expected_bytes=4, max_bytes=3) is RejectReason.TOO_LARGE
    assert reason_of(store, expected_bytes=None, max_bytes=3) is RejectReason.TOO_LARGE
    assert store.reads == 0


def test_empty():
    assert reason_of(Store(a=b""), expected_bytes=0) is RejectReason.EMPTY
    assert reason_of(Store(a=b""), expected_bytes=None) is RejectReason.EMPTY


def test_another_size_now_is_a_changed_object():
    assert reason_of(Store(a=b"abcd"), expected_bytes=3) is RejectReason.CHANGED
    assert reason_of(Store(a=b""), expected_bytes=3) is RejectReason.CHANGED


def test_short_reads_are_tried_again():
    assert fetch(Store(b"a", b"ab", a=b"abc"), "/a", expected_bytes=3, max_bytes=9) == b"abc"
    store = Store(b"a", b"ab", b"", b"abcd", b"a", b"ab", a=b"abc")
    assert reason_of(store) is RejectReason.UNREADABLE
    assert store.reads == 6


@pytest.mark.parametrize(
    "error",
    [
        OSError("reset"),
        TimeoutError("slow"),
        ClientPayloadError("cut"),
        EndpointConnectionError(endpoint_url="http://store"),
    ],
)
def test_failing_reads_are_tried_six_times(error):
    assert fetch(Store(*[error] * 5, a=b"abc"), "/a", expected_bytes=3, max_bytes=9) == b"abc"
    with pytest.raises(AudioRejected, match=type(error).__name__) as caught:
        fetch(Store(*[error] * 6, a=b"abc"), "/a", expected_bytes=3, max_bytes=9)
    assert caught.value.reason is RejectReason.UNREADABLE


def test_an_object_replaced_by_one_of_the_same_size_is_a_changed_object(tmp_path):
    file, local = tmp_path / "a", fsspec.filesystem("file")
    file.write_bytes(b"abc")
    version = storage.version_of(local.info(str(file)))
    assert fetch(local, str(file), expected_bytes=3, max_bytes=9, version=version) == b"abc"
    file.write_bytes(b"xyz")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))
    with pytest.raises(AudioRejected, match=version) as caught:
        fetch(local, str(file), expected_bytes=3, max_bytes=9, version=version)
    assert caught.value.reason is RejectReason.CHANGED


def test_an_object_replaced_while_it_is_read_is_a_changed_object(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")

    class Racing(LocalFileSystem):
        cachable = False

        def cat_file(self, path, **kwargs):
            data = super().cat_file(path, **kwargs)
            os.utime(path, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))
            return data

    version = storage.version_of(LocalFileSystem().info(str(file)))
    with pytest.raises(AudioRejected) as caught:
        fetch(Racing(), str(file), expected_bytes=3, max_bytes=9, version=version)
    assert caught.value.reason is RejectReason.CHANGED


def test_no_permission_is_not_tried_again():
    store = Store(PermissionError("Access Denied"), a=b"abc")
    assert reason_of(store) is RejectReason.UNREADABLE
    assert store.reads == 1
