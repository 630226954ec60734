"""Linear layers of a CPU model in oneDNN's own weight layout, where that is faster than torch's default (MKL).

Which library is faster depends on the maker of the CPU: at 800 x 768 x 3072 in fp32 oneDNN reaches 208 GFLOP/s against
MKL's 136 on two cores of an AMD EPYC. So the choice is measured, once per model, on the machine that encodes. The
operators are those that torch's own inductor uses when it freezes weights.
"""

import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

ROWS = 512  # frames of a typical micro-batch
MARGIN = 1.1  # of speed, below which the module stays as it is
_TRIALS = 8


class PackedLinear(nn.Module):
    """`nn.Linear` for inference, fp32 on CPU; the result differs by rounding only.

    Args:
        linear: the layer to replace; its weight is copied into another layout.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._operators: Any = torch.ops.mkldnn
        self._weight: Tensor = self._operators._reorder_linear_weight(linear.weight.detach(), ROWS)
        bias = cast("Tensor | None", linear.bias)  # torch's annotation forgets `bias=False`
        self._bias = None if bias is None else bias.detach()

    def forward(self, features: Tensor) -> Tensor:
        """(..., K) -> (..., N)"""
        return self._operators._linear_pointwise(features, self._weight, self._bias, "none", [], "")


def is_faster(linear: nn.Linear) -> bool:
    """Time both on random frames, taking turns; True when the packed layer is clearly ahead."""
    packed, features = PackedLinear(linear), torch.randn(ROWS, linear.in_features)
    with torch.inference_mode():
        pairs = [(_seconds(linear, features), _seconds(packed, features)) for _ in range(_TRIALS)]
    # The fastest of each: first calls prepare the libraries, and other processes disturb some.
    return min(plain for plain, _ in pairs) > MARGIN * min(other for _, other in pairs)


def pack_linears(model: nn.Module) -> int:
    """Replace every linear layer of an fp32 CPU model in place; returns how many."""
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
                count += 1
    return count


def pack_if_faster(model: nn.Module) -> bool:
    """Pack an fp32 CPU model where its widest linear layer gains from it and this torch has the operators."""
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    if not linears or not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    widest = max(linears, key=lambda linear: linear.weight.numel())
    return is_faster(widest) and pack_linears(model) > 0


def _seconds(layer: Callable[[Tensor], Tensor], features: Tensor) -> float:
    started = time.perf_counter()
    layer(features)
    return time.perf_counter() - started
