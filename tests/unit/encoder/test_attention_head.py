"""Attention pooling heads: what a checkpoint's folder must hold, and what it does to a run."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.unit.encoder import heads
from tests.unit.encoder.checkpoints import load, relative_error, waveforms
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.attention_head import read_attention_head
from w2vb_ray.errors import CheckpointError

WEIGHTS = "attention_pooling.safetensors"


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A tiny checkpoint to put a head into."""
    return shutil.copytree(checkpoint("bert"), tmp_path / "copy")


def read(folder, **options):
    section = EncoderSection(checkpoint=str(folder), **options)
    return read_attention_head(resolve_checkpoint(section), section)


@pytest.mark.parametrize("hidden_size", [None, 6])
def test_a_head_pools_all_frames_of_all_windows(folder, hidden_size):
    head = heads.save(folder, hidden_size=hidden_size)
    encoder = load(folder, methods=["attention", "mean"], max_window_s=2.0, window_context_s=0.3, layers=[1, -1])
    batch = waveforms(150_000, 16_000, 400)
    for waveform, together in zip(batch, encoder.encode(batch, keep_frames=True), strict=True):
        (alone,) = encoder.encode([waveform])
        assert [vector.shape for vector in together.pooled] == [(64,), (32,)] * 2
        for layer, frames in enumerate(together.frames):
            attention, mean = together.pooled[2 * layer : 2 * layer + 2]
            np.testing.assert_allclose(attention, heads.reference(head, frames), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-4, atol=1e-5)
            assert relative_error(alone.pooled[2 * layer], attention) < 1e-4


def test_a_head_changes_nothing_for_those_who_do_not_use_it(folder):
    before, vector = resolve_checkpoint(EncoderSection(checkpoint=str(folder))), load(folder).encode(waveforms(9_000))
    heads.save(folder)
    after = resolve_checkpoint(EncoderSection(checkpoint=str(folder)))
    assert after.weights_sha256 == before.weights_sha256
    assert [file.name for file in after.weights] == [file.name for file in before.weights] == ["model.safetensors"]
    np.testing.assert_array_equal(load(folder).encode(waveforms(9_000))[0].pooled, vector[0].pooled)


def test_a_head_alone_is_no_model(folder):
    heads.save(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"must hold \*\.safetensors.* has no weights"):
        read(folder)


def test_either_file_changes_the_hash(folder):
    heads.save(folder)
    hashes = {read(folder).sha256}
    heads.save(folder, normalise=True)
    hashes.add(read(folder).sha256)
    tensors = load_file(folder / WEIGHTS)
    tensors["scores.bias"] += 1
    save_file(tensors, folder / WEIGHTS)
    hashes.add(read(folder).sha256)
    assert len(hashes) == 3


@pytest.mark.parametrize("missing", [["attention_pooling.json"], [WEIGHTS], ["attention_pooling.json", WEIGHTS]])
def test_missing_files_are_named(folder, missing):
    heads.save(folder)
    for name in missing:
        (folder / name).unlink()
    message = f"attention_pooling.json and {WEIGHTS}, but '{folder}' lacks {' and '.join(missing)}; add"
    with pytest.raises(CheckpointError) as caught:
        load(folder, methods=["mean", "attention"])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("format_version", 2, "1"),
        ("num_heads", 0, "a positive whole number"),
        ("num_heads", True, "a positive whole number"),
        ("hidden_size", 1.5, "a positive whole number or null"),
        ("layer", 4, "0 to 3 or null"),
        ("layer", -1, "0 to 3 or null"),
        ("normalise", None, "true or false"),
    ],
)
def test_settings_that_are_wrong(folder, key, value, rule):
    heads.save(folder)
    path = folder / "attention_pooling.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(
        CheckpointError, match=rf"^{key} in attention_pooling\.json of .* must be {rule}, but is {value!r}"
    ):
        read(folder)


def test_keys_that_are_not_those_of_the_format(folder):
    heads.save(folder, temperature=2)
    with pytest.raises(CheckpointError, match=r"must have the keys format_version, .*, but has .*, temperature; write"):
        read(folder)
    (folder / "attention_pooling.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"must have the keys format_version, .*, but has none; write"):
        read(folder)
    (folder / "attention_pooling.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"readable attention_pooling\.json"):
        read(folder)


@pytest.mark.parametrize("layers", [[2], [-2]])
def test_the_layer_a_head_was_trained_on(folder, layers):
    heads.save(folder, layer=2)
    read(folder, layers=layers)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, r"\[3\]"),
        ({"layers": [2, -1]}, r"\[2, 3\]"),
        ({"layers": [2], "layer_weights": [1]}, r"\[2\] mixed by encoder.layer_weights"),
    ],
)
def test_layers_a_head_was_not_trained_on(folder, options, kept):
    heads.save(folder, layer=2)
    with pytest.raises(CheckpointError, match=rf"\(2\), but encoder\.layers keeps {kept}; set encoder\.layers=\[2\]"):
        read(folder, **options)


def damage(tensors, name):
    match name:
        case "missing":
            del tensors["hidden.bias"]
        case "more":
            tensors["more"] = np.zeros(1, np.float32)
        case "shape":
            tensors["scores.weight"] = np.zeros((3, 6), np.float32)
        case "type":
            tensors["scores.bias"] = np.zeros(2, np.int32)
    return tensors


@pytest.mark.parametrize("name", ["missing", "more", "shape", "type"])
def test_tensors_that_are_not_those_of_the_settings(folder, name):
    heads.save(folder)
    save_file(damage(load_file(folder / WEIGHTS), name), folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} of .* must hold F16, F32, F64 tensors .* but holds"):
        read(folder)


def test_weights_that_are_no_safetensors(folder):
    heads.save(folder)
    (folder / WEIGHTS).write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS} of .* must be a safetensors file, but is not"):
        read(folder)


def test_half_precision_weights_are_taken(folder):
    heads.save(folder)
    save_file({name: one.astype(np.float16) for name, one in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    assert {tensor.dtype.name for tensor in read(folder).tensors.values()} == {"float32"}
