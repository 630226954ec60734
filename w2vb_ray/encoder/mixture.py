"""Hidden states of several layers summed into one, as they come."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from w2vb_ray.encoder.forward import Forward

MIXTURE = -1
"""What the mixture is called where a layer would be."""


class MixedForward:
    """A `Forward` that yields one hidden state, the weighted sum of those of another, in float32.

    It holds one buffer, however many layers there are.

    Args:
        forward: yields the layers.
        weights: of each layer, taken as they are.
    """

    def __init__(self, forward: Forward, weights: Mapping[int, float]) -> None:
        self._forward, self._weights, self.pads = forward, weights, forward.pads

    def __call__(self, inputs: Sequence[Tensor], lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """See `Forward`."""
        mixture: Tensor | None = None
        for layer, hidden in self._forward(inputs, lengths):
            if mixture is None:
                mixture = torch.zeros_like(hidden, dtype=torch.float32)
            mixture.add_(hidden, alpha=self._weights[layer])
        if mixture is not None:
            yield MIXTURE, mixture
