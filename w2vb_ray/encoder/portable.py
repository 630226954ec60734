"""What multiplies and convolves on any device, in operators that torch's compiler fuses."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.quantization import Int8Weight, row_scales


class Linear(nn.Module):
    """`activation(rows @ weight.T + bias)`.

    Args:
        weight: (num_outputs, num_inputs).
        bias: (num_outputs,) or None.
        activation: `none` or `silu`.
    """

    _weight: Tensor
    _bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str) -> None:
        super().__init__()
        self.register_buffer("_weight", weight.detach().contiguous())
        self.register_buffer("_bias", None if bias is None else bias.detach().clone())
        self._silu = activation == "silu"

    def forward(self, rows: Tensor) -> Tensor:
        """(n, num_inputs) -> (n, num_outputs)"""
        out = F.linear(rows, self._weight, self._bias)
        return F.silu(out, inplace=True) if self._silu else out


class Int8Linear(nn.Module):
    """The numbers of `cpu.PackedInt8Linear` in floats, for CPUs without instructions for bytes: as slow as fp32.

    Args:
        weight: kept as floats, integers all of them.
        bias: (num_outputs,) or None.
        activation: `none` or `silu`.
    """

    _values: Tensor
    _scales: Tensor
    _bias: Tensor | None
    _dtype = torch.float32  # of the integers

    def __init__(self, weight: Int8Weight, bias: Tensor | None, activation: str) -> None:
        super().__init__()
        self.register_buffer("_values", weight.values.to(self._dtype).contiguous())
        self.register_buffer("_scales", weight.scales.clone())
        self.register_buffer("_bias", None if bias is None else bias.detach().float().clone())
        self._silu = activation == "silu"

    def forward(self, rows: Tensor) -> Tensor:
        """(n, num_inputs) float32 -> (n, num_outputs) float32"""
        scales = row_scales(rows)
        out = self._sums((rows / scales).round().to(self._dtype)) * self._scales * scales
        if self._bias is not None:
            out = out + self._bias
        return F.silu(out) if self._silu else out

    def _sums(self, rounded: Tensor) -> Tensor:
        """Integers of rows times those of the weight, as float32."""
        return F.linear(rounded, self._values)


class Depthwise(nn.Module):
    """Causal depthwise convolution of each input, one tap after the other: the compiler makes one kernel of them all.

    Args:
        weight: (D, 1, kernel).
    """

    _taps: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("_taps", weight.detach()[:, 0].t().contiguous())  # (kernel, D), furthest back first

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """(N, D) -> (N, D)"""
        num_rows, furthest = len(rows), len(self._taps) - 1
        padded = F.pad(rows, (0, 0, furthest, 0))
        positions = packing.positions.unsqueeze(1)
        out = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
        for tap in range(furthest + 1):
            own = positions >= furthest - tap  # rows further back belong to the input before
            out = out + torch.where(own, padded[tap : tap + num_rows].float() * self._taps[tap].float(), 0.0)
        return out.to(rows.dtype)
