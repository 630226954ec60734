import json
import shutil

import fsspec
import pytest

from tests.unit.encoder import heads
from tests.unit.encoder.checkpoints import load, waveforms
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.fetch import build_once
from w2vb_ray.errors import CheckpointError


def resolve(checkpoint, **options):
    return resolve_checkpoint(EncoderSection(checkpoint=str(checkpoint), **options))


@pytest.fixture
def store(checkpoint):
    """A checkpoint in fsspec's memory store, with files that nobody needs beside it."""
    memory = fsspec.filesystem("memory")
    for path in checkpoint("bert").iterdir():
        memory.pipe_file(f"/bucket/model/{path.name}", path.read_bytes())
    memory.pipe_file("/bucket/model/pytorch_model.bin", b"never")
    memory.pipe_file("/bucket/model/logs/events", b"never")
    yield memory
    memory.store.clear()


def test_a_uri_is_downloaded_once(store, cache, checkpoint, monkeypatch):
    found = resolve("memory://bucket/model")
    assert found.path.parent == cache / "checkpoints"
    assert found.weights_sha256 == resolve(checkpoint("bert")).weights_sha256
    assert {path.name for path in found.path.iterdir()} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }
    monkeypatch.setattr(type(store), "get_file", None)
    assert resolve("memory://bucket/model").path == found.path


def test_an_attention_head_comes_with_the_checkpoint(store, cache, tmp_path):
    heads.save(tmp_path)
    for path in tmp_path.glob("attention_pooling.*"):
        store.pipe_file(f"/bucket/model/{path.name}", path.read_bytes())
    (embeddings,) = load("memory://bucket/model", methods=["attention"]).encode(waveforms(16_000))
    assert embeddings.pooled[0].shape == (64,)


def test_a_changed_object_is_downloaded_again(store, cache):
    before = resolve("memory://bucket/model")
    weights = store.cat_file("/bucket/model/model.safetensors")
    store.pipe_file("/bucket/model/model.safetensors", weights + b" ")
    after = resolve("memory://bucket/model")
    assert after.path != before.path
    assert after.weights_sha256 != before.weights_sha256


def test_a_download_that_breaks_leaves_nothing(store, cache, monkeypatch):
    real = type(store).get_file

    def broken(self, source, target, **kwargs):
        if source.endswith(".safetensors"):
            raise ConnectionResetError("reset by peer")
        real(self, source, target, **kwargs)

    monkeypatch.setattr(type(store), "get_file", broken)
    with pytest.raises(
        CheckpointError, match=r"'memory://bucket/model' is not \(ConnectionResetError: reset by peer\)"
    ):
        resolve("memory://bucket/model")
    assert list((cache / "checkpoints").iterdir()) == []
    monkeypatch.undo()


def test_a_downloaded_checkpoint_encodes(store, cache):
    assert load("memory://bucket/model").encode(waveforms(16_000))[0].pooled[0].shape == (32,)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("memory://bucket/nothing", "FileNotFoundError"),
        ("memory://bucket", "no config.json under"),
        ("nosuch://bucket/model", "Protocol not known"),
    ],
)
def test_uris_that_cannot_be_read(uri, message, store, cache):
    with pytest.raises(CheckpointError, match=message):
        resolve(uri)


def test_the_hub_offline_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"'org/model' at revision 'v1' .* encoder\.revision and the network"
    ) as caught:
        resolve("org/model", revision="v1")
    assert "\n" not in str(caught.value)


def test_the_hub_gives_a_folder(monkeypatch, checkpoint):
    calls = []

    def snapshot_download(name, **kwargs):
        calls.append((name, kwargs))
        return str(checkpoint("bert"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve("org/model", revision="v1").path == checkpoint("bert")
    assert calls == [("org/model", {"revision": "v1", "allow_patterns": ["*.json", "*.safetensors"]})]


def test_the_hub_is_asked_for_what_an_artifact_names(monkeypatch, checkpoint, tmp_path):
    files = ["model.onnx", "model.onnx.data"]
    described = {"format_version": 1, "kind": "onnx", "files": files, "source": {"trained": True}}
    (tmp_path / "artifact.json").write_text(json.dumps(described), encoding="utf-8")
    shutil.copyfile(checkpoint("bert") / "config.json", tmp_path / "config.json")
    asked = []

    def snapshot_download(name, allow_patterns, **kwargs):
        asked.append(allow_patterns)
        for file in set(files) & set(allow_patterns):
            (tmp_path / file).write_bytes(b"graph")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert [path.name for path in resolve("org/artifact").weights] == files
    assert asked == [["*.json", "*.safetensors"], ["*.json", "*.safetensors", *files]]


def test_whoever_comes_second_takes_what_is_there(tmp_path):
    target = tmp_path / "target"

    def build(folder):
        (folder / "mine").touch()
        target.mkdir()
        (target / "theirs").touch()

    assert [path.name for path in build_once(target, build).iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [target]
