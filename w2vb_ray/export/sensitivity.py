"""Which matrices cost most accuracy as int8: each one alone, by what it does to the output of its own layer."""

import copy
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.backends import Backend, choose_backend
from w2vb_ray.encoder.conformer import ConformerLayer
from w2vb_ray.encoder.frontend import make_frontend
from w2vb_ray.encoder.model import load_model
from w2vb_ray.encoder.packed import PackedForward
from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.quantized_model import matrices, quantize_module
from w2vb_ray.export.sample import some_seconds
from w2vb_ray.export.smoothing import smooth

_SAMPLE_S = 10.0
_CPU = torch.device("cpu")
_STACKED = (".linear_q", ".linear_k", ".linear_v")  # one product, so they stay floats together


@torch.inference_mode()
def costliest(checkpoint: Checkpoint, waveforms: Sequence[np.ndarray], max_kept: float) -> list[str]:
    """Names of the matrices to keep as floats: those with the largest error per weight, up to a share of all weights.

    A layer ends with a norm, so errors of different layers can be compared.

    Args:
        checkpoint: a `wav2vec2-bert` that the packed forward takes.
        waveforms: (num_samples,) each; the first ten seconds or so are used.
        max_kept: share of the weights of all matrices, 0 to 1.
    """
    model = load_model(checkpoint, torch.float32, _CPU)
    smooth(model, checkpoint, waveforms)  # as what they will be part of
    sizes = {name: module.weight.numel() for name, module in matrices(model)}
    groups = [list(names) for _, names in groupby(sizes, key=_group)]
    errors = dict(_errors(model, checkpoint, some_seconds(waveforms, _SAMPLE_S), groups))
    room, kept = max_kept * sum(sizes.values()), list[str]()
    for names in sorted(groups, key=lambda names: -errors[names[0]] / sum(sizes[name] for name in names)):
        size = sum(sizes[name] for name in names)
        if size <= room:
            room -= size
            kept += names
    return kept


def _group(name: str) -> str:
    for suffix in _STACKED:
        name = name.removesuffix(suffix)
    return name


def _errors(
    model: Any, checkpoint: Checkpoint, waveforms: Sequence[np.ndarray], groups: Sequence[Sequence[str]]
) -> Iterator[tuple[str, float]]:
    """First name of each group, and the relative squared error of its layer's output when only the group is int8."""
    frontend = make_frontend(checkpoint, _CPU)
    inputs = frontend.prepare(waveforms)
    lengths = [frontend.num_frames(one) for one in inputs]
    packing, backend = Packing(lengths, _CPU), choose_backend(_CPU, torch.float32, int8=True)
    _, hidden = next(PackedForward(model, [0], backend)(inputs, lengths))
    hidden = packing.pack([hidden])
    for index, layer in enumerate(model.encoder.layers):
        prefix = f"encoder.layers.{index}."
        expected = _run(layer, hidden, packing, backend)
        for names in groups:
            if names[0].startswith(prefix):
                found = _run(_quantized(layer, [name.removeprefix(prefix) for name in names]), hidden, packing, backend)
                yield names[0], float((found - expected).square().sum() / expected.square().sum())
        hidden = expected


def _run(layer: nn.Module, hidden: Tensor, packing: Packing, backend: Backend) -> Tensor:
    out = hidden.clone()
    ConformerLayer(layer, backend)(out, packing)
    return out


def _quantized(layer: Any, names: Sequence[str]) -> Any:
    """A copy of a layer with some matrices as int8."""
    changed = copy.deepcopy(layer)
    for name in names:
        quantize_module(changed.get_submodule(name))
    return changed
