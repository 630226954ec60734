"""Matrices as layers take them: floats, or int8 with a scale per output; and the scales of rows. Knows no device.

Symmetric per-channel int8 (Jacob et al. 2018; Wu et al. 2020, "Integer quantization for deep learning inference"):
`weight[o, i] = values[o, i] * scales[o]`, values from -127 to 127.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

LARGEST = 127


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A quantized matrix.

    Args:
        values: (num_outputs, num_inputs) int8.
        scales: (num_outputs,) float32.
    """

    values: Tensor
    scales: Tensor

    def dequantized(self) -> Tensor:
        """(num_outputs, num_inputs) float32."""
        return self.values.float() * self.scales.unsqueeze(1)


Weight = Tensor | Int8Weight


def row_scales(rows: Tensor) -> Tensor:
    """(n, num_inputs) float32 -> (n, 1) float32: what a row is divided by so that its largest number becomes 127."""
    largest = torch.maximum(rows.amax(1, keepdim=True), rows.amin(1, keepdim=True).neg_())
    return largest.clamp_min_(torch.finfo(torch.float32).tiny * LARGEST).div_(LARGEST)


def quantize(matrix: Tensor) -> Int8Weight:
    """Rounds (num_outputs, num_inputs) float32, each output with a scale that holds its largest weight."""
    scales = row_scales(matrix).squeeze(1)
    values = (matrix / scales.unsqueeze(1)).round_().clamp_(-LARGEST, LARGEST)
    return Int8Weight(values.to(torch.int8), scales)


def stacked(weights: Sequence[Weight]) -> Weight:
    """One matrix with the outputs of all; floats where any has floats."""
    if any(isinstance(one, Tensor) for one in weights):
        return torch.cat([one if isinstance(one, Tensor) else one.dequantized() for one in weights])
    quantized = cast("Sequence[Int8Weight]", weights)
    return Int8Weight(torch.cat([one.values for one in quantized]), torch.cat([one.scales for one in quantized]))


def scaled(weight: Weight, factor: float) -> Weight:
    """All outputs times `factor`."""
    return weight * factor if isinstance(weight, Tensor) else Int8Weight(weight.values, weight.scales * factor)


def as_matrix(weight: Weight) -> Weight:
    """(num_outputs, num_inputs), also of a convolution of one tap."""
    return weight.flatten(1) if isinstance(weight, Tensor) else weight
