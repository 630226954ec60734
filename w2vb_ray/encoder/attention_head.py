"""A trained attention pooling head, as it lies in a checkpoint's folder. Knows no torch: the driver reads it too.

`attention_pooling.json` has exactly these keys:

    format_version  1
    num_heads       H
    hidden_size     width A of the scoring network; null scores frames with a single linear layer
    layer           hidden state the head was trained on, 0 being the input of the first layer; null suits any
    normalise       whether the pooled vector is divided by its L2 norm, as it was in training

`attention_pooling.safetensors` has float tensors, laid out as those of `torch.nn.Linear`, and no others:

    hidden.weight (A, D), hidden.bias (A,)   only with a hidden_size
    scores.weight (H, A), scores.bias (H,)   or (H, D) without one

What is computed with them stands in `attention_pooling.AttentionPooling`. They are no part of the model's weights: a
head that is put into a folder, or changed there, leaves the fingerprint of tables made without it as it was.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from w2vb_ray.encoder.checkpoint import ATTENTION_WEIGHTS, Checkpoint, read_json, resolve_layers
from w2vb_ray.errors import CheckpointError

if TYPE_CHECKING:
    from w2vb_ray.config.sections import EncoderSection

SETTINGS = "attention_pooling.json"
_FLOATS = ("F16", "F32", "F64")  # numpy has no bfloat16


@dataclass(frozen=True, slots=True)
class AttentionHead:
    """What the two files say.

    Args:
        tensors: float32, by the names above.
        normalise: see above.
        sha256: hex digest over the contents of both files.
    """

    tensors: Mapping[str, np.ndarray]
    normalise: bool
    sha256: str


def read_attention_head(checkpoint: Checkpoint, encoder: "EncoderSection") -> AttentionHead:
    """Reads and checks the head of a checkpoint.

    Args:
        checkpoint: the model it belongs to.
        encoder: the layers that it is to pool.

    Raises:
        CheckpointError: a file is missing or malformed, or the head was trained on another layer.
    """
    files = checkpoint.path / SETTINGS, checkpoint.path / ATTENTION_WEIGHTS
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"pooling.method attention needs a trained head in the folder of encoder.checkpoint, {SETTINGS} and "
            f"{ATTENTION_WEIGHTS}, but '{checkpoint.name}' lacks {' and '.join(missing)}; add it, or choose mean, "
            "mean_std or max"
        )
    settings = read_json(files[0], checkpoint.name)
    _check_settings(settings, checkpoint)
    _check_layer(settings["layer"], checkpoint, encoder)
    digest = hashlib.sha256(files[0].read_bytes() + files[1].read_bytes())
    tensors = _read_tensors(files[1], _shapes(settings, checkpoint.dimension), checkpoint.name)
    return AttentionHead(tensors, settings["normalise"], digest.hexdigest())


def _check_settings(settings: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    given, num_layers = settings.get, checkpoint.num_layers
    rules = {
        "format_version": ("1", given("format_version") == 1),
        "num_heads": ("a positive whole number", _is_whole(given("num_heads"), 1)),
        "hidden_size": (
            "a positive whole number or null",
            given("hidden_size") is None or _is_whole(given("hidden_size"), 1),
        ),
        "layer": (f"0 to {num_layers} or null", given("layer") is None or _is_whole(given("layer"), 0, num_layers)),
        "normalise": ("true or false", isinstance(given("normalise"), bool)),
    }
    if settings.keys() != rules.keys():
        raise CheckpointError(
            f"{SETTINGS} of '{checkpoint.name}' must have the keys {', '.join(rules)}, but has "
            f"{', '.join(settings) or 'none'}; write it as its head was trained"
        )
    for key, (rule, holds) in rules.items():
        if not holds:
            raise CheckpointError(
                f"{key} in {SETTINGS} of '{checkpoint.name}' must be {rule}, but is {settings[key]!r}; write it as its "
                "head was trained"
            )


def _is_whole(value: Any, least: int, most: float = inf) -> bool:
    return type(value) is int and least <= value <= most


def _check_layer(trained: int | None, checkpoint: Checkpoint, encoder: "EncoderSection") -> None:
    layers = resolve_layers(encoder.layers, checkpoint.num_layers)
    if trained is not None and (layers != [trained] or encoder.layer_weights is not None):
        mixed = "" if encoder.layer_weights is None else " mixed by encoder.layer_weights"
        raise CheckpointError(
            f"pooling.method attention must pool the hidden state that the head of '{checkpoint.name}' was trained on "
            f"({trained}), but encoder.layers keeps {layers}{mixed}; set encoder.layers=[{trained}] alone"
        )


def _shapes(settings: Mapping[str, Any], dimension: int) -> dict[str, list[int]]:
    heads, hidden = settings["num_heads"], settings["hidden_size"]
    scores = {"scores.weight": [heads, hidden or dimension], "scores.bias": [heads]}
    return scores if hidden is None else {"hidden.weight": [hidden, dimension], "hidden.bias": [hidden], **scores}


def _read_tensors(path: Path, expected: dict[str, list[int]], name: str) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            found = {key: one.get_shape() for key, one in slices.items()}
            if found == expected and all(one.get_dtype() in _FLOATS for one in slices.values()):
                return {key: file.get_tensor(key).astype(np.float32) for key in expected}
            types = {key: one.get_dtype() for key, one in slices.items()}
    except SafetensorError as err:
        raise CheckpointError(
            f"{path.name} of '{name}' must be a safetensors file, but is not ({err}); save or fetch it again"
        ) from err
    raise CheckpointError(
        f"{path.name} of '{name}' must hold {', '.join(_FLOATS)} tensors of the shapes {expected}, as {SETTINGS} says, "
        f"but holds {found} of {types}; save it again"
    )
