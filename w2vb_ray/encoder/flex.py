"""Relative-key attention on packed rows with FlexAttention: one fused kernel on CUDA, biases looked up in (L, 73)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.positions import RelativePositions

BLOCK = 128  # rows of the blocks that are attended to whole, in part or not at all; N must be a multiple


class BlockPacking(Packing):
    """Rows in whole blocks, with the list of those that attend to each other.

    A block of queries needs the keys from the first row of its first input to the last row of its last one, which are
    neighbouring blocks. Where both blocks lie in one input nothing is masked.

    Attributes:
        block_mask: for `flex_attention`.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        super().__init__(lengths, device, BLOCK)
        self.block_mask = BlockMask.from_kv_blocks(*self._blocks(), BLOCK_SIZE=BLOCK, mask_mod=self._same_input)

    def _same_input(self, _batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.inputs[query] == self.inputs[key]

    def _blocks(self) -> tuple[Tensor, ...]:
        """Counts and indices of the blocks of keys for each block of queries: masked ones, then whole ones."""
        edges = self.inputs.cpu().view(-1, BLOCK)
        low, high = edges[:, 0], edges[:, -1]  # inputs are sorted along the rows
        needed = (low[:, None] <= high[None, :]) & (low[None, :] <= high[:, None])
        whole = needed & (low == high)[:, None] & (low == high)[None, :]
        return *_listed(needed & ~whole, self.inputs.device), *_listed(whole, self.inputs.device)


class FlexAttention(nn.Module):
    """Each input attends to itself only, all inputs in one call.

    Args:
        positions: the biases.
        num_heads: heads of D / num_heads dimensions.
    """

    def __init__(self, positions: RelativePositions, num_heads: int) -> None:
        super().__init__()
        self._positions, self._num_heads = positions, num_heads

    def forward(self, qkv: Tensor, packing: BlockPacking) -> Tensor:
        """(N, 3 D) queries, keys and values side by side -> (N, D)."""
        num_rows = len(qkv)
        queries, keys, values = qkv.view(1, num_rows, 3, self._num_heads, -1).permute(2, 0, 3, 1, 4)
        left, right = self._positions.left, self._positions.right
        biases = self._positions.biases(queries[0])

        def add_bias(score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + biases[head, query, (key - query).clamp(-left, right) + left]

        out: Any = flex_attention(queries, keys, values, score_mod=add_bias, block_mask=packing.block_mask)
        return out[0].transpose(0, 1).reshape(num_rows, -1)


def _listed(blocks: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """(num_blocks, num_blocks) bool -> counts (1, 1, num_blocks) and indices (1, 1, num_blocks, num_blocks), int32."""
    counts = blocks.sum(1, dtype=torch.int32)
    indices = torch.argsort(blocks.int(), dim=1, descending=True, stable=True).int()
    return counts[None, None].to(device), indices[None, None].to(device)
