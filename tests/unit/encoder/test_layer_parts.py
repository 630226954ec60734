"""Each part of a layer against transformers' module with the same weights, on every backend, packed."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.unit.encoder.layers import BACKENDS, HEADS, HIDDEN, LENGTHS, PRODUCTS, backend_id, inputs, layer
from w2vb_ray.encoder import attention, product_attention
from w2vb_ray.encoder.backends import FLEX, ONEDNN
from w2vb_ray.encoder.conformer import ConformerLayer, FeedForward, RowNorm
from w2vb_ray.encoder.positions import RelativePositions, band

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)
@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("biased", [True, False])
def test_linear(backend, activation, biased):
    rows, weight, bias = torch.randn(37, 48), torch.randn(96, 48), torch.randn(96) if biased else None
    expected = F.linear(rows, weight, bias)
    actual = backend.linear(weight, bias, activation)(rows)
    torch.testing.assert_close(actual, F.silu(expected) if activation == "silu" else expected)


@pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)
@pytest.mark.parametrize("kernel", [1, 3, 31])
def test_depthwise(backend, kernel):
    weight, alone = torch.randn(HIDDEN, 1, kernel), inputs(LENGTHS)
    packing = backend.packing(LENGTHS, CPU)
    convolved = backend.depthwise(weight)(packing.pack(alone), packing)
    for one, span in zip(alone, packing.spans, strict=True):
        expected = F.conv1d(F.pad(one.t(), (kernel - 1, 0)), weight, groups=HIDDEN).t()
        torch.testing.assert_close(convolved[span], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)
@pytest.mark.parametrize("channels", [32, 144])
def test_depthwise_in_half_precision(backend, channels):
    """Also for channels that oneDNN has no fast kernel for."""
    weight, rows = torch.randn(channels, 1, 15).bfloat16(), torch.randn(40, channels).bfloat16()
    packing = backend.packing([40], CPU)
    convolved = backend.depthwise(weight)(packing.pack([rows]), packing)[packing.spans[0]]
    expected = F.conv1d(F.pad(rows.t().float(), (14, 0)), weight.float(), groups=channels).t()
    torch.testing.assert_close(convolved.float(), expected, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)
@pytest.mark.parametrize(("left", "right"), [(64, 8), (3, 0), (0, 5), (700, 700)])
def test_attention(backend, left, right):
    module = layer(left, right).self_attn
    alone, packing = inputs(LENGTHS), backend.packing(LENGTHS, CPU)
    projections = (module.linear_q, module.linear_k, module.linear_v)
    qkv = torch.cat([one(packing.pack(alone)) for one in projections], 1)
    attend = backend.attention(RelativePositions(module.distance_embedding.weight, left), HEADS)
    attended = module.linear_out(attend(qkv, packing))
    for one, span in zip(alone, packing.spans, strict=True):
        torch.testing.assert_close(attended[span], module(one[None])[0][0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("backend", [ONEDNN, PRODUCTS], ids=backend_id)
@pytest.mark.parametrize("some_keys", [7, 1000])
def test_attention_block_by_block(monkeypatch, backend, some_keys):
    """Small blocks: keys left of the band, in it and right of it, in every combination; a group of fewer heads."""
    monkeypatch.setattr(attention, "BLOCK", 16)
    monkeypatch.setattr(attention, "HEADS", 3)
    monkeypatch.setattr(backend.attention, "copies_from", 1)
    monkeypatch.setattr(product_attention, "_SCORES", 1)
    monkeypatch.setattr(product_attention, "_MIN_QUERIES", 5)
    monkeypatch.setattr(product_attention, "_MOST_KEYS", 10)
    monkeypatch.setattr(product_attention, "_SOME_KEYS", some_keys)
    test_attention(backend, 6, 2)


@pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)
@pytest.mark.parametrize("added", [-300.0, 300.0])
@pytest.mark.parametrize("most_keys", [100, 1000])
def test_attention_does_not_see_what_is_added_to_all_scores(monkeypatch, backend, added, most_keys):
    """Not even where float32 holds neither the exponentials nor their sums."""
    monkeypatch.setattr(product_attention, "_MOST_KEYS", most_keys)
    monkeypatch.setattr(product_attention, "_SOME_KEYS", most_keys)
    size, packing = HIDDEN // HEADS, backend.packing([600], CPU)
    qkv = torch.randn(packing.num_rows, 3, HEADS, size)
    qkv[:, 0, :, 0], qkv[:, 1, :, 0] = size**0.5, 0
    attend = backend.attention(RelativePositions(layer().self_attn.distance_embedding.weight, 64), HEADS)
    expected = attend(qkv.flatten(1), packing)
    qkv[:, 1, :, 0] = added
    torch.testing.assert_close(attend(qkv.flatten(1), packing), expected, rtol=1e-3, atol=1e-4)


def test_band_has_each_distance_in_its_place():
    positions = RelativePositions(torch.randn(10, 4), left=6)
    queries = torch.randn(2, 5, 4)
    biases = positions.biases(queries)
    found = band(biases)
    assert found.shape == (2, 5, 5 + 9)
    for query in range(5):
        for column in range(14):
            distance = max(-6, min(3, column - 6 - query))
            torch.testing.assert_close(found[:, query, column], biases[:, query, distance + 6])
    assert not biases[..., -1].any()


@pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)
def test_feed_forward(backend):
    rows, module = torch.randn(40, HIDDEN), layer()
    expected = rows + 0.5 * module.ffn1(module.ffn1_layer_norm(rows))
    step = FeedForward(module.ffn1_layer_norm, module.ffn1, backend)
    torch.testing.assert_close(step(rows), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rows, expected, rtol=1e-5, atol=1e-5)  # in place


def test_norm_is_float32_inside_and_has_the_type_of_the_weights_outside():
    norm = torch.nn.LayerNorm(HIDDEN).to(torch.bfloat16)
    rows = torch.randn(8, HIDDEN) * 1e4 + 3e4
    normed = RowNorm(norm)(rows)
    assert normed.dtype == torch.bfloat16
    torch.testing.assert_close(normed, F.layer_norm(rows, (HIDDEN,)).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS, ids=backend_id)
@pytest.mark.parametrize("chunk_rows", [100, None])
def test_layer(backend, chunk_rows):
    module, alone = layer(), inputs(LENGTHS)
    backend = replace(backend, chunk_rows=chunk_rows)
    packing = backend.packing(LENGTHS, CPU)
    hidden = packing.pack(alone)
    ConformerLayer(module, backend)(hidden, packing)
    for one, span in zip(alone, packing.spans, strict=True):
        torch.testing.assert_close(hidden[span], module(one[None])[0], rtol=1e-4, atol=2e-5)


def test_the_compiler_sees_the_whole_layer_and_not_each_packing_anew():
    """What CUDA runs: no graph breaks, and one more graph than one (sizes are symbols from the second packing on)."""
    graphs = []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    module = layer()
    torch.compiler.reset()
    compiled = torch.compile(ConformerLayer(module, FLEX), backend=count, dynamic=True, fullgraph=True)
    for lengths in ([5, 100], [300, 20, 7], [128], [40] * 9):
        alone, packing = inputs(lengths), FLEX.packing(lengths, CPU)
        hidden = packing.pack(alone)
        compiled(hidden, packing)
        for one, span in zip(alone, packing.spans, strict=True):
            torch.testing.assert_close(hidden[span], module(one[None])[0], rtol=1e-4, atol=2e-5)
    assert len(graphs) <= 2
