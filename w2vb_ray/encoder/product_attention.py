"""Relative-key attention on packed rows by oneDNN's products, for CPUs on which torch's flash attention is slow.

Flash attention multiplies with MKL, which keeps to AVX2 on other makers' CPUs. oneDNN's linear layer takes keys and
values as its weights, as they lie: their layout would cost more than it gains.
"""

import math
from typing import Any

import torch
from torch import Tensor

from w2vb_ray.encoder.attention import BlockedAttention, blocks, joined
from w2vb_ray.encoder.positions import band_of_keys

# Scores at once, 2 MiB: the pages of fresh memory for many more cost as much as the products. But products of few rows
# are slow as well, and so it is to put parts together: only where there are more keys than `_MOST_KEYS` have some of
# them a softmax each.
_SCORES = 2**19
_MIN_QUERIES = 128
_MOST_KEYS = 2**13
_SOME_KEYS = 2**11
_LARGEST_LOG = 64  # of a sum: float32 ends at 2**128, and has all digits from 2**-126 on
_LOG2_E = math.log2(math.e)
_operators: Any = torch.ops.mkldnn


class ProductAttention(BlockedAttention):
    """`BlockedAttention` in float32 whose scores are in memory, of one head and some queries at a time.

    A head's rows must be neighbours, or oneDNN is a thousand times slower: what is not copied is left to flash
    attention.
    """

    copies_from = 192  # below, calls for each head cost more than they gain

    def _queries_at_once(self, length: int) -> int:
        return min(super()._queries_at_once(length), max(_MIN_QUERIES, _SCORES // _keys_at_once(length)))

    def _block(self, queries: Tensor, keys: Tensor, values: Tensor, start: int) -> Tensor:
        """See `BlockedAttention`."""
        length = keys.shape[1]
        if length < self.copies_from:
            return super()._block(queries, keys, values, start)
        rows = queries.flatten(0, 1)
        biases = _multiply(rows, self._positions.vectors).mul_(_LOG2_E).unflatten(0, queries.shape[:2])
        near, low, high = band_of_keys(biases, start, self._positions.left, length)
        scaled = (rows * (_LOG2_E * queries.shape[-1] ** -0.5)).view_as(queries)
        spans = list(blocks(length, _keys_at_once(length)))
        out = torch.empty_like(scaled)
        for head in range(len(queries)):
            parts = []
            for first, last in spans:
                scores = _multiply(scaled[head], keys[head, first:last])
                left, right = max(0, low - first), max(0, high - first)
                scores[:, :left] += biases[head, :, :1]
                scores[:, left:right] += near[head, :, max(0, first - low) : max(0, last - low)]
                parts.append(_weighted(scores, values[head, first:last]))
                del scores  # so that the next ones find their memory in the caches
            out[head] = joined(*zip(*parts, strict=True))
        return out


def _weighted(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of scores times values; `torch.exp2` takes a third of the time of `torch.softmax`.

    Args:
        scores: (n, L) logarithms to base 2; overwritten.
        values: (L, d).

    Returns:
        (n, d), and the natural logarithms of the sums of exponentials, (n,).
    """
    weights = torch.exp2(scores)
    sums = weights.sum(-1, keepdim=True)
    logs = sums.log2()
    least, most = logs.aminmax()
    if not (least > -_LARGEST_LOG and most < _LARGEST_LOG):
        # Too large or too small for float32, or nearly so: relative to the largest of each row they never are.
        largest = scores.amax(-1, keepdim=True)
        weights = torch.exp2(scores.sub_(largest), out=weights)
        sums = weights.sum(-1, keepdim=True)
        logs = sums.log2().add_(largest)
    return _multiply(weights, values.t()).div_(sums), logs.squeeze(-1).div_(_LOG2_E)


def _keys_at_once(length: int) -> int:
    return length if length <= _MOST_KEYS else _SOME_KEYS


def _multiply(rows: Tensor, weight: Tensor) -> Tensor:
    """(n, num_inputs), (num_outputs, num_inputs) -> (n, num_outputs)"""
    return _operators._linear_pointwise(rows, weight, None, "none", [], "")
