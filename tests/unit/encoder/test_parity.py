"""Against plain transformers on the same weights: extractor and model, one utterance at a time, no padding."""

import numpy as np
import pytest
import torch

from tests.unit.encoder.checkpoints import (
    VARIANTS,
    load,
    reference,
    reference_inputs,
    reference_model,
    relative_error,
    waveforms,
)
from w2vb_ray.encoder.windows import split_windows

SIZES = (16_000, 16_170, 40_001, 720, 16_000, 33_333, 561, 32_000)
PADDED = {"bert-relative", "bert-rotary", "wav2vec2-layer", "hubert-layer", "wavlm-layer"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_in_a_mixed_batch_and_alone(variant, checkpoint):
    folder = checkpoint(variant)
    encoder = load(folder, layers=[3, 0, -2])
    batch = waveforms(*SIZES)
    together = encoder.encode(batch, keep_frames=True)
    assert (encoder.stats.num_padding_frames > 0) == (variant in PADDED)
    for waveform, embeddings in zip(batch, together, strict=True):
        states = reference(folder, waveform)
        alone = encoder.encode([waveform])[0]
        assert alone.frames is None
        assert embeddings.num_frames == len(states[0]) == alone.num_frames
        for position, layer in enumerate([3, 0, 2]):
            assert relative_error(embeddings.frames[position], states[layer]) < 1e-4
            assert relative_error(embeddings.pooled[position], states[layer].mean(0)) < 1e-4
            assert relative_error(alone.pooled[position], embeddings.pooled[position]) < 1e-5


@pytest.mark.parametrize("variant", ["conformer", "hubert-batch-norm", "data2vec", "wav2vec2-group"])
def test_padding_would_change_the_models_that_get_none(variant, checkpoint):
    encoder = load(checkpoint(variant))
    encoder._frontend.paddable = encoder._forward.pads = True
    short, long = waveforms(16_170, 40_001)
    padded, alone = encoder.encode([short, long])[0], encoder.encode([short])[0]
    assert encoder.stats.num_padding_frames > 0
    assert relative_error(padded.pooled[0], alone.pooled[0]) > 1e-4


@pytest.mark.parametrize("variant", ["bert", "wav2vec2-layer"])
def test_shortest_utterance(variant, checkpoint):
    (embeddings,) = load(checkpoint(variant)).encode(waveforms(400), keep_frames=True)
    assert embeddings.num_frames == 1
    np.testing.assert_allclose(embeddings.frames[0][0], embeddings.pooled[0], rtol=1e-6)
    assert np.isfinite(embeddings.pooled[0]).all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_samples", [64_500, 210_163])
def test_windows_are_cut_after_normalising_and_stitched(variant, num_samples, checkpoint):
    folder = checkpoint(variant)
    encoder = load(folder, max_window_s=3.0, window_context_s=0.5)
    short, long = waveforms(20_000, num_samples)
    embeddings = encoder.encode([short, long], keep_frames=True)[1]
    expected = window_by_window(folder, long, embeddings.num_frames, longest=150, context=25)
    assert embeddings.num_frames == len(expected) > 150
    assert relative_error(embeddings.frames[0], expected) < 1e-4
    assert relative_error(embeddings.pooled[0], expected.mean(0)) < 1e-4


@torch.inference_mode()
def window_by_window(folder, waveform, num_frames, longest, context):
    name, inputs = reference_inputs(folder, waveform)
    model = reference_model(folder)[0]
    keeps_tail = getattr(model.config, "feat_extract_norm", "layer") == "group"
    pieces = []
    for window in split_windows(num_frames, longest, context):
        cut = slice(window.start, window.stop)
        if name == "input_values":
            last = keeps_tail and window.stop == num_frames
            cut = slice(window.start * 320, None if last else (window.stop - 1) * 320 + 400)
        states = model(**{name: inputs[:, cut]}).last_hidden_state[0]
        pieces.append(states[window.core_start - window.start : window.core_stop - window.start])
    return torch.cat(pieces).numpy()


@pytest.mark.parametrize("method", ["mean_std", "max"])
def test_pooling_over_all_windows(method, checkpoint):
    encoder = load(checkpoint("bert"), methods=[method], max_window_s=2.0, window_context_s=0.3)
    (embeddings,) = encoder.encode(waveforms(150_000), keep_frames=True)
    frames = embeddings.frames[0].astype(np.float64)
    expected = frames.max(0) if method == "max" else np.concatenate([frames.mean(0), frames.std(0)])
    np.testing.assert_allclose(embeddings.pooled[0], expected, rtol=1e-5, atol=1e-6)


def test_adapter_and_head_are_left_out(tmp_path):
    from transformers import Wav2Vec2BertConfig, Wav2Vec2BertForCTC

    from tests.unit.encoder.checkpoints import COMMON

    config = Wav2Vec2BertConfig(
        **COMMON, output_hidden_size=32, add_adapter=True, use_intermediate_ffn_before_adapter=True, vocab_size=9
    )
    Wav2Vec2BertForCTC(config).save_pretrained(tmp_path)
    (waveform,) = waveforms(30_001)
    model = reference_model(tmp_path)[0]
    name, inputs = reference_inputs(tmp_path, waveform)
    with torch.inference_mode():
        expected = model(**{name: inputs}, output_hidden_states=True).hidden_states[3][0].numpy()
    (embeddings,) = load(tmp_path).encode([waveform], keep_frames=True)
    assert relative_error(embeddings.frames[0], expected) < 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("variant", ["bert", "wav2vec2-layer", "conformer"])
def test_half_precision_points_the_same_way(variant, precision, checkpoint):
    batch = waveforms(16_000, 30_000)
    full = load(checkpoint(variant)).encode(batch)
    half = load(checkpoint(variant), precision=precision).encode(batch)
    for a, b in zip(full, half, strict=True):
        a, b = a.pooled[0], b.pooled[0]
        assert b.dtype == np.float32
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
