import numpy as np

from w2vb_ray.config.sections import EncoderSection, PoolingSection
from w2vb_ray.evaluate.outputs import Outputs

STATES = [np.array([[1.0, 0.0], [3.0, 4.0]]) * scale for scale in (1, 2, 3)]


def test_names_and_values():
    pooling = PoolingSection(method=["mean", "mean_std", "max"])
    expected = dict(Outputs([2, 0], EncoderSection(layers=[-1, 0]), pooling).expected(STATES))
    assert list(expected)[:4] == ["layer 2, frames", "layer 2, mean", "layer 2, mean_std", "layer 2, max"]
    np.testing.assert_allclose(expected["layer 2, mean"], [6, 6])
    np.testing.assert_allclose(expected["layer 0, mean_std"], [2, 2, 1, 2])
    np.testing.assert_allclose(expected["layer 0, max"], [3, 4])


def test_a_mixture_of_unit_length():
    encoder = EncoderSection(layers=[0, 1], layer_weights=[3.0, -1.0])
    expected = dict(Outputs([0, 1], encoder, PoolingSection(method="max", normalise=True)).expected(STATES))
    np.testing.assert_allclose(expected["mixed layers, frames"], STATES[0])
    np.testing.assert_allclose(expected["mixed layers, max"], [0.6, 0.8])


def test_nobody_else_knows_the_attention_head():
    expected = dict(Outputs([1], EncoderSection(), PoolingSection(method=["attention", "mean"])).expected(STATES))
    assert list(expected) == ["layer 1, frames", "layer 1, mean"]
