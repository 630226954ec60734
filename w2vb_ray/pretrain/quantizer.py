"""Frames to codes: product quantization with the Gumbel softmax, and with random projections that are not learnt.

Both in float32 whatever the encoder is in: Gumbel noise overflows in float16.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from w2vb_ray.config.pretrain import QuantizerSection

_SMALLEST = 1e-20


class Codes(NamedTuple):
    """What a quantizer made of M frames.

    Args:
        vectors: (M, projection_dim), the targets of the contrastive loss.
        ids: (M, G) int64, the codes; the targets of masked prediction, without noise and without gradient.
        chosen: (M, G) int64, the codes of `vectors`: those with noise while training.
        probabilities: (M, G, V), softmax without noise, with gradient.
    """

    vectors: Tensor
    ids: Tensor
    chosen: Tensor
    probabilities: Tensor


class GumbelQuantizer(nn.Module):
    """One of V vectors of each of G codebooks, side by side (Jang et al. 2017; Baevski et al. 2020, section 2).

    Args:
        num_features: of a frame.
        section: G, V and the dimensions.
    """

    def __init__(self, num_features: int, section: QuantizerSection) -> None:
        super().__init__()
        groups, codes = section.num_codebooks, section.num_codes
        self.num_codebooks, self.num_codes = groups, codes
        self.weight_proj = nn.Linear(num_features, groups * codes)
        self.codevectors = nn.Parameter(torch.empty(groups, codes, section.code_dim // groups))
        self.project = nn.Linear(section.code_dim, section.projection_dim)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)
        nn.init.uniform_(self.codevectors)

    def probabilities(self, frames: Tensor) -> Tensor:
        """(M, num_features) -> (M, G, V) without noise."""
        return torch.softmax(self._logits(frames), -1)

    def forward(self, frames: Tensor, temperature: float, noise: Tensor | None) -> Codes:
        """Quantize frames.

        Args:
            frames: (M, num_features) that are hidden, as they are before they are hidden.
            temperature: of the Gumbel softmax.
            noise: (M, G, V), see `gumbel_noise`; None takes the most probable codes.
        """
        logits = self._logits(frames)
        ids = logits.argmax(-1)
        if noise is None:
            chosen, hard = ids, F.one_hot(ids, self.num_codes).float()
        else:
            soft = torch.softmax((logits + noise) / temperature, -1)
            chosen = soft.argmax(-1)
            one_hot = F.one_hot(chosen, self.num_codes).float()
            hard = one_hot - soft.detach() + soft  # straight through: the numbers of one, the gradient of the other
        vectors = torch.einsum("mgv,gvd->mgd", hard, self.codevectors.float()).flatten(1)
        return Codes(self.project(vectors), ids, chosen, torch.softmax(logits, -1))

    def _logits(self, frames: Tensor) -> Tensor:
        return self.weight_proj(frames.float()).view(len(frames), self.num_codebooks, self.num_codes)


class RandomProjectionQuantizer(nn.Module):
    """The nearest of random vectors to a random projection, never learnt (BEST-RQ, Chiu et al. 2022, section 3.1).

    Args:
        num_features: of a frame.
        num_codes: V.
        code_dim: of the projection.
        seed: of both.
    """

    _projection: Tensor
    _codes: Tensor

    def __init__(self, num_features: int, num_codes: int, code_dim: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bound = (6 / (num_features + code_dim)) ** 0.5  # Xavier, as in the paper
        projection = torch.rand(num_features, code_dim, generator=generator) * (2 * bound) - bound
        codes = F.normalize(torch.randn(num_codes, code_dim, generator=generator), dim=1)
        self.register_buffer("_projection", projection)
        self.register_buffer("_codes", codes)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(M, num_features) -> (M,) int64"""
        projected = F.normalize(frames.float() @ self._projection, dim=1)
        return (projected @ self._codes.t()).argmax(1)


def perplexity(probabilities: Tensor) -> Tensor:
    """(G, V) distributions -> (G,): how many codes are in use, from 1 to V."""
    return torch.exp(-(probabilities * torch.log(probabilities + 1e-7)).sum(-1))


def gumbel_noise(num_frames: int, section: QuantizerSection, generator: torch.Generator) -> Tensor:
    """(num_frames, G, V), drawn on the CPU, so that it is the same for every device."""
    uniform = torch.rand(num_frames, section.num_codebooks, section.num_codes, generator=generator)
    exponential = (-torch.log(uniform.clamp_min(_SMALLEST))).clamp_min(_SMALLEST)
    return -torch.log(exponential)
