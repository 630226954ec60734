"""What the machine's matrix products reach alone: the ceiling that rows are compared with."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.encoder.models import SIZES
from w2vb_ray.encoder import cpu

_ROWS = 512
_CUDA_ROWS = 16_384
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def cpu_peak(precision: str, budget_s: float) -> dict[str, float]:
    """GFLOP/s of one thread: the best of torch's linear layer and oneDNN with packed weights, over the models' shapes.

    Args:
        precision: `fp32` or `bf16`.
        budget_s: time for each way to multiply each shape.
    """
    dtype, found = _DTYPES[precision], {}
    for name, size in SIZES.items():
        shapes = (
            (size.dimension, size.intermediate),
            (size.intermediate, size.dimension),
            (size.dimension, size.dimension),
        )
        for inner, outer in shapes:
            rows, weight = torch.randn(_ROWS, inner, dtype=dtype), torch.randn(outer, inner, dtype=dtype)
            ways: dict[str, Callable[[], object]] = {"linear": lambda r=rows, w=weight: F.linear(r, w)}
            if cpu.is_supported(dtype):
                packed = cpu.PackedLinear(weight, None, "none")
                ways["onednn"] = lambda r=rows, p=packed: p(r)
            for way, call in ways.items():
                reached = 2 * _ROWS * inner * outer / _cpu_seconds(call, budget_s) / 1e9
                found[f"{way} {name} {inner}x{outer}"] = reached
    return found


def cuda_peak() -> dict[str, float]:
    """GFLOP/s of bf16 products on the card: square ones and the models' shapes."""
    shapes = [(8192, 8192, 8192)]
    for size in SIZES.values():
        shapes += [(_CUDA_ROWS, size.dimension, size.intermediate), (_CUDA_ROWS, size.intermediate, size.dimension)]
    found = {}
    for rows, inner, outer in shapes:
        left = torch.randn(rows, inner, dtype=torch.bfloat16, device="cuda")
        weight = torch.randn(outer, inner, dtype=torch.bfloat16, device="cuda")
        seconds = _cuda_seconds(lambda left=left, weight=weight: F.linear(left, weight))
        found[f"linear {rows}x{inner}x{outer}"] = 2 * rows * inner * outer / seconds / 1e9
    return found


def _cpu_seconds(call: Callable[[], object], budget_s: float) -> float:
    """Shortest CPU time of a call: what disturbs it only makes it longer."""
    call()
    times: list[float] = []
    end = time.perf_counter() + budget_s
    while len(times) < 3 or time.perf_counter() < end:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def _cuda_seconds(call: Callable[[], object]) -> float:
    """Shortest mean of ten calls."""
    means: list[float] = []
    for _ in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            call()
        torch.cuda.synchronize()
        means.append((time.perf_counter() - start) / 10)
    return min(means[1:])
