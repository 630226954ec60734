"""Which vectors come out of one forward: several poolings, mixtures of layers, vectors of length 1."""

import numpy as np
import pytest

from tests.unit.encoder.checkpoints import load, reference, relative_error, waveforms

VARIANTS = ["bert", "bert-rotary", "wav2vec2-layer"]  # packed, padded, equally long


def test_several_poolings_are_those_of_each_alone(checkpoint):
    options = {"layers": [-1, 1], "max_window_s": 2.0, "window_context_s": 0.3}
    batch, methods = waveforms(70_000, 9_000), ["max", "mean_std", "mean"]
    alone = [load(checkpoint("bert"), methods=[method], **options).encode(batch) for method in methods]
    for utterance, embeddings in enumerate(load(checkpoint("bert"), methods=methods, **options).encode(batch)):
        expected = [found[utterance].pooled[layer] for layer in (0, 1) for found in alone]
        assert len(embeddings.pooled) == 6
        for vector, other in zip(embeddings.pooled, expected, strict=True):
            np.testing.assert_array_equal(vector, other)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mixture_is_the_weighted_sum_of_plain_transformers(variant, checkpoint):
    folder, layers, weights = checkpoint(variant), [3, 0, 2], [0.5, -1.0, 3.0]
    encoder = load(folder, layers=layers, layer_weights=weights, methods=["mean", "max"])
    assert encoder.layers == layers
    batch = waveforms(16_000, 30_001)
    for waveform, embeddings in zip(batch, encoder.encode(batch, keep_frames=True), strict=True):
        states = reference(folder, waveform)
        expected = sum(weight * states[layer] for layer, weight in zip(layers, weights, strict=True))
        (frames,) = embeddings.frames
        assert relative_error(frames, expected) < 1e-4
        for vector, whole in zip(embeddings.pooled, (expected.mean(0), expected.max(0)), strict=True):
            assert relative_error(vector, whole) < 1e-4


def test_a_mixture_in_half_precision_is_summed_in_float32(checkpoint):
    options = {"layers": [3, 0], "precision": "bf16"}
    plain = load(checkpoint("bert-rotary"), **options).encode(waveforms(16_000), keep_frames=True)[0].frames
    mixed = load(checkpoint("bert-rotary"), layer_weights=[1.0, 1e-3], **options)
    (frames,) = mixed.encode(waveforms(16_000), keep_frames=True)[0].frames
    np.testing.assert_allclose(frames, plain[0] + 1e-3 * plain[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["mean", "mean_std", "max"])
def test_vectors_of_length_1(method, checkpoint):
    options = {"layers": [0, -1], "methods": [method]}
    (plain,) = load(checkpoint("bert"), **options).encode(waveforms(30_000))
    (unit,) = load(checkpoint("bert"), normalise=True, **options).encode(waveforms(30_000), keep_frames=True)
    for vector, expected in zip(unit.pooled, plain.pooled, strict=True):
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector.astype(np.float64)) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-5)
    assert np.linalg.norm(unit.frames[0][0]) != pytest.approx(1, abs=1e-3)  # frames are as they are


def test_a_vector_of_zeros_stays_one(checkpoint):
    encoder = load(checkpoint("bert"), layer_weights=[0.0], normalise=True)
    np.testing.assert_array_equal(encoder.encode(waveforms(9_000))[0].pooled[0], np.zeros(32))
