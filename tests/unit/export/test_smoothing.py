"""Smoothing changes no vector of the floats, and gives int8 back what outliers take from it."""

import pytest
import torch

from tests.unit.encoder.checkpoints import save, waveforms
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.backends import choose_backend
from w2vb_ray.encoder.frontend import make_frontend
from w2vb_ray.encoder.model import load_model
from w2vb_ray.encoder.packed import PackedForward
from w2vb_ray.encoder.quantized_model import quantize_model
from w2vb_ray.export.smoothing import smooth

CPU = torch.device("cpu")
SOUNDS = waveforms(16_000, 40_000)
CALIBRATION = waveforms(24_000, 30_000, seed=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("bert"), "bert", hidden_size=128, intermediate_size=256)
    return resolve_checkpoint(EncoderSection(checkpoint=str(folder)))


def vectors(checkpoint, *, factor=1.0, smoothed=False, int8=False):
    """Last hidden states of a model with outliers: channels of norms times a factor, their columns divided."""
    model = load_model(checkpoint, torch.float32, CPU)
    with torch.inference_mode():
        for index, layer in enumerate(model.encoder.layers):
            attention, convolution, channel = layer.self_attn, layer.conv_module, 7 * index
            for norm, targets in (
                (layer.ffn1_layer_norm, [layer.ffn1.intermediate_dense]),
                (layer.self_attn_layer_norm, [attention.linear_q, attention.linear_k, attention.linear_v]),
                (convolution.layer_norm, [convolution.pointwise_conv1]),
                (layer.ffn2_layer_norm, [layer.ffn2.intermediate_dense]),
            ):
                norm.weight[channel] *= factor
                norm.bias[channel] *= factor
                for target in targets:
                    target.weight[:, channel] /= factor
        if smoothed:
            smooth(model, checkpoint, CALIBRATION)
        if int8:
            quantize_model(model)
        inputs = make_frontend(checkpoint, CPU).prepare(SOUNDS)
        forward = PackedForward(model, [3], choose_backend(CPU, torch.float32, int8=int8))
        return next(hidden for _, hidden in forward(inputs, [len(one) for one in inputs]))


def error(found, expected):
    return float((found - expected).square().sum() / expected.square().sum())


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_floats_stay_what_they_were(factor, checkpoint):
    expected = vectors(checkpoint, factor=factor)
    assert error(vectors(checkpoint, factor=factor, smoothed=True), expected) < 1e-9


def test_outliers_cost_nothing_any_more(checkpoint):
    expected = vectors(checkpoint)
    plain = error(vectors(checkpoint, int8=True), expected)
    rough = error(vectors(checkpoint, factor=100.0, int8=True), expected)
    mended = error(vectors(checkpoint, factor=100.0, int8=True, smoothed=True), expected)
    assert rough > 10 * plain
    assert mended < 2 * plain


def test_without_outliers_nothing_is_lost(checkpoint):
    expected = vectors(checkpoint)
    plain = error(vectors(checkpoint, int8=True), expected)
    assert error(vectors(checkpoint, int8=True, smoothed=True), expected) < 1.2 * plain
