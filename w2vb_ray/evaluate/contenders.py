"""Every kind of vector of some speech: of a model's layers, of the same layers before training, of what is no model."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from w2vb_ray.audio import features
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.encoder import Checkpoint, Encoder, load_encoder, resolve_checkpoint
from w2vb_ray.errors import ConfigError
from w2vb_ray.evaluate import baselines
from w2vb_ray.evaluate.speech import Speech

MODEL, RANDOM = "model", "random weights"
_AT_ONCE = 64  # utterances whose frames are in memory
_CONTEXT = 2


def vectors(speech: Speech, config: EvaluateConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Name and (N, D) of each kind of pooled vector.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: it has no such layer.
    """
    assert speech.waveforms is not None
    yield "duration", baselines.duration_angles(speech.durations_s)
    yield "log-mel statistics", baselines.mel_statistics(speech.waveforms)
    yield "MFCC statistics", baselines.cepstral_statistics(speech.waveforms)
    methods = config.pooling.methods
    for name, encoder in _encoders(config):
        found = encoder.encode(speech.waveforms)
        for place in range(len(found[0].pooled)):
            layer, method = divmod(place, len(methods))
            suffix = f", {methods[method]}" if len(methods) > 1 else ""
            yield f"{name}, layer {encoder.layers[layer]}{suffix}", np.stack([one.pooled[place] for one in found])


Frames = Iterator[tuple[str, int, np.ndarray]]
"""Name, place of the utterance, and (T, D)."""


def frames(waveforms: Sequence[np.ndarray], config: EvaluateConfig) -> Iterator[Frames]:
    """Frames of 20 ms, one kind of vectors (or all layers of one model) after the other.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: it has no such layer.
    """
    yield _plain_frames(waveforms)
    for name, encoder in _encoders(config):
        yield _layer_frames(name, encoder, waveforms)


def _plain_frames(waveforms: Sequence[np.ndarray]) -> Frames:
    for index, waveform in enumerate(waveforms):
        mel = features.filterbank_batch([waveform])[0].numpy()
        yield "log-mel", index, mel
        padded = np.pad(mel, ((_CONTEXT, _CONTEXT), (0, 0)), mode="edge")
        shifted = [padded[shift : shift + len(mel)] for shift in range(2 * _CONTEXT + 1)]
        yield "log-mel, 5 frames", index, np.concatenate(shifted, axis=1)
        yield "MFCC", index, baselines.cepstral_frames(waveform)


def _layer_frames(name: str, encoder: Encoder, waveforms: Sequence[np.ndarray]) -> Frames:
    for start in range(0, len(waveforms), _AT_ONCE):
        found = encoder.encode(waveforms[start : start + _AT_ONCE], keep_frames=True)
        for place, one in enumerate(found):
            assert one.frames is not None
            for layer, states in zip(encoder.layers, one.frames, strict=True):
                yield f"{name}, layer {layer}", start + place, states


def _encoders(config: EvaluateConfig) -> Iterator[tuple[str, Encoder]]:
    checkpoint = resolve_checkpoint(config.encoder)
    if not checkpoint.untrained:
        with tempfile.TemporaryDirectory(prefix="w2vb-random-") as name:
            baselines.write_random(checkpoint, Path(name), config.evaluate.seed)
            yield RANDOM, _load(checkpoint, config, {"checkpoint": name, "revision": None, "storage": {}})
    yield RANDOM if checkpoint.untrained else MODEL, _load(checkpoint, config, {})


def _load(checkpoint: Checkpoint, config: EvaluateConfig, update: dict[str, object]) -> Encoder:
    layers = list(range(checkpoint.num_layers + 1)) if config.evaluate.layers is None else config.evaluate.layers
    if not layers or not all(0 <= layer <= checkpoint.num_layers for layer in layers):
        raise ConfigError(f"evaluate.layers must be hidden states from 0 to {checkpoint.num_layers}, but is {layers}")
    section = config.encoder.model_copy(update={"layers": layers, "layer_weights": None, **update})
    return load_encoder(section, config.pooling, config.batching, config.audio)
