"""Convolutions in groups stay in float32 on CPUs whatever the rest is in, also under autocast.

oneDNN 3.12 (torch 2.13) gives wrong numbers for bf16 on processors with AMX where a group has few channels (2 and 8 are
wrong, 16 and 48 right; see pytorch issues 163347 and 169688 for its like), and is very slow for numbers of depthwise
channels that it has no kernel for.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def keep_groups_in_float32(model: nn.Module) -> None:
    """Convolutions in groups compute in float32; what they give has the type of what they get.

    Args:
        model: of transformers, on a CPU; changed in place.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d) and module.groups > 1:
            module.float()
            module.forward = _in_float32(module.forward)


def _in_float32(convolve: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def forward(hidden: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return convolve(hidden.float()).to(hidden.dtype)

    return forward
