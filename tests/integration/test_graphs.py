"""Every kind of model as a graph: the vectors of transformers, in the encoder and in a runtime without this package."""

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from tests.unit.encoder.checkpoints import VARIANTS, load, reference, relative_error, save, waveforms

SIZES = (16_170, 400, 40_001, 720, 33_333)


@pytest.mark.parametrize(
    ("variant", "kind"),
    [
        *((variant, "onnx") for variant in sorted(VARIANTS.keys() - {"hubert-group", "wavlm-group"})),
        *((variant, "openvino") for variant in ("bert", "wav2vec2-layer")),
    ],
)
def test_the_vectors_of_transformers(variant, kind, checkpoint, exported):
    encoder = load(exported(checkpoint(variant), kind), precision="auto", layers=[3, 0, -2])
    batch = waveforms(*SIZES)
    limit = 1e-4 if kind == "onnx" else 1e-2  # its weights are fp16
    for waveform, embeddings in zip(batch, encoder.encode(batch, keep_frames=True), strict=True):
        if len(waveform) < 720:  # transformers' extractor gives NaN
            assert embeddings.num_frames == 1
            assert all(np.isfinite(frames).all() for frames in embeddings.frames)
            continue
        states = reference(checkpoint(variant), waveform)
        for position, layer in enumerate([3, 0, 2]):
            assert relative_error(embeddings.frames[position], states[layer]) < limit
            assert relative_error(embeddings.pooled[position], states[layer].mean(0)) < limit


@pytest.mark.parametrize(
    ("variant", "kind"), [("bert", "onnx_int8"), ("bert", "openvino_int8"), ("wav2vec2-layer", "onnx_int8")]
)
def test_bytes_are_near(variant, kind, exported, tmp_path):
    checkpoint = save(tmp_path / "checkpoint", variant, hidden_size=128, intermediate_size=256)
    encoder = load(exported(checkpoint, kind), precision="auto")
    assert encoder.precision == "int8"
    batch = waveforms(16_170, 40_001)
    for waveform, embeddings in zip(batch, encoder.encode(batch), strict=True):
        expected = reference(checkpoint, waveform)[-1].mean(0)
        found = embeddings.pooled[0]
        assert 0.99 < found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) < 0.9999999


def test_a_batch_with_a_mask_in_plain_onnxruntime(checkpoint, exported):
    folder = exported(checkpoint("bert"), "onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    batch = [one.astype(np.float32) / 32_768 for one in waveforms(16_170, 40_001, 8_000)]
    inputs = extractor(batch, sampling_rate=16_000, return_tensors="np")
    model = AutoModel.from_pretrained(checkpoint("bert")).eval()
    with torch.inference_mode():
        expected = model(**extractor(batch, sampling_rate=16_000, return_tensors="pt")).last_hidden_state.numpy()
    feed = {
        one.name: inputs[one.name].astype({"tensor(float)": "f4"}.get(one.type, "i8")) for one in session.get_inputs()
    }
    (found,) = session.run(["hidden_03"], feed)
    real = inputs["attention_mask"].astype(bool)
    assert not real.all()
    assert relative_error(found[real], expected[real]) < 1e-4
    assert [axis for one in session.get_inputs() for axis in one.shape] == ["batch", "frames", 160, "batch", "frames"]


@pytest.fixture(scope="module")
def ten_minutes():
    """A waveform, and what the model itself makes of it."""
    (waveform,) = waveforms(600 * 16_000)
    return waveform, load("embedded").encode([waveform])[0].pooled[0]


@pytest.mark.parametrize("kind", ["onnx", "openvino_int8"])
def test_ten_minutes(kind, ten_minutes, exported, tmp_path, monkeypatch):
    monkeypatch.setenv("W2VB_RAY_CACHE", str(tmp_path / "cache"))
    waveform, expected = ten_minutes
    (found,) = load(str(exported("embedded", kind)), precision="auto").encode([waveform])[0].pooled
    assert found @ expected > 0.999 * np.linalg.norm(found) * np.linalg.norm(expected)
