"""What every encoder promises, on the model that comes with the package."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.audio.features import num_feature_frames
from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, PoolingSection
from w2vb_ray.encoder import Embeddings, Encoder, load_encoder

POOL = [
    np.random.default_rng(size).integers(-9_000, 9_000, size).astype(np.int16)
    for size in (400, 559, 720, 5_000, 16_000, 16_001, 23_456, 70_000)
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("W2VB_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield load_encoder(
            EncoderSection(device="cpu", precision="fp32", layers=[0, -1]),
            PoolingSection(),
            BatchingSection(),
            AudioSection(max_window_s=3.0, window_context_s=0.5),
        )


@pytest.fixture(scope="module")
def alone(encoder):
    return [encoder.encode([waveform], keep_frames=True)[0] for waveform in POOL]


@settings(max_examples=12, deadline=None)
@given(indices=st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=8))
def test_a_vector_does_not_depend_on_the_batch_and_order_is_kept(encoder, alone, indices):
    for index, together in zip(indices, encoder.encode([POOL[index] for index in indices]), strict=True):
        assert together.frames is None
        for vector, expected in zip(together.pooled, alone[index].pooled, strict=True):
            assert np.linalg.norm(vector - expected) < 1e-4 * np.linalg.norm(expected)


def test_shapes_and_types(encoder: Encoder, alone: list[Embeddings]):
    assert encoder.layers == [0, encoder.num_layers]
    for waveform, embeddings in zip(POOL, alone, strict=True):
        assert embeddings.num_frames == num_feature_frames(len(waveform))
        for vector, frames in zip(embeddings.pooled, embeddings.frames, strict=True):
            assert (vector.shape, vector.dtype) == ((encoder.dimension,), np.float32)
            assert (frames.shape, frames.dtype) == ((embeddings.num_frames, encoder.dimension), np.float32)
            np.testing.assert_allclose(frames.mean(0), vector, atol=1e-4)


def test_int16_and_float_and_read_only_are_the_same(encoder, alone):
    samples = POOL[4].astype(np.float32) / 32768
    samples.flags.writeable = False
    np.testing.assert_allclose(encoder.encode([samples])[0].pooled[1], alone[4].pooled[1], rtol=1e-5, atol=1e-6)


def test_nothing_in_nothing_out(encoder):
    assert encoder.encode([]) == []


@pytest.mark.parametrize(
    "waveform",
    [np.zeros(399, np.int16), np.zeros((2, 800), np.int16), np.zeros(800, np.float64), np.zeros(800, np.int32)],
)
def test_what_is_not_a_waveform_is_refused(encoder, waveform):
    with pytest.raises(ValueError, match="a waveform must"):
        encoder.encode([POOL[4], waveform])


def test_frames_are_counted(encoder):
    before = encoder.stats.num_frames, encoder.stats.num_padding_frames
    encoder.encode([POOL[4], POOL[6]])
    lengths = num_feature_frames(16_000), num_feature_frames(23_456)
    assert encoder.stats.num_frames - before[0] == sum(lengths)
    assert encoder.stats.num_padding_frames == before[1]  # this model's utterances are packed
