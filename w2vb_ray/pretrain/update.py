"""One update: the gradient of a window of utterances, the same however they are batched and shared among workers.

What losses are divided by, and the mean probabilities of codes, are those of the whole window: a first pass, without
the encoder's layers, finds them. Then every micro-batch adds its part of the gradient. What is random about an
utterance comes from its own number in the run.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from w2vb_ray.audio.features import num_waveform_frames
from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.errors import SourceError
from w2vb_ray.pretrain.gradients import Exchange, exchange_gradients
from w2vb_ray.pretrain.losses import (
    code_loss,
    contrastive_loss,
    diversity_gradient,
    diversity_loss,
    draw_negatives,
)
from w2vb_ray.pretrain.masking import mask_utterance
from w2vb_ray.pretrain.model import PretrainingModel
from w2vb_ray.pretrain.quantizer import gumbel_noise, perplexity

_NOISE, _MASK = 0, 1  # what a seed is for


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Utterances that go through the model together.

    Args:
        numbers: B, of the utterances in the plan of the whole run.
        inputs: (B, T, 160) features or (B, num_samples), float32, padded behind.
        lengths: B, of the inputs.
        num_frames: B, that the model makes of each.
    """

    numbers: list[int]
    inputs: Tensor
    lengths: list[int]
    num_frames: list[int]


@dataclass(frozen=True, slots=True)
class _Window:
    """What the first pass found, over all workers."""

    num_hidden: float
    num_frames: float
    mean_probabilities: Tensor
    code_entropy: float
    code_perplexity: float


class Objective:
    """Adds the gradients of micro-batches to a model's parameters.

    Args:
        model: the model, on its device.
        config: the run's.
        autocast: what the encoder runs under.
    """

    def __init__(
        self, model: PretrainingModel, config: PretrainConfig, autocast: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._model, self._config, self._autocast = model, config, autocast
        self._device = model.contrastive_head.weight.device

    def accumulate(self, micro_batches: Sequence[MicroBatch], update: int, exchange: Exchange) -> dict[str, float]:
        """The gradient of an update, summed over workers, into `.grad`; the figures of the whole update.

        Args:
            micro_batches: this worker's share; may be empty.
            update: number of the update, from 0 on.
            exchange: sums over workers.
        """
        masks = [self._mask(micro) for micro in micro_batches]
        window = self._look(micro_batches, masks, exchange)
        slope = diversity_gradient(window.mean_probabilities)
        sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=self._device)
        for micro, mask in zip(micro_batches, masks, strict=True):
            sums += self._backward(micro, mask, update, window, slope)
        exchange_gradients(self._model.parameters(), exchange)
        return self._figures(dict(zip(_SUMS, exchange(sums).tolist(), strict=True)), window, update)

    def temperature(self, update: int) -> float:
        """Of the Gumbel softmax."""
        section = self._config.quantizer
        return max(section.min_temperature, section.max_temperature * section.temperature_decay**update)

    def _mask(self, micro: MicroBatch) -> Tensor:
        """(B, T) bool on the CPU, T as long as the padded inputs make it."""
        width = micro.inputs.shape[1]
        mask = torch.zeros(len(micro.numbers), width if micro.inputs.ndim == 3 else num_waveform_frames(width)).bool()
        for row, number, num_frames in zip(mask, micro.numbers, micro.num_frames, strict=True):
            rng = np.random.default_rng([self._config.pretrain.seed, _MASK, number])
            row[:num_frames] = torch.from_numpy(mask_utterance(num_frames, self._config.masking, rng))
        return mask

    def _draw(self, number: int, count: int) -> tuple[Tensor, Tensor]:
        """Noise and distractors of an utterance with so many hidden frames."""
        # near numbers must not give streams that are near each other
        mixed = np.random.SeedSequence([self._config.pretrain.seed, _NOISE, number]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(mixed >> np.uint64(1)))
        noise = gumbel_noise(count, self._config.quantizer, generator)
        return noise, draw_negatives(count, self._config.loss.num_negatives, generator)

    @torch.no_grad()
    def _look(self, micro_batches: Sequence[MicroBatch], masks: Sequence[Tensor], exchange: Exchange) -> _Window:
        quantizer = self._model.quantizer
        probabilities = torch.zeros(quantizer.num_codebooks, quantizer.num_codes, device=self._device)
        histogram, counts = torch.zeros_like(probabilities), torch.zeros(2, device=self._device)
        for micro, mask in zip(micro_batches, masks, strict=True):
            with self._autocast():
                features = self._model.features(micro.inputs.to(self._device), mask.to(self._device))
            found = quantizer.probabilities(features)
            probabilities += found.sum(0)
            histogram += F.one_hot(found.argmax(-1), quantizer.num_codes).sum(0)
            counts += torch.tensor([len(features), sum(micro.num_frames)], device=self._device)
        num_hidden, num_frames = exchange(counts).tolist()
        if num_hidden == 0:
            raise SourceError("none of an update's utterances can be read any more; look at the source, and run again")
        usage = exchange(histogram) / num_hidden
        entropy = -(usage * torch.log(usage.clamp_min(1e-12))).sum(-1).mean()
        mean = exchange(probabilities) / num_hidden
        return _Window(num_hidden, num_frames, mean, float(entropy), float(perplexity(usage).mean()))

    def _backward(self, micro: MicroBatch, mask: Tensor, update: int, window: _Window, slope: Tensor) -> Tensor:
        """The micro-batch's part of the gradient; its sums, in the order of `_SUMS`."""
        config, model = self._config, self._model
        loss, counts = config.loss, mask.sum(1).tolist()
        drawn = zip(*(self._draw(*pair) for pair in zip(micro.numbers, counts, strict=True)), strict=True)
        noise, negatives = (torch.cat(some).to(self._device) for some in drawn)
        inputs, mask = micro.inputs.to(self._device), mask.to(self._device)
        with self._autocast():
            hidden = model(inputs, micro.lengths, micro.num_frames, mask)
        codes = model.quantizer(hidden.features, self.temperature(update), noise)
        predictions = model.contrastive_head(hidden.middle.float())
        contrastive = contrastive_loss(
            predictions, codes.vectors, codes.chosen, negatives, counts, loss.logit_temperature
        )
        logits = model.code_head(hidden.last.float()).view(*codes.ids.shape, -1)
        predicted = code_loss(logits, codes.ids)
        total = loss.contrastive * contrastive.loss / window.num_hidden
        total = (
            total + loss.contrastive * loss.diversity * (slope * codes.probabilities.sum(0)).sum() / window.num_hidden
        )
        total = total + loss.masked_prediction * predicted / window.num_hidden
        total = total + loss.contrastive * loss.feature_penalty * hidden.penalty / window.num_frames
        random = torch.zeros((), device=self._device)
        if model.random_quantizer is not None and model.random_head is not None:
            random_ids = model.random_quantizer(hidden.features)
            random = code_loss(model.random_head(hidden.last.float()).unsqueeze(1), random_ids.unsqueeze(1))
            total = total + loss.random_projection * random / window.num_hidden
        total.backward()
        correct = (logits.argmax(-1) == codes.ids).float().mean(1).sum()
        found = (*contrastive, predicted, correct, random, hidden.penalty)
        padded = torch.tensor(float(mask.numel()), device=self._device)
        return torch.stack([one.detach().double() for one in (*found, padded)])

    def _figures(self, sums: dict[str, float], window: _Window, update: int) -> dict[str, float]:
        """Means over the update; what tells learning from collapse beside what is minimised."""
        count, quantizer = window.num_hidden, self._model.quantizer
        diversity = float(diversity_loss(window.mean_probabilities))
        prediction = sums["code_loss"] / count
        figures = {
            "contrastive_loss": sums["contrastive_loss"] / count,
            "contrastive_accuracy": sums["num_correct"] / count,
            "same_negatives": sums["num_same"] / count / self._config.loss.num_negatives,
            "diversity_loss": diversity,
            "masked_prediction_loss": prediction,
            "masked_prediction_accuracy": sums["num_codes_correct"] / count,
            "code_entropy": window.code_entropy,
            "masked_prediction_gain": window.code_entropy - prediction,
            "code_perplexity": window.code_perplexity,
            "probability_perplexity": quantizer.num_codes * (1 - diversity),
            "temperature": self.temperature(update),
            "hidden_frames": count,
            "hidden_share": count / window.num_frames,
            "audio_s": window.num_frames / 50,
            "padding": 1 - window.num_frames / sums["num_padded_frames"],
        }
        if self._model.random_quantizer is not None:
            figures["random_projection_loss"] = sums["random_loss"] / count
        return figures


_SUMS = (
    *("contrastive_loss", "num_correct", "num_same", "code_loss", "num_codes_correct", "random_loss", "penalty"),
    "num_padded_frames",
)
