import pyarrow as pa
import pytest

from w2vb_ray import storage
from w2vb_ray.errors import SourceError
from w2vb_ray.source import versions

ROOT = "memory://w2vb-versions"


@pytest.fixture
def store():
    fs = storage.filesystem(ROOT)
    for number in range(60):
        fs.pipe_file(f"/w2vb-versions/many/{number}.wav", b"x" * number)
    fs.pipe_file("/w2vb-versions/few/a.wav", b"xy")
    yield fs
    for path in fs.find("/w2vb-versions"):
        fs.rm_file(path)


def test_sizes_come_back_in_order_whatever_was_listed(store, monkeypatch):
    heads: list[str] = []
    info = type(store).info
    monkeypatch.setattr(type(store), "info", lambda self, path: heads.append(path) or info(self, path))
    uris = [f"{ROOT}/many/{number}.wav" for number in reversed(range(60))]
    uris += [f"{ROOT}/many/gone.wav", "", f"{ROOT}/few/a.wav", f"{ROOT}/few", f"{ROOT}/none/b.wav", uris[0]]
    sizes, found, _ = versions.stat(pa.array(uris), {})
    assert sizes.to_pylist() == [*reversed(range(60)), None, None, 2, None, None, 59]
    assert [version == "" for version in found.to_pylist()[60:]] == [True, True, False, True, True, False]
    assert len(heads) == 3


def test_denied_objects_have_an_unknown_size_and_denied_stores_stop(store, monkeypatch):
    def info(self, path):
        if "denied" in path:
            raise PermissionError(path)
        return {"name": path, "size": 1, "type": "file", "etag": "e"}

    monkeypatch.setattr(type(store), "info", info)
    sizes, found, _ = versions.stat(pa.array([f"{ROOT}/denied.wav", f"{ROOT}/b.wav"]), {})
    assert sizes.to_pylist() == [-1, 1]
    assert found.to_pylist() == ["", "e"]
    with pytest.raises(SourceError, match=r"access to .*denied\.wav and all other audio is denied"):
        versions.stat(pa.array([f"{ROOT}/denied.wav"]), {})


def test_local_files(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    uris = [str(tmp_path / "a"), str(tmp_path), str(tmp_path / "b"), "/nul\0"]
    sizes, found, _ = versions.stat(pa.array(uris), {})
    assert sizes.to_pylist() == [2, None, None, None]
    assert found[0].as_py().startswith("2-")
