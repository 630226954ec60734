"""Utterances end to end on one axis: what the layers need to know about where each begins. Knows no model.

Everything but attention and the depthwise convolution works row by row, so a micro-batch needs no padding: utterance
i is rows `starts[i]` to `starts[i] + lengths[i]` of one (N, D) matrix.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

# oneDNN multiplies one row, and MKL up to 15, by another routine than many, which adds in another order. And oneDNN
# cuts rows into blocks of a divisor of their number, which for many an odd number costs a tenth of its speed.
MULTIPLE = 16


class Packing:
    """Where B inputs lie on the packed axis.

    Args:
        lengths: rows of each input, at least 1.
        device: where the rows are.
        multiple: N is a multiple of this; behind the last input are rows of zeros.

    Attributes:
        lengths: as given.
        starts: first row of each input.
        num_rows: N.
        num_used: rows that are inputs'.
        inputs: (N,) int32, which input a row belongs to; B behind the last.
        positions: (N,) int32, how many rows of its own input stand before a row.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, multiple: int = MULTIPLE) -> None:
        self.lengths = list(lengths)
        self.starts = list(accumulate(self.lengths, initial=0))[:-1]
        # Plain attributes: torch's compiler cannot look into properties that are worked out once.
        self.num_used = sum(self.lengths)
        self.num_rows = -(-self.num_used // multiple) * multiple
        behind = self.num_rows - self.num_used
        inputs = torch.arange(len(self.lengths) + 1).repeat_interleave(torch.tensor([*self.lengths, behind]))
        starts = torch.tensor([*self.starts, self.num_used])
        self.inputs = inputs.int().to(device)
        self.positions = (torch.arange(self.num_rows) - starts[inputs]).int().to(device)

    @property
    def spans(self) -> list[slice]:
        """Rows of each input."""
        return [slice(start, start + length) for start, length in zip(self.starts, self.lengths, strict=True)]

    def pack(self, inputs: Sequence[Tensor]) -> Tensor:
        """Each (L_i, F) -> (N, F)."""
        return torch.cat([*inputs, inputs[0].new_zeros(self.num_rows - self.num_used, inputs[0].shape[1])])

    def spread(self, rows: Tensor, gap: int) -> Tensor:
        """(N, D) -> (N + gap * (B + 1), D): `gap` zero rows before each input, as a causal convolution wants them."""
        spread = rows.new_empty(self.num_rows + gap * (len(self.lengths) + 1), rows.shape[1])
        end = 0
        for span in self.spans:
            first = end + gap
            spread[end:first] = 0
            end = first + span.stop - span.start
            spread[first:end] = rows[span]
        spread[end:] = 0
        return spread

    def gather(self, convolved: Tensor, gap: int) -> Tensor:
        """What a convolution of `gap` + 1 rows makes of `spread` -> (N, D). Its output j saw the rows j to j + gap."""
        firsts = [start + gap * index for index, start in enumerate(self.starts)]
        return self.pack(
            [convolved[first : first + length] for first, length in zip(firsts, self.lengths, strict=True)]
        )
