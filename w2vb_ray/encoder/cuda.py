"""What multiplies bytes on a GPU, in operators that torch's compiler fuses with what stands before and behind."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from w2vb_ray.encoder.quantization import Int8Weight, row_scales

_operators: Any = torch.ops.aten


class Int8Linear(nn.Module):
    """The numbers of `cpu.PackedInt8Linear` on tensor cores: int8 products summed up in int32.

    Args:
        weight: kept as it is.
        bias: (num_outputs,) or None.
        activation: `none` or `silu`.
    """

    _values: Tensor
    _scales: Tensor
    _bias: Tensor | None

    def __init__(self, weight: Int8Weight, bias: Tensor | None, activation: str) -> None:
        super().__init__()
        self.register_buffer("_values", weight.values.contiguous())
        self.register_buffer("_scales", weight.scales.clone())
        self.register_buffer("_bias", None if bias is None else bias.detach().float().clone())
        self._silu = activation == "silu"

    def forward(self, rows: Tensor) -> Tensor:
        """(n, num_inputs) float32, n more than 16 -> (n, num_outputs) float32"""
        scales = row_scales(rows)
        sums = _operators._int_mm((rows / scales).round().to(torch.int8), self._values.t())
        out = sums.float() * scales * self._scales
        if self._bias is not None:
            out = out + self._bias
        return F.silu(out) if self._silu else out
