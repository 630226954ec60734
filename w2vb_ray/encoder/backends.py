"""What the layers are made of on a device: the only place that chooses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from w2vb_ray.encoder import cpu, portable
from w2vb_ray.encoder.attention import BlockedAttention
from w2vb_ray.encoder.flex import BlockPacking, FlexAttention
from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.positions import RelativePositions


@dataclass(frozen=True, slots=True)
class Backend:
    """Makers of the parts that differ between devices.

    Args:
        name: for logs and benchmarks.
        linear: (weight, bias, `none` or `silu`) -> (n, num_inputs) -> (n, num_outputs).
        depthwise: weight (D, 1, kernel) -> (N, D), packing -> (N, D).
        attention: biases, heads -> (N, 3 D), packing -> (N, D).
        packing: (lengths, device) -> where inputs lie.
        chunk_rows: rows worked on at once between two attentions; None for all of them.
        compiled: whether the layers go through torch's compiler.
    """

    name: str
    linear: Callable[[Tensor, Tensor | None, str], nn.Module]
    depthwise: Callable[[Tensor], nn.Module]
    attention: Callable[[RelativePositions, int], nn.Module]
    packing: Callable[[Sequence[int], torch.device], Packing] = Packing
    chunk_rows: int | None = None
    compiled: bool = False


ONEDNN = Backend("onednn", cpu.PackedLinear, cpu.PackedDepthwise, BlockedAttention, chunk_rows=cpu.CHUNK_ROWS)
PORTABLE = Backend("portable", portable.Linear, portable.Depthwise, BlockedAttention, chunk_rows=cpu.CHUNK_ROWS)
FLEX = Backend("flex", portable.Linear, portable.Depthwise, FlexAttention, packing=BlockPacking, compiled=True)


def choose_backend(device: torch.device, dtype: torch.dtype) -> Backend:
    """The fastest that the device and the type allow."""
    if device.type == "cuda":
        return FLEX
    return ONEDNN if cpu.is_supported(dtype) else PORTABLE
