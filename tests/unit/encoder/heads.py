"""Random attention pooling heads, their files, and what a few lines of torch make of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from w2vb_ray.encoder.attention_head import AttentionHead


def tensors(dimension: int, *, num_heads: int, hidden_size: int | None, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"scores.weight": (num_heads, hidden_size or dimension), "scores.bias": (num_heads,)}
    if hidden_size is not None:
        shapes |= {"hidden.weight": (hidden_size, dimension), "hidden.bias": (hidden_size,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def make(dimension: int, *, normalise: bool = False, **sizes: Any) -> AttentionHead:
    return AttentionHead(tensors(dimension, **sizes), normalise, "")


def save(folder: Path, *, num_heads: int = 2, hidden_size: int | None = 6, **settings: Any) -> AttentionHead:
    """Both files for a 32-d model, as the format says; `settings` are put into the JSON as they are."""
    full = {
        "format_version": 1,
        "num_heads": num_heads,
        "hidden_size": hidden_size,
        "layer": None,
        "normalise": False,
        **settings,
    }
    (folder / "attention_pooling.json").write_text(json.dumps(full), encoding="utf-8")
    head = make(32, num_heads=num_heads, hidden_size=hidden_size)
    save_file(dict(head.tensors), folder / "attention_pooling.safetensors")
    return head


def reference(head: AttentionHead, frames: np.ndarray) -> np.ndarray:
    """(T, D) -> (H·D,) with torch.nn, float64, all frames at once."""
    x = torch.from_numpy(frames).double()
    weights = {name: torch.from_numpy(tensor).double() for name, tensor in head.tensors.items()}
    scores = x
    if "hidden.weight" in weights:
        scores = torch.tanh(scores @ weights["hidden.weight"].T + weights["hidden.bias"])
    scores = scores @ weights["scores.weight"].T + weights["scores.bias"]
    return torch.cat([torch.softmax(one, 0) @ x for one in scores.T]).numpy()
