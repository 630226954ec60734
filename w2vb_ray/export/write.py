"""The files of an artifact: made in a local folder, then put where the user wants them."""

import json
import platform
import shutil
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from w2vb_ray import __version__, storage
from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.artifact import ARTIFACT, FORMAT_VERSION, Kind
from w2vb_ray.encoder.attention_head import SETTINGS
from w2vb_ray.encoder.checkpoint import ATTENTION_WEIGHTS
from w2vb_ray.encoder.model import load_model
from w2vb_ray.encoder.packed import why_not_packed
from w2vb_ray.encoder.quantized_model import quantize_model, state_of
from w2vb_ray.errors import ConfigError
from w2vb_ray.export.smoothing import smooth

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_COPIED = (_CONFIG, "preprocessor_config.json", "processor_config.json", SETTINGS, ATTENTION_WEIGHTS)
_PACKAGES = ("torch", "transformers", "numpy", "safetensors")


def write_weights(
    checkpoint: Checkpoint,
    kind: Kind,
    folder: Path,
    *,
    kept: Collection[str] = (),
    calibration: Sequence[np.ndarray] = (),
) -> None:
    """Fill a folder with everything but what was measured.

    Args:
        checkpoint: what is exported.
        kind: into what.
        folder: empty.
        kept: matrices that stay floats.
        calibration: waveforms on which outliers are looked for, for `int8`.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: the kind is not for this model, or cannot hold its weights.
    """
    model = load_model(checkpoint, torch.float32, torch.device("cpu"))
    smoothed = kind == "int8" and len(calibration) > 0  # the inputs of other kinds are not rounded
    match kind:
        case "int8" | "int8_weights":
            reason = why_not_packed(model.config)
            if reason is not None:
                raise ConfigError(
                    f"export.kind {kind} is for wav2vec2-bert with relative_key positions and SiLU, but "
                    f"encoder.checkpoint '{checkpoint.name}' has {reason}; choose fp16 or bf16"
                )
            if smoothed:
                smooth(model, checkpoint, calibration)
            quantize_model(model, kept)
            state = state_of(model)
        case "fp16" | "bf16":
            state = model.to(torch.float16 if kind == "fp16" else torch.bfloat16).state_dict()
            if not all(bool(one.isfinite().all()) for one in state.values()):
                raise ConfigError(
                    f"export.kind {kind} cannot hold the weights of encoder.checkpoint '{checkpoint.name}': some are "
                    "larger than 65504; choose bf16"
                )
    save_file({key: one.contiguous() for key, one in state.items()}, folder / _WEIGHTS, metadata={"format": "pt"})
    for name in _COPIED:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)
    write_description(folder, {"kind": kind, "smoothed": smoothed, "kept": sorted(kept), "source": _source(checkpoint)})


def fp32_bytes(checkpoint: Checkpoint) -> int:
    """What the checkpoint's weights would take in fp32, heads and all."""
    total = 0
    for file in checkpoint.weights:
        with safe_open(file, framework="np") as tensors:
            total += sum(4 * prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    return total


def write_description(folder: Path, more: Mapping[str, Any]) -> None:
    """Write `artifact.json`, or add to it."""
    path = folder / ARTIFACT
    described = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else _description()
    path.write_text(json.dumps({**described, **more}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_vacant(uri: str, options: Mapping[str, Any]) -> None:
    """Refuse to write where something else is.

    Raises:
        ConfigError: it holds files, or cannot be looked at.
    """
    fs = storage.filesystem(uri, options)
    path = storage.fs_path(uri, fs)
    try:
        taken = fs.exists(path) and (not fs.isdir(path) or bool(fs.ls(path, detail=False)))
    except OSError as err:
        raise ConfigError(f"export.uri must be a place that can be written to, but {uri} is not ({err})") from err
    if taken:
        raise ConfigError(f"export.uri must be an empty place, but {uri} holds something; choose another, or empty it")


def publish(folder: Path, uri: str, options: Mapping[str, Any]) -> None:
    """Copy the folder to `uri`; `config.json` comes last, and without it nothing loads what is there.

    Raises:
        ConfigError: it cannot be written there.
    """
    fs = storage.filesystem(uri, options)
    target = storage.fs_path(uri, fs)
    try:
        fs.makedirs(target, exist_ok=True)
        for file in sorted(folder.iterdir(), key=lambda file: (file.name == _CONFIG, file.name)):
            fs.put_file(str(file), storage.join(target, file.name))
    except OSError as err:
        raise ConfigError(f"export.uri must be a place that can be written to, but {uri} is not ({err})") from err


def _description() -> dict[str, Any]:
    packages = {package: version(package) for package in _PACKAGES}
    versions = {"w2vb_ray": __version__, "python": platform.python_version(), **packages}
    return {"format_version": FORMAT_VERSION, "files": [_WEIGHTS], "versions": versions}


def _source(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint.name,
        "weights_sha256": checkpoint.weights_sha256,
        "trained": not checkpoint.untrained,
    }
