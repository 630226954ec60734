"""What plain transformers makes of one waveform: its own extractor, its own model, fp32 on the CPU, a batch of one.

Shares nothing with this package's encoder but the loading of the weights.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.model import load_model

_INT16_SCALE = 32_768


class TransformersReference:
    """The hidden states of a checkpoint as transformers computes them.

    Args:
        checkpoint: the checkpoint.

    Raises:
        CheckpointError: transformers cannot load it.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._takes_features = checkpoint.model_type == "wav2vec2-bert"
        self._extract = _extractor(checkpoint)
        self._model = load_model(checkpoint, torch.float32, torch.device("cpu"))

    @torch.inference_mode()
    def __call__(self, waveform: np.ndarray) -> list[np.ndarray]:
        """Every hidden state, (num_layers + 1) arrays (T, D) float32; the last is `last_hidden_state`.

        Args:
            waveform: (num_samples,) int16 or float32 in [-1, 1], 16 kHz mono, at least 560 samples (transformers
                gives NaN for less than two 10 ms frames).
        """
        output = self._model(**self._inputs(waveform), output_hidden_states=True)
        return [state[0].numpy() for state in (*output.hidden_states[:-1], output.last_hidden_state)]

    def _inputs(self, waveform: np.ndarray) -> dict[str, Tensor]:
        samples = waveform.astype(np.float32) / _INT16_SCALE if waveform.dtype == np.int16 else waveform
        batch = self._extract(samples, sampling_rate=16_000, return_tensors="pt")
        if not self._takes_features:
            return {"input_values": batch["input_values"]}
        # without the frame that the extractor pads an odd number of 10 ms frames with
        return {"input_features": batch["input_features"][:, batch["attention_mask"][0].bool()]}


def _extractor(checkpoint: Checkpoint) -> Any:
    """The checkpoint's own feature extractor, or the one that published checkpoints of its kind have."""
    settings = checkpoint.preprocessor
    if checkpoint.model_type == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor.from_dict(settings)
    if settings:
        return Wav2Vec2FeatureExtractor.from_dict(settings)
    layer_norm = checkpoint.model_type == "data2vec-audio" or checkpoint.config.get("feat_extract_norm") == "layer"
    return Wav2Vec2FeatureExtractor(do_normalize=layer_norm)
