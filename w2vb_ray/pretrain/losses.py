"""The losses of w2v-BERT on ragged lists of hidden frames (Chung et al. 2021, section 3; Baevski et al. 2020, 3.2).

Sums, not means: what they are divided by is the count of a whole update, over micro-batches and workers, so that
neither changes what is learnt. Everything in float32.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from w2vb_ray.pretrain.quantizer import perplexity


class Contrastive(NamedTuple):
    """Sums over hidden frames.

    Args:
        loss: (), of -log of the target's share.
        num_correct: (), frames whose target is the most similar of all.
        num_same: (), distractors with the codes of the target; they do not count.
    """

    loss: Tensor
    num_correct: Tensor
    num_same: Tensor


def draw_negatives(count: int, num_negatives: int, generator: torch.Generator) -> Tensor:
    """Distractors: for each hidden frame of an utterance others of it, evenly and with repetition.

    Args:
        count: hidden frames of the utterance, at least 2.
        num_negatives: K.
        generator: on the CPU.

    Returns:
        (count, K) int64, positions among the utterance's hidden frames.

    Raises:
        ValueError: one hidden frame.
    """
    if count < 2:
        raise ValueError(f"an utterance must have at least 2 hidden frames, but has {count}")
    others = torch.randint(count - 1, (count, num_negatives), generator=generator)
    return others + (others >= torch.arange(count).unsqueeze(1))  # not the frame itself


def contrastive_loss(
    predictions: Tensor, targets: Tensor, codes: Tensor, negatives: Tensor, counts: Sequence[int], temperature: float
) -> Contrastive:
    """InfoNCE of cosines, utterance by utterance.

    Args:
        predictions: (M, d) of the hidden frames, those of one utterance after the other's.
        targets: (M, d).
        codes: (M, G), of the targets.
        negatives: (M, K), see `draw_negatives`.
        counts: hidden frames of each utterance.
        temperature: by which cosines are divided.
    """
    predicted, wanted = F.normalize(predictions.float(), dim=1), F.normalize(targets.float(), dim=1)
    sums = [torch.zeros((), device=predictions.device) for _ in Contrastive._fields]
    for one, other, ids, drawn in zip(
        *(x.split(list(counts)) for x in (predicted, wanted, codes, negatives)), strict=True
    ):
        # all pairs of an utterance's frames: fewer numbers than K vectors for each of them
        cosines = one @ other.t() / temperature
        same = (ids.unsqueeze(1) == ids.unsqueeze(0)).all(-1).gather(1, drawn)
        positive = cosines.diagonal().unsqueeze(1)
        logits = torch.cat([positive, cosines.gather(1, drawn).masked_fill(same, -math.inf)], 1)
        sums[0] = sums[0] + (logits.logsumexp(1) - positive.squeeze(1)).sum()
        sums[1] += (logits[:, 1:].amax(1) < logits[:, 0]).sum()
        sums[2] += same.sum()
    return Contrastive(*sums)


def diversity_loss(mean_probabilities: Tensor) -> Tensor:
    """(G, V) mean probabilities of an update's hidden frames -> (): 0 if all are alike, (V - 1) / V for one code."""
    return 1 - perplexity(mean_probabilities).sum() / mean_probabilities.numel()


def diversity_gradient(mean_probabilities: Tensor) -> Tensor:
    """d `diversity_loss` / d each mean probability, (G, V).

    The loss is of the mean over all of an update, which no micro-batch sees. But its gradient is a sum over frames:
    each micro-batch takes `(gradient * probabilities).sum() / count`, and together these have the loss's gradient.
    """
    leaf = mean_probabilities.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(diversity_loss(leaf), leaf)
    return gradient


def code_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Masked prediction: (M, G, V) logits, (M, G) codes -> () summed over frames, a mean over codebooks."""
    loss = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), reduction="sum")
    return loss / ids.shape[1]
