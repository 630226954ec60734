"""The files of an artifact: made in a local folder, then put where the user wants them."""

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from w2vb_ray import __version__, storage
from w2vb_ray.encoder import Checkpoint
from w2vb_ray.encoder.artifact import ARTIFACT, FORMAT_VERSION, Kind
from w2vb_ray.encoder.attention_head import SETTINGS
from w2vb_ray.encoder.checkpoint import ATTENTION_WEIGHTS
from w2vb_ray.encoder.model import load_model
from w2vb_ray.encoder.packed import why_not_packed
from w2vb_ray.encoder.quantized_model import quantize_model, state_of
from w2vb_ray.errors import ConfigError
from w2vb_ray.export.onnx_files import quantize_onnx, write_onnx
from w2vb_ray.export.openvino_files import write_openvino
from w2vb_ray.export.smoothing import smooth

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_COPIED = (_CONFIG, "preprocessor_config.json", "processor_config.json", SETTINGS, ATTENTION_WEIGHTS)
_TOOLS = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
_PACKAGES = ("torch", "transformers", "numpy", "safetensors", *_TOOLS)


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
            files = _write_int8(model, checkpoint, kind, folder, kept, calibration if smoothed else ())
        case "fp16" | "bf16":
            files = _write_halves(model, checkpoint, kind, folder)
        case "onnx":
            files = write_onnx(model, checkpoint, folder)
        case "onnx_int8" | "openvino" | "openvino_int8":
            with tempfile.TemporaryDirectory(dir=folder) as name:
                write_onnx(model, checkpoint, Path(name))
                del model
                if kind == "onnx_int8":
                    files = quantize_onnx(Path(name), folder)
                else:
                    files = write_openvino(Path(name), folder, int8=kind == "openvino_int8")
    for name in _COPIED:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)
    about = {"smoothed": smoothed, "kept": sorted(kept), "source": _source(checkpoint)}
    write_description(folder, {"kind": kind, "files": files, **about})


def _write_int8(
    model: Any,
    checkpoint: Checkpoint,
    kind: Kind,
    folder: Path,
    kept: Collection[str],
    calibration: Sequence[np.ndarray],
) -> list[str]:
    is_bert = checkpoint.model_type == "wav2vec2-bert"
    reason = why_not_packed(model.config) if is_bert else f"model_type {checkpoint.model_type!r}"
    if reason is not None:
        raise ConfigError(
            f"export.kind {kind} is for wav2vec2-bert with relative_key positions and SiLU, but "
            f"encoder.checkpoint '{checkpoint.name}' has {reason}; choose onnx_int8, openvino_int8, fp16 or bf16"
        )
    if len(calibration) > 0:
        smooth(model, checkpoint, calibration)
    quantize_model(model, kept)
    return _save(state_of(model), folder)


def _write_halves(model: Any, checkpoint: Checkpoint, kind: Kind, folder: Path) -> list[str]:
    state: dict[str, Tensor] = model.to(torch.float16 if kind == "fp16" else torch.bfloat16).state_dict()
    if not all(bool(one.isfinite().all()) for one in state.values()):
        raise ConfigError(
            f"export.kind {kind} cannot hold the weights of encoder.checkpoint '{checkpoint.name}': some are "
            "larger than 65504; choose bf16"
        )
    return _save(state, folder)


def _save(state: Mapping[str, Tensor], folder: Path) -> list[str]:
    save_file({key: one.contiguous() for key, one in state.items()}, folder / _WEIGHTS, metadata={"format": "pt"})
    return [_WEIGHTS]


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
    try:
        fs = storage.filesystem(uri, options)
        path = storage.fs_path(uri, fs)
        taken = fs.exists(path) and (not fs.isdir(path) or bool(fs.ls(path, detail=False)))
    except storage.STORE_ERRORS as err:
        raise ConfigError(f"export.uri must be a place that can be written to, but {uri} is not ({err})") from err
    if taken:
        raise ConfigError(f"export.uri must be an empty place, but {uri} holds something; choose another, or empty it")


def publish(folder: Path, uri: str, options: Mapping[str, Any]) -> None:
    """Copy the folder to `uri`; `config.json` comes last, and without it nothing loads what is there.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        storage.put_folder(folder, uri, options, last=_CONFIG)
    except storage.STORE_ERRORS as err:
        raise ConfigError(f"export.uri must be a place that can be written to, but {uri} is not ({err})") from err


def _description() -> dict[str, Any]:
    packages = {package: version(package) for package in _PACKAGES if package in sys.modules}
    versions = {"w2vb_ray": __version__, "python": platform.python_version(), **packages}
    return {"format_version": FORMAT_VERSION, "versions": versions}


def _source(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint.name,
        "weights_sha256": checkpoint.weights_sha256,
        "trained": not checkpoint.untrained,
    }
