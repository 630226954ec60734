"""Gradients of all workers added up, many in one message: a model has hundreds, and most are small."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

Exchange = Callable[[Tensor], Tensor]
"""The sum of a tensor over all workers."""
BUCKET_BYTES = 64 * 1024**2


def exchange_gradients(parameters: Iterable[nn.Parameter], exchange: Exchange) -> None:
    """Replaces gradients by their sums over workers; one that a worker does not have counts as zeros.

    Args:
        parameters: float32, the same ones in the same order on every worker.
        exchange: sums over workers.
    """
    for bucket in _buckets(one for one in parameters if one.requires_grad):
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in bucket]
        summed = exchange(torch.cat([one.flatten() for one in gradients]))
        for parameter, gradient in zip(bucket, summed.split([one.numel() for one in bucket]), strict=True):
            parameter.grad = gradient.view_as(parameter)


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Of at most `BUCKET_BYTES`, or of one parameter."""
    bucket: list[nn.Parameter] = []
    num_bytes = 0
    for parameter in parameters:
        if bucket and num_bytes + parameter.nbytes > BUCKET_BYTES:
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(parameter)
        num_bytes += parameter.nbytes
    if bucket:
        yield bucket
