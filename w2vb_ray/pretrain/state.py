"""Checkpoints of a run: an encoder that plain transformers loads, and beside it all that is needed to go on.

    checkpoints/update-000001000/
        model.safetensors, config.json, preprocessor_config.json    the encoder
        pretraining_config.json                                     what the run was told
        trainer_state.pt                                            heads, optimiser, position, log

`config.json` is written last: a folder without it is none. What older checkpoints than the newest few hold is deleted.
"""

import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.optim import AdamW
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from w2vb_ray import storage
from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.config.secrets import masked
from w2vb_ray.encoder.quiet import quiet_transformers
from w2vb_ray.errors import ConfigError
from w2vb_ray.pretrain.curves import write_curves
from w2vb_ray.pretrain.model import PretrainingModel

CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
_STATE, _SETTINGS, _CONFIG, _WEIGHTS = "trainer_state.pt", "pretraining_config.json", "config.json", "model.safetensors"
_ENCODER = "encoder."  # the part of a model that transformers knows
_MASKING = {"mask_time_prob": 0.05, "mask_time_length": 10}
_FIXED = ("model", "masking", "quantizer", "loss")


@dataclass(slots=True)
class Position:
    """How far a run is.

    Args:
        update: updates made.
        epoch: the one that it is in.
        done: updates of that epoch that are made.
        corpus: digest of the corpus that the epoch was planned on.
        log: all lines.
        written: the update up to which TensorBoard has them.
    """

    update: int = 0
    epoch: int = 0
    done: int = 0
    corpus: str = ""
    log: list[dict[str, float]] = field(default_factory=list)
    written: int = 0


def save(model: PretrainingModel, optimiser: AdamW, position: Position, config: PretrainConfig) -> None:
    """Write curves, a checkpoint and the log, then delete what is too old.

    Raises:
        OSError: the store cannot be written to.
    """
    root, options = storage.join(config.pretrain.uri, CHECKPOINTS), config.pretrain.storage
    write_curves([line for line in position.log if line["update"] > position.written], config.pretrain.uri, options)
    position.written = position.update
    with tempfile.TemporaryDirectory(prefix="w2vb-pretrain-") as name:
        folder = Path(name)
        with quiet_transformers():
            model.encoder.save_pretrained(folder)
        _for_users(folder / _CONFIG)
        _extractor(config).save_pretrained(folder)
        (folder / _SETTINGS).write_bytes(_settings(config))
        heads = {key: one for key, one in model.state_dict().items() if not key.startswith(_ENCODER)}
        state = {
            "heads": heads,
            "optimiser": optimiser.state_dict(),
            "position": {name: getattr(position, name) for name in Position.__dataclass_fields__},
        }
        torch.save(state, folder / _STATE)
        storage.put_folder(folder, storage.join(root, f"update-{position.update:09d}"), options, last=_CONFIG)
    lines = "".join(json.dumps(line) + "\n" for line in position.log)
    storage.write_atomic(storage.join(config.pretrain.uri, LOG), lines.encode(), options)
    fs = storage.filesystem(root, options)
    for old in _names(config)[: -config.pretrain.keep_checkpoints]:
        fs.rm(storage.fs_path(storage.join(root, old), fs), recursive=True)


@contextmanager
def reachable(config: PretrainConfig) -> Generator[None]:
    """Turns what the run's store raises into one message.

    Raises:
        ConfigError: the store cannot be read from or written to.
    """
    try:
        yield
    except storage.STORE_ERRORS as err:
        raise ConfigError(
            f"pretrain.uri must be a place that can be written to, but {config.pretrain.uri} is not ({err}); check the "
            "path, the credentials and pretrain.storage"
        ) from err


def begin(config: PretrainConfig) -> None:
    """Write down what the run is told, before any work.

    Raises:
        OSError: the store cannot be written to.
    """
    storage.write_atomic(storage.join(config.pretrain.uri, _SETTINGS), _settings(config), config.pretrain.storage)


def newest(config: PretrainConfig) -> str | None:
    """URI of the newest whole checkpoint of the run."""
    names = _names(config)
    return storage.join(config.pretrain.uri, CHECKPOINTS, names[-1]) if names else None


def check(uri: str, config: PretrainConfig) -> int:
    """The update after which a checkpoint was written.

    Raises:
        ConfigError: the run was told to make another model.
    """
    stored = storage.read_small(storage.join(uri, _SETTINGS), config.pretrain.storage)
    _check_same(json.loads(stored or b"{}"), config)
    return int(uri.rsplit("-", 1)[1])


def load(uri: str, model: PretrainingModel, optimiser: AdamW, config: PretrainConfig) -> Position:
    """Fill model and optimiser from a checkpoint of the same run."""
    fs = storage.filesystem(uri, config.pretrain.storage)
    with tempfile.TemporaryDirectory(prefix="w2vb-pretrain-") as name:
        folder = Path(name)
        for file in (_WEIGHTS, _STATE):
            fs.get_file(storage.fs_path(storage.join(uri, file), fs), str(folder / file))
        state: dict[str, Any] = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        encoder = {f"{_ENCODER}{key}": one for key, one in load_file(folder / _WEIGHTS).items()}
    model.load_state_dict({**encoder, **state["heads"]})
    optimiser.load_state_dict(state["optimiser"])
    return Position(**state["position"])


def _check_same(stored: dict[str, dict[str, Any]], config: PretrainConfig) -> None:
    ours = config.model_dump(mode="json")
    fixed = [(section, key) for section in _FIXED for key in ours[section] if key != "storage"] + [("pretrain", "seed")]
    differing = [f"{section}.{key}" for section, key in fixed if ours[section][key] != stored[section].get(key)]
    if differing:
        raise ConfigError(
            f"the run in pretrain.uri ({config.pretrain.uri}) was begun with other settings: {', '.join(differing)}; "
            "set them as they were, or give this run another pretrain.uri"
        )


def _settings(config: PretrainConfig) -> bytes:
    """Without the secrets of stores."""
    return (json.dumps(masked(config.model_dump(mode="json")), indent=2, ensure_ascii=False) + "\n").encode()


def _names(config: PretrainConfig) -> list[str]:
    """Whole checkpoints, oldest first."""
    root = storage.join(config.pretrain.uri, CHECKPOINTS)
    fs = storage.filesystem(root, config.pretrain.storage)
    fs.invalidate_cache()
    path = storage.fs_path(root, fs)
    if not fs.isdir(path):
        return []
    names = sorted(str(one).rstrip("/").rsplit("/", 1)[-1] for one in fs.ls(path, detail=False))
    return [name for name in names if fs.exists(storage.fs_path(storage.join(root, name, _CONFIG), fs))]


def _for_users(path: Path) -> None:
    """Who fine-tunes the encoder shall hide as little as transformers' own default has it, not as much as we did."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **_MASKING}, indent=2) + "\n", encoding="utf-8")


def _extractor(config: PretrainConfig) -> Any:
    if config.model.type == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2)
    return Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
