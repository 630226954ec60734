"""Products of bytes against the arithmetic that they stand for, and artifacts of int8 against their checkpoints."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.unit.encoder.checkpoints import load, relative_error, waveforms
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import cpu, cuda, portable, resolve_checkpoint
from w2vb_ray.encoder.quantization import LARGEST, Int8Weight, quantize, scaled, stacked
from w2vb_ray.errors import ConfigError
from w2vb_ray.export.write import write_weights

CPU = torch.device("cpu")
vnni = pytest.mark.skipif(not cpu.multiplies_bytes(), reason="this CPU cannot multiply bytes")
KINDS = [pytest.param(cpu.PackedInt8Linear, marks=vnni), portable.Int8Linear, cuda.Int8Linear]


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def product(rows: torch.Tensor, weight: Int8Weight) -> torch.Tensor:
    """What an int8 linear layer is to give, in float64: rows and weights rounded, sums exact."""
    scales = (rows.abs().amax(1, keepdim=True) / LARGEST).double()
    rounded = (rows / scales.float()).round().double()
    return (rounded @ weight.values.double().t()) * weight.scales.double() * scales


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("num_rows", [1, 16, 37, 300])
def test_linear_is_the_product_of_rounded_numbers(kind, activation, biased, num_rows):
    rows, weight = draw(num_rows, 48), quantize(draw(96, 48, seed=1))
    bias = draw(96, seed=2) if biased else None
    expected = product(rows, weight) + (0 if bias is None else bias)
    expected = F.silu(expected) if activation == "silu" else expected
    found = kind(weight, bias, activation)(rows)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_numbers_do_not_overflow(kind):
    weight = Int8Weight(torch.full((32, 4096), -LARGEST, dtype=torch.int8), torch.ones(32))
    found = kind(weight, None, "none")(torch.full((16, 4096), 1000.0))
    torch.testing.assert_close(found, torch.full((16, 32), -1000.0 * LARGEST * 4096))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_the_others(kind):
    rows = draw(64, 48) * torch.logspace(-20, 20, 64).unsqueeze(1)
    rows[3], rows[7], rows[9] = 0, torch.nan, torch.inf
    linear = kind(quantize(draw(96, 48, seed=1)), None, "none")
    found = linear(rows)
    assert not found[3].any()
    assert not found[[7, 9]].isfinite().any()
    for index in (0, 3, 20, 63):
        alone = linear(rows[index : index + 1].expand(32, -1))[0]  # a GPU multiplies no fewer
        torch.testing.assert_close(alone, found[index], rtol=1e-6, atol=0)


@vnni
def test_both_kinds_give_the_same():
    rows, weight = draw(200, 768), quantize(draw(128, 768, seed=1))
    fast, slow = (kind(weight, None, "silu")(rows) for kind in (cpu.PackedInt8Linear, portable.Int8Linear))
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-4)


def test_each_output_has_a_scale_of_its_own_and_rounding_twice_changes_nothing():
    matrix = draw(8, 64) * torch.logspace(-6, 6, 8).unsqueeze(1)
    matrix[5] = 0
    once = quantize(matrix)
    assert (once.dequantized() - matrix).abs().le(0.51 * once.scales.unsqueeze(1)).all()
    torch.testing.assert_close(once.values.abs().amax(1).int(), torch.tensor([127] * 5 + [0] + [127] * 2).int())
    assert torch.equal(quantize(once.dequantized()).values, once.values)


def test_stacked_and_scaled_weights_are_those_of_the_floats():
    first, second = quantize(draw(4, 16)), quantize(draw(6, 16, seed=1))
    both = torch.cat([first.dequantized(), second.dequantized()])
    for weights in ([first, second], [first, second.dequantized()]):
        one = stacked(weights)
        torch.testing.assert_close(one.dequantized() if isinstance(one, Int8Weight) else one, both)
    torch.testing.assert_close(scaled(first, 0.5).dequantized(), 0.5 * first.dequantized())


@pytest.fixture(scope="module")
def artifact(checkpoint, tmp_path_factory):
    """Kind -> folder of the artifact of a tiny checkpoint, made once; it has no `artifact.json` of a gate."""
    made = {}

    def get(kind, kept=()):
        if (kind, kept) not in made:
            folder = made[kind, kept] = tmp_path_factory.mktemp("artifacts") / kind
            folder.mkdir()
            source = resolve_checkpoint(EncoderSection(checkpoint=str(checkpoint("bert"))))
            with torch.inference_mode(False):
                write_weights(source, kind, folder, kept=kept)
        return made[kind, kept]

    return get


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())


@pytest.mark.parametrize("precision", ["auto", "int8", "fp32", "bf16"])
@pytest.mark.parametrize("kind", ["int8", "int8_weights", "fp16", "bf16"])
def test_artifacts_give_nearly_the_vectors_of_their_checkpoint(kind, precision, artifact, checkpoint):
    if precision == "int8" and kind != "int8":
        with pytest.raises(ConfigError, match=rf"needs an artifact of kind int8.*is an artifact of kind {kind}"):
            load(artifact(kind), precision=precision)
        return
    encoder, reference = load(artifact(kind), precision=precision), load(checkpoint("bert"))
    assert encoder.precision == ("int8" if kind == "int8" else "fp32" if precision == "auto" else precision) or (
        (kind, precision, encoder.precision) in {("int8", "fp32", "fp32"), ("int8", "bf16", "bf16")}
    )
    sounds = waveforms(400, 16_000, 40_000)
    for found, expected in zip(
        encoder.encode(sounds, keep_frames=True), reference.encode(sounds, keep_frames=True), strict=True
    ):
        assert found.num_frames == expected.num_frames
        assert cosine(found.pooled[0], expected.pooled[0]) > 0.999
        assert cosine(found.frames[0], expected.frames[0]) > 0.99


def test_alone_and_in_company_to_a_millionth(artifact):
    encoder = load(artifact("int8"), layers=[0, 1, -1])
    sounds = waveforms(400, 719, 16_000, 5_000, 90_000, 36 * 16_000, 16_160)
    together = encoder.encode(sounds, keep_frames=True)
    for sound, expected in zip(sounds, together, strict=True):
        alone = encoder.encode([sound], keep_frames=True)[0]
        for one, other in zip(alone.pooled + alone.frames, expected.pooled + expected.frames, strict=True):
            assert relative_error(one, other) <= 1e-6


def test_matrices_that_are_kept_are_nearer(artifact, checkpoint):
    names = tuple(
        f"encoder.layers.{layer}.{name}"
        for layer in range(3)
        for name in (
            "ffn1.intermediate_dense",
            "ffn1.output_dense",
            "self_attn.linear_q",
            "conv_module.pointwise_conv1",
        )
    )
    sounds = waveforms(32_000)
    expected = load(checkpoint("bert")).encode(sounds, keep_frames=True)[0].frames[0]
    errors = [
        relative_error(load(artifact("int8", kept)).encode(sounds, keep_frames=True)[0].frames[0], expected)
        for kept in ((), names)
    ]
    assert errors[1] < errors[0]


def test_an_artifact_has_the_size_of_its_kind(artifact, checkpoint):
    size = {kind: (artifact(kind) / "model.safetensors").stat().st_size for kind in ("int8", "fp16")}
    whole = (checkpoint("bert") / "model.safetensors").stat().st_size
    assert size["fp16"] < 0.55 * whole
    assert size["int8"] < 0.7 * whole  # 32 dimensions: norms, scales and the feature projection are much of it
