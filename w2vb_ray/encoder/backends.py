"""What the layers are made of on a device: the only place that chooses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from w2vb_ray.encoder import cpu, cuda, portable
from w2vb_ray.encoder.attention import BlockedAttention
from w2vb_ray.encoder.flex import BlockPacking, FlexAttention
from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.positions import RelativePositions
from w2vb_ray.encoder.product_attention import ProductAttention
from w2vb_ray.encoder.quantization import Int8Weight, Weight


@dataclass(frozen=True, slots=True)
class Backend:
    """Makers of the parts that differ between devices.

    Args:
        name: for logs and benchmarks.
        floats: (weight, bias, `none` or `silu`) -> (n, num_inputs) -> (n, num_outputs).
        int8: the same of a quantized weight.
        depthwise: weight (D, 1, kernel) -> (N, D), packing -> (N, D).
        attention: biases, heads -> (N, 3 D), packing -> (N, D).
        packing: (lengths, device) -> where inputs lie.
        chunk_rows: rows worked on at once where little of them is kept; None for all of them.
        compiled: whether the layers go through torch's compiler.
    """

    name: str
    floats: Callable[[Tensor, Tensor | None, str], nn.Module]
    int8: Callable[[Int8Weight, Tensor | None, str], nn.Module]
    depthwise: Callable[[Tensor], nn.Module]
    attention: Callable[[RelativePositions, int], nn.Module]
    packing: Callable[[Sequence[int], torch.device], Packing] = Packing
    chunk_rows: int | None = None
    compiled: bool = False

    def linear(self, weight: Weight, bias: Tensor | None, activation: str) -> nn.Module:
        """(n, num_inputs) -> (n, num_outputs) with either kind of weight."""
        match weight:
            case Tensor():
                return self.floats(weight, bias, activation)
            case Int8Weight():
                return self.int8(weight, bias, activation)


ONEDNN = Backend(
    "onednn", cpu.PackedLinear, cpu.PackedInt8Linear, cpu.PackedDepthwise, BlockedAttention, chunk_rows=cpu.CHUNK_ROWS
)
MKL = replace(ONEDNN, name="mkl", floats=cpu.PackedMklLinear, chunk_rows=cpu.MKL_CHUNK_ROWS)
ONEDNN_INT8 = replace(ONEDNN, name="onednn-int8", chunk_rows=cpu.INT8_CHUNK_ROWS)
PORTABLE = Backend(
    "portable",
    portable.Linear,
    portable.Int8Linear,
    portable.Depthwise,
    BlockedAttention,
    chunk_rows=cpu.MKL_CHUNK_ROWS,
)
FLEX = Backend(
    "flex", portable.Linear, cuda.Int8Linear, portable.Depthwise, FlexAttention, packing=BlockPacking, compiled=True
)


def choose_backend(device: torch.device, dtype: torch.dtype, *, int8: bool = False) -> Backend:
    """The fastest that the device and the type allow.

    Args:
        device: where the layers run.
        dtype: of their floats.
        int8: whether there are quantized weights.
    """
    if device.type == "cuda":
        return FLEX
    if not cpu.is_supported(dtype):
        return PORTABLE
    if not int8 and cpu.multiplies_faster_with_mkl(dtype):
        return MKL
    backend = ONEDNN
    if int8:
        backend = ONEDNN_INT8 if cpu.multiplies_bytes() else replace(ONEDNN, int8=portable.Int8Linear)
    return replace(backend, attention=ProductAttention) if cpu.outruns_flash_attention(dtype) else backend
