"""The small model that comes with the package: for now random weights, made in the cache on first use.

The weights are the same on every machine and for every caller: torch's `normal_` differs between vectorised and
plain code paths, so they are uniform integers from a seeded generator, scaled.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2vb_ray.encoder.fetch import build_once, cache_folder
from w2vb_ray.encoder.quiet import quiet_transformers

_VERSION = "embedded-untrained-v1"
_SEED = 20_240_501
_RESOLUTION = 2**23  # what float32 holds exactly


def embedded_checkpoint() -> Path:
    """Folder of the embedded checkpoint, made on first use: `$W2VB_RAY_CACHE/embedded-untrained-v1`.

    A Wav2Vec2-BERT of 4 layers and 128 dimensions with random weights; its `config.json` says
    `"w2vb_ray": {"trained": false}`.
    """
    return build_once(cache_folder() / _VERSION, _build)


def _build(folder: Path) -> None:
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    mark: dict[str, Any] = {"w2vb_ray": {"trained": False}}
    config = Wav2Vec2BertConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        feature_projection_input_dim=160,
        conv_depthwise_kernel_size=31,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=64,
        right_max_position_embeddings=8,
        **mark,
    )
    with torch.random.fork_rng(devices=[]):  # transformers draws its own weights first; the caller's state stays
        model = Wav2Vec2BertModel(config)
    generator = torch.Generator().manual_seed(_SEED)
    for name, parameter in sorted(model.named_parameters()):
        parameter.data = _initial(name, parameter.shape, generator)
    with quiet_transformers():
        model.save_pretrained(folder)
        SeamlessM4TFeatureExtractor().save_pretrained(folder)


def _initial(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Norms start as identity, biases at zero, matrices uniform with variance 1 / fan-in."""
    if name.endswith("bias"):
        return torch.zeros(shape)
    if "norm" in name:
        return torch.ones(shape)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    draws = torch.randint(-_RESOLUTION, _RESOLUTION, shape, generator=generator).to(torch.float32)
    return draws * (math.sqrt(3.0 / fan_in) / _RESOLUTION)
