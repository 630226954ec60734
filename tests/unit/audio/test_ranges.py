import io

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray import storage
from w2vb_ray.audio import fetch
from w2vb_ray.audio.ranges import RangeFile, Ranges
from w2vb_ray.errors import AudioRejected

DATA = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()


class Store(LocalFileSystem):
    """A store that counts what is asked of it and fails on request."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.asked = []
        self.short = 0
        self.failures = []

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.asked.append((start, end - start))
        if self.failures:
            raise self.failures.pop(0)
        data = super().cat_file(path, start=start, end=end, **kwargs)
        if self.short:
            self.short -= 1
            return data[: len(data) // 2]
        return data


@pytest.fixture
def path(tmp_path):
    (tmp_path / "object").write_bytes(DATA)
    return tmp_path / "object"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.0)


def open_ranges(path, store=None):
    store = store or Store()
    return Ranges(store, str(path), storage.version_of(store.info(str(path))))


def test_a_range_is_what_stands_there(path):
    ranges = open_ranges(path)
    assert ranges.num_bytes == len(DATA)
    assert ranges.read(10, 90) == DATA[10:100]
    assert ranges.read(len(DATA) - 1, 1) == DATA[-1:]
    assert ranges.read(5, 0) == b""
    ranges.check_version()


@pytest.mark.parametrize("times", [1, 2])
def test_short_answers_and_failures_are_asked_again(path, times):
    store = Store()
    store.short = times
    assert open_ranges(path, store).read(10, 90) == DATA[10:100]
    store.failures = [OSError("503 Slow Down"), ConnectionResetError()][:times]
    assert open_ranges(path, store).read(10, 90) == DATA[10:100]


def test_a_store_that_keeps_answering_short_is_unreadable(path):
    store = Store()
    store.short = 99
    with pytest.raises(AudioRejected, match=r"unreadable: .*got 45 of 90 bytes.*6 attempts"):
        open_ranges(path, store).read(10, 90)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(DATA[::-1] + b"1"), "changed"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: (path.unlink(), path.mkdir()), "missing"),
    ],
)
def test_another_object_is_found_out_afterwards(path, change, reason):
    ranges = open_ranges(path)
    assert ranges.num_bytes == len(DATA)
    change(path)
    with pytest.raises(AudioRejected) as rejected:
        ranges.check_version()
    assert rejected.value.reason == reason


def test_a_range_beyond_the_end_is_not_even_asked_for(path):
    store = Store()
    with pytest.raises(AudioRejected, match="truncated"):
        open_ranges(path, store).read(99_999, 10**15)
    assert store.asked == []


def test_denied(path):
    store = Store()
    store.failures = [PermissionError("no")]
    with pytest.raises(AudioRejected, match="unreadable"):
        open_ranges(path, store).read(0, 1)


def test_one_request_a_range_where_drivers_would_make_several(path):
    class Concurrent(Store):
        def _cat_file(self, path, start=None, end=None, max_concurrency=None):
            raise NotImplementedError

        def cat_file(self, path, start=None, end=None, **kwargs):
            assert kwargs.pop("max_concurrency") == 1
            return super().cat_file(path, start=start, end=end, **kwargs)

    assert open_ranges(path, Concurrent()).read(0, 4) == DATA[:4]


@settings(max_examples=60)
@given(st.sampled_from([0, 640, 64_000]), st.lists(st.tuples(st.integers(0, 110_000), st.integers(0, 3000))))
def test_a_file_reads_like_any_file(ahead, moves):
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/ranges/object", DATA)
    file = RangeFile(Ranges(fs, "/ranges/object", ""), ahead)
    like = io.BytesIO(DATA)
    for position, size in moves:
        assert file.seek(position) == like.seek(position)
        assert file.read(size) == like.read(size)
        assert file.tell() == max(like.tell(), position)
    assert file.seek(-10, io.SEEK_END) == len(DATA) - 10
    assert file.read() == DATA[-10:]


def test_reading_ahead_grows_for_neighbours_and_shrinks_for_jumps(path):
    store = Store()
    file = RangeFile(open_ranges(path, store), 6400)
    for position in range(0, 40_000, 1000):
        file.seek(position)
        assert file.read(512) == DATA[position : position + 512]
    assert len(store.asked) < 15
    store.asked.clear()
    for position in range(50_000, 100_000, 20_000):
        file.seek(position)
        file.read(512)
    assert [size for _, size in store.asked] == [612, 612, 612]
