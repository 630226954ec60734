"""Every kind of model as a graph: the vectors of transformers, in the encoder and in a runtime without this package."""

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from tests.unit.encoder.checkpoints import VARIANTS, load, reference, relative_error, save, waveforms
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.export.write import write_weights

SIZES = (16_170, 400, 40_001, 720, 33_333)


def export(checkpoint, kind, folder):
    folder.mkdir()
    write_weights(resolve_checkpoint(EncoderSection(checkpoint=str(checkpoint))), kind, folder)
    return folder


@pytest.mark.parametrize(
    ("variant", "kind"),
    [
        *((variant, "onnx") for variant in sorted(VARIANTS.keys() - {"hubert-group", "wavlm-group"})),
        *((variant, "openvino") for variant in ("bert", "wav2vec2-layer")),
    ],
)
def test_the_vectors_of_transformers(variant, kind, tmp_path):
    checkpoint = save(tmp_path / "checkpoint", variant)
    encoder = load(export(checkpoint, kind, tmp_path / kind), precision="auto", layers=[3, 0, -2])
    batch = waveforms(*SIZES)
    limit = 1e-4 if kind == "onnx" else 1e-2  # its weights are fp16
    for waveform, embeddings in zip(batch, encoder.encode(batch, keep_frames=True), strict=True):
        if len(waveform) < 720:  # transformers' extractor gives NaN
            assert embeddings.num_frames == 1
            assert all(np.isfinite(frames).all() for frames in embeddings.frames)
            continue
        states = reference(checkpoint, waveform)
        for position, layer in enumerate([3, 0, 2]):
            assert relative_error(embeddings.frames[position], states[layer]) < limit
            assert relative_error(embeddings.pooled[position], states[layer].mean(0)) < limit


@pytest.mark.parametrize(
    ("variant", "kind"), [("bert", "onnx_int8"), ("bert", "openvino_int8"), ("wav2vec2-layer", "onnx_int8")]
)
def test_bytes_are_near(variant, kind, tmp_path):
    checkpoint = save(tmp_path / "checkpoint", variant, hidden_size=128, intermediate_size=256)
    encoder = load(export(checkpoint, kind, tmp_path / kind), precision="auto")
    assert encoder.precision == "int8"
    batch = waveforms(16_170, 40_001)
    for waveform, embeddings in zip(batch, encoder.encode(batch), strict=True):
        expected = reference(checkpoint, waveform)[-1].mean(0)
        found = embeddings.pooled[0]
        assert 0.99 < found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) < 0.9999999


def test_a_batch_with_a_mask_in_plain_onnxruntime(tmp_path):
    checkpoint = save(tmp_path / "checkpoint", "bert")
    folder = export(checkpoint, "onnx", tmp_path / "onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    batch = [one.astype(np.float32) / 32_768 for one in waveforms(16_170, 40_001, 8_000)]
    inputs = extractor(batch, sampling_rate=16_000, return_tensors="np")
    model = AutoModel.from_pretrained(checkpoint).eval()
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


@pytest.mark.parametrize("kind", ["onnx", "openvino_int8"])
def test_ten_minutes(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("W2VB_RAY_CACHE", str(tmp_path / "cache"))
    folder = export("embedded", kind, tmp_path / kind)
    (waveform,) = waveforms(600 * 16_000)
    pooled = {}
    for checkpoint in ("embedded", str(folder)):
        (pooled[checkpoint],) = load(checkpoint, precision="auto").encode([waveform])[0].pooled
    expected, found = pooled.values()
    assert found @ expected > 0.999 * np.linalg.norm(found) * np.linalg.norm(expected)
