"""Outliers of activations moved into weights before both are rounded to int8 (Xiao et al. 2023, SmoothQuant).

A row has one scale, so a channel that is large in every frame leaves few steps to the others. Dividing that channel of
the norm before a matrix, and multiplying the matrix's column, changes nothing but where the outlier is; so does
dividing the rows of the values' projection, since attention mixes frames and never channels. How far to go is measured
for each matrix, on rows that it sees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.frontend import make_frontend
from w2vb_ray.encoder.quantization import LARGEST, quantize, row_scales
from w2vb_ray.export.sample import some_seconds

_STRENGTHS = (0.0, 0.25, 0.5, 0.75)  # 0 leaves the matrix as it is
_MAX_ROWS = 512  # of each matrix
_SAMPLE_S = 30.0


class _Pair(NamedTuple):
    """What makes the channels, and the matrices that take them."""

    source: Any
    targets: Sequence[Any]


@dataclass(slots=True)
class _Seen:
    """Rows that went into a matrix."""

    rows: list[Tensor]
    largest: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        rows = rows.flatten(0, -2)
        largest = rows.abs().amax(0)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)
        missing = _MAX_ROWS - sum(map(len, self.rows))
        if missing > 0:
            self.rows.append(rows[:: max(1, len(rows) // missing)][:missing].clone())


@torch.inference_mode()
def smooth(model: Any, checkpoint: Checkpoint, waveforms: Sequence[np.ndarray]) -> None:
    """Changes weights of a `Wav2Vec2BertModel` in fp32, in place; what it computes stays the same.

    Args:
        model: of transformers, in evaluation mode.
        checkpoint: where its weights are from.
        waveforms: (num_samples,) each, of the speech that matters; half a minute or so of them is used.
    """
    pairs = list(_pairs(model))
    seen = {id(pair.targets[0]): _Seen([]) for pair in pairs}
    hooks = [pair.targets[0].register_forward_pre_hook(_note(seen[id(pair.targets[0])])) for pair in pairs]
    try:
        for features in make_frontend(checkpoint, torch.device("cpu")).prepare(some_seconds(waveforms, _SAMPLE_S)):
            model(input_features=features.unsqueeze(0))
    finally:
        for hook in hooks:
            hook.remove()
    for pair in pairs:
        _smooth(pair, seen[id(pair.targets[0])])


def _pairs(model: Any) -> Iterator[_Pair]:
    for layer in model.encoder.layers:
        attention = layer.self_attn
        yield _Pair(layer.ffn1_layer_norm, [layer.ffn1.intermediate_dense])
        yield _Pair(layer.self_attn_layer_norm, [attention.linear_q, attention.linear_k, attention.linear_v])
        yield _Pair(attention.linear_v, [attention.linear_out])
        yield _Pair(layer.conv_module.layer_norm, [layer.conv_module.pointwise_conv1])
        yield _Pair(layer.ffn2_layer_norm, [layer.ffn2.intermediate_dense])


def _note(seen: _Seen) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.add(inputs[0].transpose(1, 2) if isinstance(module, nn.Conv1d) else inputs[0])

    return hook


def _smooth(pair: _Pair, seen: _Seen) -> None:
    """The strength with the least error, if it is less than that of none."""
    assert seen.largest is not None
    rows, weight = torch.cat(seen.rows), torch.cat([_matrix(target) for target in pair.targets])
    expected = rows @ weight.t()
    best: tuple[float, Tensor] | None = None
    for strength in _STRENGTHS:
        scales = _scales(seen.largest, weight.abs().amax(0), strength)
        error = float((_product(rows / scales, weight * scales) - expected).square().sum())
        if best is None or error < best[0]:
            best = error, scales
    assert best is not None
    _divide(pair.source, best[1])
    for target in pair.targets:
        _matrix(target).mul_(best[1])


def _scales(activations: Tensor, weights: Tensor, strength: float) -> Tensor:
    """(num_inputs,) what each channel is divided by: its largest activation to `strength`, its weight to the rest."""
    if strength == 0:
        return torch.ones_like(activations)
    floor = 1e-5
    return (activations.clamp_min(floor) ** strength / weights.clamp_min(floor) ** (1 - strength)).clamp_min(floor)


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    """What int8 makes of a product."""
    scales, rounded = row_scales(rows), quantize(weight)
    return ((rows / scales).round_().clamp_(-LARGEST, LARGEST) * scales) @ rounded.dequantized().t()


def _matrix(module: Any) -> Tensor:
    """(num_outputs, num_inputs), a view of a linear layer's or a pointwise convolution's weight."""
    return module.weight.flatten(1)


def _divide(source: Any, scales: Tensor) -> None:
    """Divide the channels that a norm or a linear layer makes."""
    source.weight.div_(scales if isinstance(source, nn.LayerNorm) else scales.unsqueeze(1))
    if source.bias is not None:
        source.bias.div_(scales)
