"""An utterance has the same vectors alone and in any company: to 1e-4 of their norm, in bf16 to a cosine of 0.9999, in
int8 to 1e-6; whatever runs the model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, PoolingSection
from w2vb_ray.encoder import Encoder, load_encoder
from w2vb_ray.encoder.artifact import KINDS

SECOND = 16_000
BUDGETS = (1, 130, 700, 30_000)


def noise(num_samples: int, level: float = 3_000) -> np.ndarray:
    return (np.random.default_rng(num_samples).normal(size=num_samples) * level).astype(np.int16)


def tone(num_samples: int) -> np.ndarray:
    return (8_000 * np.sin(np.arange(num_samples) * 0.2)).astype(np.int16)


POOL = [
    np.zeros(SECOND, np.int16),  # silence
    noise(400),  # shortest
    noise(719),
    noise(5_000, 3),  # almost silence
    tone(SECOND),
    noise(SECOND + 160),
    np.concatenate([np.zeros(8_000, np.int16), noise(9_000), np.zeros(8_000, np.int16)]),
    noise(5 * SECOND, 30_000),  # clipped
    noise(13 * SECOND),  # longer than the window of 8 s
    noise(31 * SECOND),
]


def load(checkpoint: str, precision: str, max_frames: int) -> Encoder:
    return load_encoder(
        EncoderSection(checkpoint=checkpoint, device="cpu", precision=precision, layers=[0, 2, -1]),
        PoolingSection(),
        BatchingSection(max_frames=max_frames),
        AudioSection(max_window_s=8.0, window_context_s=1.0),
    )


@pytest.fixture(scope="module", params=["fp32", "bf16", "int8", "onnx", "onnx_int8", "openvino", "openvino_int8"])
def encoders(request, exported, tmp_path_factory):
    """Precision, and an encoder for each budget, of the model itself or of an artifact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("W2VB_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        checkpoint, precision = "embedded", request.param
        if request.param in KINDS and request.param != "bf16":
            checkpoint, precision = str(exported("embedded", request.param)), "auto"
        by_budget = {budget: load(checkpoint, precision, budget) for budget in BUDGETS}
        yield by_budget[1].precision, by_budget


@pytest.fixture(scope="module")
def alone(encoders):
    return [encoders[1][BUDGETS[-1]].encode([waveform], keep_frames=True)[0] for waveform in POOL]


@settings(max_examples=15, deadline=None)
@given(
    indices=st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=7),
    budget=st.sampled_from(BUDGETS),
    keep_frames=st.booleans(),
)
def test_any_company_order_and_budget(encoders, alone, indices, budget, keep_frames):
    precision, by_budget = encoders
    found = by_budget[budget].encode([POOL[index] for index in indices], keep_frames=keep_frames)
    for index, embeddings in zip(indices, found, strict=True):
        expected = alone[index]
        for layer in range(3):
            assert_same(embeddings.pooled[layer], expected.pooled[layer], precision)
            if keep_frames:
                assert_same(embeddings.frames[layer].ravel(), expected.frames[layer].ravel(), precision)


def assert_same(actual: np.ndarray, expected: np.ndarray, precision: str) -> None:
    if precision != "bf16" or not expected.any():  # silence is zero in the input of the first layer
        limit = 1e-6 if precision == "int8" else 1e-4
        assert np.linalg.norm(actual - expected) <= limit * np.linalg.norm(expected)
    else:
        assert actual @ expected > 0.9999 * np.linalg.norm(actual) * np.linalg.norm(expected)
