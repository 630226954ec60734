"""Tiny random checkpoints of every model type, and what plain transformers makes of a waveform with them."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from w2vb_ray.encoder import Encoder, load_encoder

COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
CONV = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
LAYER_NORM = {**CONV, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
GROUP_NORM = {**CONV, "feat_extract_norm": "group", "do_stable_layer_norm": False}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("wav2vec2-bert", {}),
    "bert-relative": ("wav2vec2-bert", {"position_embeddings_type": "relative"}),
    "bert-rotary": ("wav2vec2-bert", {"position_embeddings_type": "rotary"}),
    "wav2vec2-layer": ("wav2vec2", LAYER_NORM),
    "wav2vec2-group": ("wav2vec2", GROUP_NORM),
    "conformer": ("wav2vec2-conformer", LAYER_NORM),
    "hubert-layer": ("hubert", LAYER_NORM),
    "hubert-group": ("hubert", GROUP_NORM),
    "hubert-batch-norm": ("hubert", {**LAYER_NORM, "conv_pos_batch_norm": True}),
    "wavlm-layer": ("wavlm", LAYER_NORM),
    "wavlm-group": ("wavlm", GROUP_NORM),
    "data2vec": ("data2vec-audio", {**CONV, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}),
}
MODEL_TYPES = sorted({model_type for model_type, _ in VARIANTS.values()})


def save(folder: Path, variant: str, **overrides: Any) -> Path:
    """A checkpoint with random weights; norms and biases are random too, so that leaks through them show."""
    model_type, settings = VARIANTS[variant]
    config = AutoConfig.for_model(model_type, **{**COMMON, **settings, **overrides})
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    extractor(model_type, settings).save_pretrained(folder)
    return folder


def extractor(model_type: str, settings: dict[str, Any]) -> Any:
    if model_type == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor()
    return Wav2Vec2FeatureExtractor(do_normalize=settings.get("feat_extract_norm") != "group")


@cache
def reference_model(folder: Path) -> tuple[Any, Any]:
    model = AutoModel.from_pretrained(folder).eval()
    return model, extractor(
        model.config.model_type, {"feat_extract_norm": getattr(model.config, "feat_extract_norm", "")}
    )


def reference_inputs(folder: Path, waveform: np.ndarray) -> tuple[str, torch.Tensor]:
    """What the extractor of transformers makes of one waveform, padding removed: (1, L, F) or (1, num_samples)."""
    model, extract = reference_model(folder)
    samples = waveform.astype(np.float32) / 32768 if waveform.dtype == np.int16 else waveform
    batch = extract(samples, sampling_rate=16_000, return_tensors="pt")
    if model.config.model_type != "wav2vec2-bert":
        return "input_values", batch["input_values"]
    return "input_features", batch["input_features"][:, batch["attention_mask"][0].bool()]


@torch.inference_mode()
def reference(folder: Path, waveform: np.ndarray) -> list[np.ndarray]:
    """All hidden states (T, D) of plain transformers, batch of one; the last is `last_hidden_state`."""
    name, inputs = reference_inputs(folder, waveform)
    output = reference_model(folder)[0](**{name: inputs}, output_hidden_states=True)
    return [state[0].numpy() for state in (*output.hidden_states[:-1], output.last_hidden_state)]


def load(checkpoint: Path | str, **options: Any) -> Encoder:
    """`load_encoder` with the defaults of the configuration, without pydantic."""
    values: dict[str, Any] = {
        "checkpoint": str(checkpoint),
        "revision": None,
        "precision": "fp32",
        "device": "cpu",
        "layers": [-1],
        "storage": {},
        "layer_weights": None,
        "methods": ["mean"],
        "normalise": False,
        "max_frames": None,
        "attention_frames": 600,
        "max_window_s": 30.0,
        "window_context_s": 2.0,
        **options,
    }
    sections = SimpleNamespace(**values)
    return load_encoder(sections, sections, sections, sections)  # type: ignore[arg-type]


def waveforms(*sizes: int, seed: int = 0) -> list[np.ndarray]:
    """Noise that changes in level and colour, int16."""
    rng = np.random.default_rng(seed)
    out = []
    for size in sizes:
        noise = rng.normal(size=size) * np.repeat(rng.uniform(0.01, 1, size // 800 + 1), 800)[:size]
        tone = np.sin(np.cumsum(rng.uniform(0.05, 0.5, size)))
        out.append(np.clip((noise + tone) * 6000, -32768, 32767).astype(np.int16))
    return out


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the norm of the vector it is in, (…, D)."""
    return float((np.linalg.norm(actual - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max())
