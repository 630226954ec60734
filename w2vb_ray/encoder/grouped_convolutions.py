"""Convolutions in groups, which CPUs do not multiply right in half precision.

oneDNN 3.12 (torch 2.13) gives wrong numbers for bf16 on processors with AMX where a group has few channels (2 and 8 are
wrong, 16 and 48 right; see pytorch issues 163347 and 169688 for its like), and is very slow for numbers of depthwise
channels that it has no kernel for.
"""

from typing import Any

import torch
from torch import Tensor, nn


def keep_groups_in_float32(model: nn.Module, dtype: torch.dtype) -> None:
    """The model's convolutions in groups compute in float32; what goes in and comes out has the model's type.

    Args:
        model: of transformers, changed in place.
        dtype: its type.
    """

    def before(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].float(),)

    def after(_: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output.to(dtype)

    for module in model.modules():
        if isinstance(module, nn.Conv1d) and module.groups > 1:
            module.float()
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after)
