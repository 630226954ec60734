import pytest
import torch
from pydantic import ValidationError

from w2vb_ray.config.pretrain import QuantizerSection
from w2vb_ray.pretrain.quantizer import GumbelQuantizer, RandomProjectionQuantizer, gumbel_noise, perplexity

SECTION = QuantizerSection(num_codes=8, code_dim=12, projection_dim=5)
FRAMES = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    return GumbelQuantizer(6, SECTION)


def test_without_noise_the_most_probable_code(quantizer):
    codes = quantizer(FRAMES, 2.0, None)
    assert torch.equal(codes.ids, codes.chosen)
    assert torch.equal(codes.ids, codes.probabilities.argmax(-1))
    picked = torch.cat([quantizer.codevectors[group][codes.ids[:, group]] for group in range(2)], 1)
    torch.testing.assert_close(codes.vectors, quantizer.project(picked))


def test_noise_draws_codes_as_often_as_they_are_probable(quantizer):
    quantizer.weight_proj.weight.data *= 0.2
    frames = FRAMES[:1].expand(20_000, -1)
    noise = gumbel_noise(20_000, SECTION, torch.Generator().manual_seed(1))
    drawn = quantizer(frames, 0.7, noise)
    for group in range(2):
        shares = torch.bincount(drawn.chosen[:, group], minlength=8) / 20_000
        torch.testing.assert_close(shares, drawn.probabilities[0, group], atol=0.015, rtol=0)
    assert torch.equal(
        quantizer(frames, 5.0, noise).chosen, drawn.chosen
    )  # the temperature moves the gradient, not the choice


def test_gradients_go_straight_through_and_not_into_the_targets_of_prediction(quantizer):
    codes = quantizer(FRAMES, 1.0, gumbel_noise(200, SECTION, torch.Generator().manual_seed(1)))
    codes.vectors.square().sum().backward()
    for parameter in quantizer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert not codes.ids.is_floating_point()
    assert not codes.ids.requires_grad


def test_random_projection_is_the_nearest_and_has_nothing_to_learn():
    quantizer = RandomProjectionQuantizer(6, 16, 4, seed=0)
    assert list(quantizer.parameters()) == []
    ids = quantizer(FRAMES)
    projected = torch.nn.functional.normalize(FRAMES @ quantizer._projection, dim=1)
    assert torch.equal(ids, torch.cdist(projected, quantizer._codes).argmin(1))
    assert torch.equal(ids, RandomProjectionQuantizer(6, 16, 4, seed=0)(3 * FRAMES))
    assert len(ids.unique()) > 8


def test_perplexity():
    assert float(perplexity(torch.full((1, 4), 0.25))) == pytest.approx(4, rel=1e-4)
    assert float(perplexity(torch.tensor([[1.0, 0, 0, 0]]))) == pytest.approx(1, rel=1e-4)


def test_code_dim_is_shared_among_codebooks():
    with pytest.raises(ValidationError, match="multiple of num_codebooks"):
        QuantizerSection(num_codebooks=3, code_dim=256)
