"""One conformer layer of transformers with random weights, and what it makes of inputs one by one."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import Wav2Vec2BertConfig
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertEncoderLayer

from w2vb_ray.encoder.backends import FLEX, MKL, ONEDNN, PORTABLE, Backend
from w2vb_ray.encoder.product_attention import ProductAttention

HIDDEN, HEADS = 64, 4
PRODUCTS = replace(ONEDNN, name="products", attention=ProductAttention)
BACKENDS = [ONEDNN, PRODUCTS, MKL, PORTABLE, FLEX]
# short ones, both sides of a block of queries, of a block of FlexAttention, and of the band
LENGTHS = [1, 8, 65, 128, 73, 2, 600, 31, 513]


@cache
def layer(left: int = 64, right: int = 8) -> Any:
    config = Wav2Vec2BertConfig(
        hidden_size=HIDDEN,
        num_attention_heads=HEADS,
        intermediate_size=96,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=left,
        right_max_position_embeddings=right,
    )
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(0)
    made = Wav2Vec2BertEncoderLayer(config).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return made


def inputs(lengths: list[int], width: int = HIDDEN) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, width, generator=generator) for length in lengths]


def backend_id(backend: Backend) -> str:
    return backend.name
