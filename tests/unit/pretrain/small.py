"""A config and micro-batches that are as small as they can be."""

from collections.abc import Sequence
from typing import Any

import torch

from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.pretrain.model import PretrainingModel, make_encoder
from w2vb_ray.pretrain.update import MicroBatch

SIZES = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 48, "conv_kernel_size": 5, "conv_dim": 16,
    "contrastive_layers": 1,
}  # fmt: skip


def config(**sections: dict[str, Any]) -> PretrainConfig:
    values: dict[str, Any] = {
        "pretrain": {"uri": "unused", "num_updates": 10},
        "source": {"uri": "unused"},
        "model": SIZES,
        "quantizer": {"num_codes": 8, "code_dim": 16, "projection_dim": 16},
        "loss": {"num_negatives": 5},
    }
    return PretrainConfig.model_validate(
        {key: {**values.get(key, {}), **sections.get(key, {})} for key in {**values, **sections}}
    )


def model(found: PretrainConfig, seed: int = 0) -> PretrainingModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PretrainingModel(make_encoder(found.model, None, found.masking.span), found)


def micro_batch(found: PretrainConfig, numbers: Sequence[int], *, extra: int = 0) -> MicroBatch:
    """Utterances of noise, each another one of 15 to 44 frames, with so many frames of padding more than they need."""
    of_features = found.model.type == "wav2vec2-bert"
    num_frames = [15 + 7 * number % 30 for number in numbers]
    lengths = num_frames if of_features else [320 * count + 80 for count in num_frames]
    inputs = torch.zeros(
        len(lengths), max(lengths) + extra * (1 if of_features else 320), *([160] if of_features else [])
    )
    for number, length, into in zip(numbers, lengths, inputs, strict=True):
        into[:length] = torch.randn(length, *into.shape[1:], generator=torch.Generator().manual_seed(number))
    return MicroBatch(list(numbers), inputs, lengths, num_frames)
