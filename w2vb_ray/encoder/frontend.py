"""Waveforms to model inputs, and windows of them. One class per model family; the forward pass is elsewhere."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from w2vb_ray.audio import features
from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.windows import Window
from w2vb_ray.errors import CheckpointError


class Frontend(Protocol):
    """What the encoder needs to know about a model family's input.

    Attributes:
        input_name: the keyword of the model's forward.
        paddable: whether zero-padding with an attention mask leaves the real frames as they are.
    """

    input_name: str
    paddable: bool

    def prepare(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Model inputs of whole utterances, normalised over the whole utterance: (num_samples,) -> (N, ...)."""
        ...

    def num_frames(self, prepared: Tensor) -> int:
        """T, the 20 ms frames the model makes of a prepared utterance."""
        ...

    def cut(self, prepared: Tensor, window: Window) -> Tensor:
        """The part of a prepared utterance from which the model makes exactly the frames of `window`."""
        ...


def make_frontend(checkpoint: Checkpoint, device: torch.device) -> Frontend:
    """The frontend of a checkpoint's family.

    Raises:
        CheckpointError: its feature extractor has settings this package does not reproduce.
    """
    settings = checkpoint.preprocessor
    _expect(checkpoint, settings, "sampling_rate", features.SAMPLING_RATE_HZ)
    if checkpoint.model_type == "wav2vec2-bert":
        _expect(checkpoint, settings, "num_mel_bins", features.NUM_MEL_BINS)
        _expect(checkpoint, settings, "stride", 2)
        return FilterbankFrontend(device)
    return WaveformFrontend(checkpoint, device)


class FilterbankFrontend:
    """80 mel bins stacked by two, (T, 160): one row per frame. Right padding is inert when the mask is given."""

    input_name = "input_features"
    paddable = True

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def prepare(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """(num_samples,) -> (T, 160) float32 on the encoder's device."""
        return features.filterbank_batch(waveforms, self._device)

    def num_frames(self, prepared: Tensor) -> int:
        """T of (T, 160)."""
        return len(prepared)

    def cut(self, prepared: Tensor, window: Window) -> Tensor:
        """(T, 160) -> (L, 160)."""
        return prepared[window.start : window.stop]


class WaveformFrontend:
    """Samples, (num_samples,): the model's own convolutions make a frame of 400 of them every 320.

    Normalised to zero mean and unit variance when the checkpoint's `preprocessor_config.json` says `do_normalize`
    (transformers' default when it says nothing); without that file, when `feat_extract_norm` is `layer`, as the
    published checkpoints do.
    """

    input_name = "input_values"

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        settings, layer_norm = checkpoint.preprocessor, _conv_norm(checkpoint.config) == "layer"
        self._device = device
        self._normalise = bool(settings.get("do_normalize", True)) if settings else layer_norm
        self._keep_tail = not layer_norm  # group norm sees samples that reach no frame
        self.paddable = layer_norm and _masks_padding(checkpoint.config)

    def prepare(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """(num_samples,) -> (num_samples,) float32 on the encoder's device."""
        convert = features.standardise_waveform if self._normalise else features.as_float
        # a copy only where numpy says read-only: torch has no read-only tensors and warns
        return [torch.from_numpy(np.require(convert(w), requirements="W")).to(self._device) for w in waveforms]

    def num_frames(self, prepared: Tensor) -> int:
        """T of (num_samples,)."""
        return features.num_waveform_frames(len(prepared))

    def cut(self, prepared: Tensor, window: Window) -> Tensor:
        """(num_samples,) -> the samples that the frames of `window` see; group norm keeps the utterance's tail."""
        start = window.start * features.FRAME_SAMPLES
        stop = (window.stop - 1) * features.FRAME_SAMPLES + features.WINDOW_SAMPLES
        if self._keep_tail and window.stop == self.num_frames(prepared):
            stop = len(prepared)
        return prepared[start:stop]


def _conv_norm(config: dict[str, Any]) -> str:
    """Norm of the convolutional feature encoder; config.json always states it except for data2vec, which has one."""
    return "layer" if config["model_type"] == "data2vec-audio" else config.get("feat_extract_norm", "group")


def _masks_padding(config: dict[str, Any]) -> bool:
    """Whether the transformer keeps padded frames out of real ones, as read in transformers 5.23.

    wav2vec2 and wavlm zero padded frames before their one positional convolution, and so does hubert unless a batch
    norm stands before it. wav2vec2-conformer's depthwise convolutions and data2vec's stack of five positional ones
    have no mask: padding next to the last real frames leaks into them.
    """
    match config["model_type"]:
        case "wav2vec2" | "wavlm":
            return True
        case "hubert":
            return not config.get("conv_pos_batch_norm", False)
        case _:
            return False


def _expect(checkpoint: Checkpoint, settings: dict[str, Any], key: str, value: int) -> None:
    if settings.get(key, value) != value:
        raise CheckpointError(
            f"encoder.checkpoint must have {key} {value} in its preprocessor_config.json, but '{checkpoint.name}' has "
            f"{settings[key]}; choose another checkpoint"
        )
