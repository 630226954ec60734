"""Self-attentive pooling: frames weighted by a trained head (Lin et al. 2017, arXiv:1703.03130; Okabe et al. 2018,
arXiv:1803.10963), window by window."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from w2vb_ray.encoder.attention_head import AttentionHead
from w2vb_ray.encoder.pooling import Partial, unit_length


class AttentionPooling:
    """A `Pooling` of H heads; the embedding is (H·D,), one head's weighted mean of the frames after the other's.

    Head h scores frame x_t with s_h(t) = v_h · tanh(W x_t + b) + c_h, or v_h · x_t + c_h without a scoring network;
    its weights are the softmax of the scores over all frames of the utterance (so c_h changes nothing). W, b, v and c
    are `hidden.weight`, `hidden.bias`, `scores.weight` and `scores.bias`. Scores are float32, all else float64.

    The rows of a partial are (H, 2 + D): the largest score m, and over the frames the sums of exp(s - m) and of
    exp(s - m)·x.

    Args:
        head: the trained head.
        device: where hidden states are.
    """

    def __init__(self, head: AttentionHead, device: torch.device) -> None:
        self._tensors = {name: torch.from_numpy(tensor).to(device) for name, tensor in head.tensors.items()}
        self._normalise = head.normalise

    def statistics(self, frames: Tensor) -> Tensor:
        """See `Pooling`."""
        scores = self._scores(frames.float()).double()
        largest = scores.amax(0)
        weights = (scores - largest).exp_().T
        return torch.cat([largest.unsqueeze(1), weights.sum(1, keepdim=True), weights @ frames.double()], dim=1)

    def merge(self, a: Partial, b: Partial) -> np.ndarray:
        """See `Pooling`."""
        largest = np.maximum(a.rows[:, :1], b.rows[:, :1])
        sums = [part.rows[:, 1:] * np.exp(part.rows[:, :1] - largest) for part in (a, b)]
        return np.hstack([largest, sums[0] + sums[1]])

    def finish(self, partial: Partial) -> np.ndarray:
        """See `Pooling`."""
        pooled = (partial.rows[:, 2:] / partial.rows[:, 1:2]).reshape(-1)
        return unit_length(pooled) if self._normalise else pooled

    def _scores(self, frames: Tensor) -> Tensor:
        """(n, D) float32 -> (n, H)."""
        if "hidden.weight" in self._tensors:
            frames = functional.linear(frames, self._tensors["hidden.weight"], self._tensors["hidden.bias"]).tanh_()
        return functional.linear(frames, self._tensors["scores.weight"], self._tensors["scores.bias"])
