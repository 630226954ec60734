"""What vectors are held against: sounds described without a model, their lengths, a model that has learnt nothing."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel

from w2vb_ray.audio.features import log_mel
from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.quiet import quiet_transformers

_NUM_CEPSTRA = 13
_EXTRACTORS = ("preprocessor_config.json", "processor_config.json")


def mel_statistics(waveforms: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 160): mean and standard deviation of 80 log-mel bands over each utterance, not normalised."""
    return np.stack([_statistics(log_mel(waveform)) for waveform in waveforms])


def cepstral_statistics(waveforms: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 78): mean and standard deviation of 13 MFCC, their differences and the differences of those."""
    return np.stack([_statistics(_mfcc(log_mel(waveform))) for waveform in waveforms])


def cepstral_frames(waveform: np.ndarray) -> np.ndarray:
    """(num_samples,) -> (T, 78): the MFCC of both halves of each 20 ms, normalised over the utterance."""
    cepstra = _mfcc(log_mel(waveform))
    cepstra = (cepstra - cepstra.mean(0)) / np.maximum(cepstra.std(0), 1e-6)
    return cepstra[: len(cepstra) // 2 * 2].reshape(len(cepstra) // 2, -1)


def duration_angles(durations_s: Sequence[float]) -> np.ndarray:
    """(N, 2) unit vectors that are near each other where durations are: what length alone finds."""
    angles = np.pi / 2 * np.asarray(durations_s) / (1 + np.asarray(durations_s))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def write_random(checkpoint: Checkpoint, folder: Path, seed: int) -> None:
    """A checkpoint of the same architecture with the weights that transformers begins with."""
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(checkpoint.path, local_files_only=True, trust_remote_code=False)
        AutoModel.from_config(config).save_pretrained(folder)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**described, "w2vb_ray": {"trained": False}}), encoding="utf-8")
    for name in _EXTRACTORS:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)


def _statistics(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([frames.mean(0), frames.std(0)])


def _mfcc(frames: np.ndarray) -> np.ndarray:
    """(hops, 80) -> (hops, 39) by the orthonormal cosine transform."""
    bands = frames.shape[1]
    angles = np.pi / bands * (np.arange(bands) + 0.5) * np.arange(_NUM_CEPSTRA)[:, np.newaxis]
    basis = np.cos(angles) * np.sqrt(2 / bands)
    basis[0] /= np.sqrt(2)
    cepstra = frames @ basis.T
    slopes = np.gradient(cepstra, axis=0)
    return np.concatenate([cepstra, slopes, np.gradient(slopes, axis=0)], axis=1)
