"""Relative-key attention on packed rows with memory linear in the length, on torch's flash attention for CPUs."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.positions import RelativePositions, band_of_keys

# Queries at once: large enough for full speed (256 to 512 are best from 600 frames on), and the memory is constant.
BLOCK = 512

HEADS = 4  # at once where their queries, keys and values are copied together first

# `scaled_dot_product_attention` calls it too, but keeps the sums of exponentials to itself.
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class BlockedAttention(nn.Module):
    """Each input attends to itself only, block of queries by block of queries.

    Args:
        positions: the biases.
        num_heads: heads of D / num_heads dimensions.

    Attributes:
        copies_from: frames of a float32 input from which on a copy of some heads is worth it: as columns of `qkv` each
            row of a head lies in another page of memory.
    """

    copies_from = BLOCK + 1

    def __init__(self, positions: RelativePositions, num_heads: int) -> None:
        super().__init__()
        self._positions, self._num_heads = positions, num_heads

    def forward(self, qkv: Tensor, packing: Packing) -> Tensor:
        """(N, 3 D) queries, keys and values side by side -> (N, D)."""
        num_rows, size = qkv.shape[0], qkv.shape[1] // 3 // self._num_heads
        out = qkv.new_empty(num_rows, self._num_heads, size)
        out[packing.num_used :] = 0
        for span in packing.spans:
            inputs = qkv[span].view(-1, 3, self._num_heads, size).permute(1, 2, 0, 3)
            if inputs.shape[2] < self.copies_from or qkv.dtype != torch.float32:
                self._attend(inputs, out[span])
                continue
            for some, place in zip(inputs.split(HEADS, 1), out[span].split(HEADS, 1), strict=True):
                self._attend(some.contiguous(), place)
        return out.view(num_rows, -1)

    def _attend(self, inputs: Tensor, out: Tensor) -> None:
        """Queries, keys and values, (3, heads, L, d) -> `out`, (L, heads, d)."""
        queries, keys, values = inputs
        for start, stop in blocks(queries.shape[1], self._queries_at_once(queries.shape[1])):
            out[start:stop] = self._block(queries[:, start:stop], keys, values, start).transpose(0, 1)

    def _queries_at_once(self, _length: int) -> int:
        return BLOCK

    def _block(self, queries: Tensor, keys: Tensor, values: Tensor, start: int) -> Tensor:
        """Queries from `start` on against all keys: (heads, n, d), (heads, L, d), (heads, L, d) -> (heads, n, d).

        The keys left of the band, in it and right of it have a softmax each.
        """
        biases = self._positions.biases(queries)
        length = keys.shape[1]
        near, low, high = band_of_keys(biases, start, self._positions.left, length)
        parts = [_part(queries, keys[:, low:high], values[:, low:high], near)]
        if low > 0:
            left, sums = _part(queries, keys[:, :low], values[:, :low])
            parts.append((left, sums + biases[:, :, 0]))
        if high < length:
            parts.append(_part(queries, keys[:, high:], values[:, high:]))
        return joined(*zip(*parts, strict=True))


def joined(parts: Sequence[Tensor], sums: Sequence[Tensor]) -> Tensor:
    """Attention to some of the keys each -> to all of them (Dao et al. 2022, section 3.1).

    Args:
        parts: (..., n, d) each.
        sums: (..., n) each, float32: logarithms of their sums of exponentials. Not looked at where there is one part.

    Returns:
        (..., n, d), float32 where there are several.
    """
    if len(parts) == 1:
        return parts[0]
    shares = torch.softmax(torch.stack(tuple(sums)), 0).unsqueeze(-1)
    out = parts[0].float() * shares[0]
    for part, share in zip(parts[1:], shares[1:], strict=True):
        out.addcmul_(part.float(), share)
    return out


def blocks(length: int, longest: int | None = None) -> Iterator[tuple[int, int]]:
    """Where blocks of frames start and stop, about as long each; none is longer than `longest`, or `BLOCK`."""
    num_blocks = -(-length // (longest or BLOCK))
    return pairwise(length * index // num_blocks for index in range(num_blocks + 1))


def _part(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention to some of the keys: (heads, n, d), and float32 logarithms of its sums of exponentials, (heads, n)."""
    mask = None if bias is None else bias.unsqueeze(0)
    out, sums = _flash(queries.unsqueeze(0), keys.unsqueeze(0), values.unsqueeze(0), attn_mask=mask)
    return out[0], sums[0]
