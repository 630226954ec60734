"""Packed linear layers: the same numbers, whichever library is faster here."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.encoder.checkpoints import load, relative_error, waveforms
from w2vb_ray.encoder import linear
from w2vb_ray.encoder.linear import PackedLinear, pack_if_faster, pack_linears


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 5, 24), (3, 1, 24)])
def test_any_number_of_rows_and_dimensions(shape, bias):
    layer = nn.Linear(24, 40, bias=bias)
    features = torch.randn(shape)
    with torch.inference_mode():
        np.testing.assert_allclose(PackedLinear(layer)(features), layer(features), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "bert-relative", "bert-rotary", "wavlm-layer"])
def test_packed_models_give_the_same_vectors(name, checkpoint, monkeypatch):
    monkeypatch.setattr(linear, "is_faster", lambda _: False)
    plain = load(checkpoint(name))
    monkeypatch.setattr(linear, "is_faster", lambda _: True)
    packed = load(checkpoint(name))
    clips = waveforms(16_000, 9_000, 23_456)
    for one, other in zip(plain.encode(clips), packed.encode(clips), strict=True):
        assert relative_error(other.pooled[0], one.pooled[0]) < 1e-5


def test_layers_of_other_classes_stay():
    class Special(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 8), nn.ModuleDict({"inner": nn.Linear(8, 8)}), Special(8, 8))
    assert pack_linears(model) == 2
    assert isinstance(model[2], Special)


def test_the_slower_library_is_not_taken(monkeypatch):
    model = nn.Sequential(nn.Linear(8, 8))
    monkeypatch.setattr(linear, "is_faster", lambda _: False)
    assert not pack_if_faster(model)
    assert type(model[0]) is nn.Linear
    assert not pack_if_faster(nn.Sequential(nn.ReLU()))
