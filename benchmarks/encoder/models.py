"""Wav2Vec2-BERT of two sizes with random weights, the same in every process."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

SEED = 0


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of a model.

    Args:
        dimension: D.
        num_layers: conformer layers.
        num_heads: heads of D / num_heads dimensions.
        intermediate: inner dimension of the feed-forwards.
    """

    dimension: int
    num_layers: int
    num_heads: int
    intermediate: int

    def parameters(self, num_layers: int) -> int:
        """Weights of the layers, about."""
        return num_layers * (4 * self.dimension * self.intermediate + 7 * self.dimension**2)

    def flops(self, lengths: list[int], num_layers: int) -> float:
        """Floating-point operations for utterances of so many frames, padding not counted.

        The linear layers and pointwise convolutions, and both products of attention. Norms, activations, the depthwise
        convolution, position biases and the feature projection are left out: about a percent.
        """
        per_frame = 2 * (4 * self.dimension * self.intermediate + 7 * self.dimension**2)
        attention = sum(4 * length**2 * self.dimension for length in lengths)
        return float(num_layers * (per_frame * sum(lengths) + attention))


SIZES = {"base": Size(768, 12, 12, 3072), "large": Size(1024, 24, 16, 4096)}


def make_model(size: Size, num_layers: int) -> Any:
    """A `Wav2Vec2BertModel` with relative-key positions and seeded random weights, in fp32 on the CPU.

    Biases, norms and position embeddings are drawn wide enough that leaving one out would show in the output.
    """
    config = Wav2Vec2BertConfig(
        hidden_size=size.dimension,
        num_hidden_layers=num_layers,
        num_attention_heads=size.num_heads,
        intermediate_size=size.intermediate,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=64,
        right_max_position_embeddings=8,
        attn_implementation="eager",
    )
    with torch.device("meta"):  # transformers' own initialisation takes longer
        model: Any = Wav2Vec2BertModel(config)
    if list(model.buffers()):
        raise RuntimeError("this version of transformers gives the model buffers, which would stay uninitialised")
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(SEED)
    for name, weight in model.named_parameters():
        deviation = 0.5 if "distance_embedding" in name else 0.02
        weight.normal_(0.0, deviation, generator=generator)
        if weight.ndim == 1 and name.endswith("weight"):  # norms
            weight.add_(1.0)
    return model
