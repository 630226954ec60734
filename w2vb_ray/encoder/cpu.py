"""What multiplies and convolves on a CPU: oneDNN with weights in its own layout, as torch's inductor uses it.

At 800 x 768 x 3072 in fp32 it reaches 208 GFLOP/s against 136 of torch's default (MKL) on two cores of an AMD EPYC,
and an activation costs nothing. A row's result does not depend on the other rows, not even its last bit. On Intel's
CPUs MKL with weights in a layout of its own is faster in fp32 (docs/decisions/0007), and keeps the last bit too.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.quantization import LARGEST, Int8Weight, row_scales

CHUNK_ROWS = 1024  # worked on at once where little is kept; docs/decisions/0007 has what others cost
MKL_CHUNK_ROWS = 512
INT8_CHUNK_ROWS = 256  # what stands between two products of bytes is floats, which must stay in the caches
_HALF_CHANNELS = 32  # of which depthwise convolutions in half precision need a multiple
_ZERO_POINT = 128  # oneDNN's fast products take unsigned inputs
_ROUNDER = 1.5 * 2**23  # a float32 this large has no fraction left: adding it rounds, and the low bits are the integer
_ACTIVATIONS = {"none": "none", "silu": "swish"}
_CPU_INFO = Path("/proc/cpuinfo")
_operators: Any = torch.ops.mkldnn
_mkl_operators: Any = torch.ops.mkl
_int8_operators: Any = torch.ops.onednn


class PackedLinear(nn.Module):
    """`activation(rows @ weight.T + bias)`.

    Args:
        weight: (num_outputs, num_inputs); copied into oneDNN's layout.
        bias: (num_outputs,) or None.
        activation: `none` or `silu`.
    """

    _weight: Tensor
    _bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str) -> None:
        super().__init__()
        self.register_buffer("_weight", _operators._reorder_linear_weight(weight.detach().contiguous(), CHUNK_ROWS))
        self.register_buffer("_bias", None if bias is None else bias.detach().clone())
        self._activation = _ACTIVATIONS[activation]

    def forward(self, rows: Tensor) -> Tensor:
        """(n, num_inputs) -> (n, num_outputs)"""
        return _operators._linear_pointwise(rows, self._weight, self._bias, self._activation, [], "")


class PackedMklLinear(nn.Module):
    """The same in float32 by MKL: `F.linear` has it lay the weights out anew in each call.

    What one thread laid out is multiplied by one thread for ever: torch's threads are to be set before.

    Args:
        weight: (num_outputs, num_inputs); copied into MKL's layout.
        bias: (num_outputs,) or None.
        activation: `none` or `silu`.
    """

    _weight: Tensor
    _shape: Tensor
    _bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str) -> None:
        super().__init__()
        packed = _mkl_operators._mkl_reorder_linear_weight(weight.detach().contiguous(), MKL_CHUNK_ROWS)
        self.register_buffer("_weight", packed)
        # The operator wants the original for its shape alone where the number of rows is the one that it is told.
        self.register_buffer("_shape", weight.new_zeros(1).expand(weight.shape))
        self.register_buffer("_bias", None if bias is None else bias.detach().clone())
        self._silu = activation == "silu"

    def forward(self, rows: Tensor) -> Tensor:
        """(n, num_inputs) -> (n, num_outputs)"""
        out = _mkl_operators._mkl_linear(rows, self._weight, self._shape, self._bias, len(rows))
        return F.silu(out, inplace=True) if self._silu else out


class PackedInt8Linear(nn.Module):
    """The same as a product of bytes: each row gets its own scale, so no row's result depends on another row.

    Args:
        weight: copied into oneDNN's layout.
        bias: (num_outputs,) or None.
        activation: `none` or `silu`.
    """

    _weight: Tensor
    _scales: Tensor
    _zeros: Tensor
    _bias: Tensor | None

    def __init__(self, weight: Int8Weight, bias: Tensor | None, activation: str) -> None:
        super().__init__()
        rows = [INT8_CHUNK_ROWS, weight.values.shape[1]]
        self.register_buffer("_weight", _int8_operators.qlinear_prepack(weight.values.contiguous(), rows))
        self.register_buffer("_scales", weight.scales.clone())
        self.register_buffer("_zeros", torch.zeros(len(weight.scales), dtype=torch.int64))
        self.register_buffer("_bias", None if bias is None else bias.detach().float().clone())
        self._silu = activation == "silu"

    def forward(self, rows: Tensor) -> Tensor:
        """(n, num_inputs) float32 -> (n, num_outputs) float32"""
        scales = row_scales(rows)
        rounded = (rows / scales).add_(_ROUNDER + _ZERO_POINT)
        out = _multiply(rounded.view(torch.int32).to(torch.uint8), self._weight, self._scales, self._zeros).mul_(scales)
        if self._bias is not None:
            out.add_(self._bias)
        return F.silu(out, inplace=True) if self._silu else out


def _multiply(rows: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """(n, num_inputs) uint8 around 128 -> (n, num_outputs) float32, summed up in int32."""
    return _int8_operators.qlinear_pointwise(
        rows, 1.0, _ZERO_POINT, weight, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


class PackedDepthwise(nn.Module):
    """Causal depthwise convolution of each input, rows staying rows: channels last, so nothing is transposed.

    Args:
        weight: (D, 1, kernel).
    """

    _weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        # oneDNN's kernels for other numbers of channels are a thousand times slower.
        self._padding = 0 if weight.dtype == torch.float32 else -weight.shape[0] % _HALF_CHANNELS
        self._channels, self._gap = weight.shape[0] + self._padding, weight.shape[-1] - 1
        shape = [1, self._channels, 1, CHUNK_ROWS]
        padded = F.pad(weight.detach(), (0, 0, 0, 0, 0, self._padding))
        packed = _operators._reorder_convolution_weight(
            padded.unsqueeze(2), [0, 0], [1, 1], [1, 1], self._channels, shape
        )
        self.register_buffer("_weight", packed)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """(N, D) -> (N, D)"""
        padded = F.pad(rows, (0, self._padding)) if self._padding else rows
        image = packing.spread(padded, self._gap).t()[None, :, None, :]  # (1, D, 1, N'), stored channels last
        convolved = _operators._convolution_pointwise(
            image, self._weight, None, [0, 0], [1, 1], [1, 1], self._channels, "none", [], ""
        )
        return packing.gather(convolved[0, : rows.shape[1], 0].t(), self._gap)


def is_supported(dtype: torch.dtype) -> bool:
    """Whether this CPU and this torch have the operators for a type (fp16 needs AVX512-FP16)."""
    if not torch.backends.mkldnn.is_available() or not hasattr(_operators, "_linear_pointwise"):
        return False
    try:
        with torch.inference_mode():
            PackedLinear(torch.zeros(16, 16, dtype=dtype), None, "silu")(torch.zeros(16, 16, dtype=dtype))
            PackedDepthwise(torch.zeros(16, 1, 3, dtype=dtype))
    except (RuntimeError, AttributeError):
        return False
    return True


def outruns_flash_attention(dtype: torch.dtype) -> bool:
    """Whether oneDNN's products outrun torch's flash attention, which multiplies with MKL: in float32 with AVX-512,
    to which MKL does not go on the CPUs of other makers than Intel."""
    return dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX512" and not _is_intel()


def multiplies_faster_with_mkl(dtype: torch.dtype) -> bool:
    """Whether `PackedMklLinear` outruns `PackedLinear` here: in float32 on Intel's CPUs, where this torch lets it.

    By the maker, not by a measurement, so that all actors of a kind of machine write the same vectors.
    """
    return dtype == torch.float32 and torch.backends.mkl.is_available() and _is_intel() and _mkl_keeps_layout()


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in _CPU_INFO.read_text()
    except OSError:
        return False


def _mkl_keeps_layout() -> bool:
    """Whether weights that MKL laid out once serve any number of rows: those of torch 2.13's MKL do, but MKL's manual
    does not promise it."""
    weight, rows = torch.eye(256).roll(1, 0), torch.rand(2 * MKL_CHUNK_ROWS, 256)
    try:
        with torch.inference_mode():
            linear = PackedMklLinear(weight, None, "none")
            return all(torch.equal(linear(rows[:n]), rows[:n].roll(1, 1)) for n in (1, 17, MKL_CHUNK_ROWS, len(rows)))
    except (RuntimeError, AttributeError):
        return False


def multiplies_bytes() -> bool:
    """Whether this CPU sums products of bytes up without overflow (VNNI), and this torch lets it.

    Without them oneDNN adds pairs of products in 16 bits, which saturate: it is tried with the largest numbers.
    """
    num_inputs = 64
    weight = torch.full((16, num_inputs), LARGEST, dtype=torch.int8)
    rows = torch.full((16, num_inputs), 255, dtype=torch.uint8)
    try:
        packed = _int8_operators.qlinear_prepack(weight, list(rows.shape))
        found = _multiply(rows, packed, torch.ones(16), torch.zeros(16, dtype=torch.int64))
    except (RuntimeError, AttributeError):
        return False
    return bool((found == num_inputs * LARGEST * (255 - _ZERO_POINT)).all())
