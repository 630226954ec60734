"""Models whose matrices are int8: transformers' modules to safetensors and back, without the floats in between."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModel

from w2vb_ray.encoder.quantization import Int8Weight, quantize

SCALE = "_scale"  # follows the name of a weight: the name that compressed checkpoints of others have for it


def matrices(model: Any) -> Iterator[tuple[str, Any]]:
    """Name and module of every matrix of the layers that int8 pays for: linear layers and pointwise convolutions.

    The feature projection stays as it is: it has a percent of a layer's weights, and what it loses every layer loses.
    """
    for name, module in model.encoder.layers.named_modules(prefix="encoder.layers"):
        is_pointwise = isinstance(module, nn.Conv1d) and module.kernel_size == (1,) and module.groups == 1
        if isinstance(module, nn.Linear) or is_pointwise:
            yield name, module


def quantize_model(model: Any, kept: Collection[str] = ()) -> None:
    """Turns the matrices of a `Wav2Vec2BertModel` into `Int8Weight`s, but for those that are kept as they are."""
    for name, module in matrices(model):
        if name not in kept:
            quantize_module(module)


def quantize_module(module: Any) -> None:
    """Turns the matrix of a linear layer or a pointwise convolution into an `Int8Weight`."""
    _replace(module, quantize(module.weight.detach().flatten(1).float()))


def state_of(model: Any) -> dict[str, Tensor]:
    """What is written of a quantized model: int8 matrices and their scales, kept ones in fp16, the rest as it is."""
    state: dict[str, Tensor] = {name: one.detach().contiguous() for name, one in model.state_dict().items()}
    for name, module in matrices(model):
        key = f"{name}.weight"
        if isinstance(module.weight, Int8Weight):
            state[key], state[key + SCALE] = module.weight.values, module.weight.scales
        elif bool((half := state[key].half()).isfinite().all()):
            state[key] = half
    return state


def load_quantized(
    config: Any, files: Sequence[Path], dtype: torch.dtype, device: torch.device, *, as_floats: bool
) -> Any:
    """The model of an artifact of a quantized kind, in evaluation mode.

    Args:
        config: of transformers.
        files: safetensors that `state_of` filled.
        dtype: of everything that is not int8.
        device: where it goes.
        as_floats: make matrices floats again, for other precisions than int8.

    Raises:
        OSError, SafetensorError, RuntimeError: the files do not make this model.
    """
    with torch.device("meta"):
        model: Any = AutoModel.from_config(config)
    state = _read(files, device)
    for name, module in matrices(model):
        key = f"{name}.weight"
        if key + SCALE not in state:
            continue
        weight = Int8Weight(state.pop(key), state.pop(key + SCALE).float())
        if tuple(weight.values.shape) != tuple(module.weight.shape[:2]) or len(weight.scales) != len(weight.values):
            raise RuntimeError(f"{key} is {tuple(weight.values.shape)} instead of {tuple(module.weight.shape[:2])}")
        if as_floats:
            state[key] = weight.dequantized().view(module.weight.shape)
        else:
            _replace(module, weight)
    model.load_state_dict({key: one.to(dtype) for key, one in state.items()}, assign=True, strict=True)
    return model.eval().requires_grad_(False)


def _read(files: Sequence[Path], device: torch.device) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt", device=str(device)) as tensors:
            state |= {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (it is no mapping)
    return state


def _replace(module: Any, weight: Int8Weight) -> None:
    del module.weight  # the parameter; what stands in its place is none, and no part of the module's state
    module.weight = weight
