"""Relative-key positions without the tensor that makes them quadratic. Knows no attention.

transformers looks a vector up for each pair of frames, (L, L, d), although distances are clamped to [-64, 8] and only
73 vectors exist (`modeling_wav2vec2_bert.py`, `_apply_relative_key_position_encoding`). Here P = q Eᵀ, (L, 73), holds
every bias there is. Softmax does not see a constant per query, so the vector of the right-most distance is taken from
all of them: keys right of the band then have no bias, and keys left of it one number per query.
"""

import math

import torch
from torch import Tensor, nn


class RelativePositions(nn.Module):
    """Biases of queries for their distances to keys.

    Args:
        table: (left + 1 + right, d) vectors of the distances -left to right, as in the checkpoint.
        left: furthest distance to the left that has its own vector.

    Attributes:
        vectors: (left + 1 + right, d), of which queries times them are the biases.
    """

    vectors: Tensor

    def __init__(self, table: Tensor, left: int) -> None:
        super().__init__()
        self.left, self.right = left, len(table) - 1 - left
        self.register_buffer("vectors", (table - table[-1]).detach() / math.sqrt(table.shape[1]))

    def biases(self, queries: Tensor) -> Tensor:
        """P: (heads, L, d) -> (heads, L, left + 1 + right); 0 at the right-most distance."""
        return torch.matmul(queries, self.vectors.t())


def band(biases: Tensor) -> Tensor:
    """Biases of n neighbouring queries for the keys from `left` before the first to `right` behind the last.

    (heads, n, left + 1 + right) -> (heads, n, n + left + right). Row i has its own distances from column i on; what
    is left of them has the bias of the left-most distance, what is right of them none.
    """
    num_heads, n, distances = biases.shape
    triangle = torch.ones(n, n + distances - 1, dtype=biases.dtype, device=biases.device).tril_(-1)
    found = biases[..., :1] * triangle
    # A view whose rows start one column later each puts the distances in place without an index.
    strides = found.stride(0), found.stride(1) + 1, 1
    found.as_strided((num_heads, n, distances), strides).copy_(biases)
    return found


def band_of_keys(biases: Tensor, start: int, left: int, num_keys: int) -> tuple[Tensor, int, int]:
    """The band of queries from `start` on, cut to the keys that there are.

    Args:
        biases: (heads, n, left + 1 + right) of n neighbouring queries.
        start: the first of them.
        left: furthest distance to the left that has its own vector.
        num_keys: L.

    Returns:
        (heads, n, high - low), low, high: for the keys low to high - 1.
    """
    first = start - left
    low, high = max(0, first), min(num_keys, first + biases.shape[1] + biases.shape[2] - 1)
    return band(biases)[:, :, low - first : high - first], low, high
