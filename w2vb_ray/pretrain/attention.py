"""Relative-key attention to learn with: memory linear in the length, in the backward pass too.

transformers looks a vector up for each pair of frames, (L, L, d), in every layer, and keeps all that it makes of them
for the backward pass. Here the biases are those of the packed forward (`encoder.positions`), for a block of queries at
a time; the backward pass makes a block again.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

from w2vb_ray.encoder.attention import blocks
from w2vb_ray.encoder.positions import band_of_keys


class BlockedSelfAttention(Wav2Vec2BertSelfAttention):
    """Computes what its parent does, with the same parameters under the same names.

    For `relative_key` positions, without dropout.
    """

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: object, **__: object
    ) -> tuple[Tensor, None]:
        """(B, T, D), and the mask that transformers makes: (B, 1, T, T) bool, True = is seen, or None -> (B, T, D)."""
        queries, keys, values = (
            linear(hidden_states).unflatten(-1, (self.num_heads, self.head_size)).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        table = self.distance_embedding.weight
        biases = torch.matmul(queries, (table - table[-1]).t() * self.scaling)
        seen = None if attention_mask is None else attention_mask[:, :, :1]
        attended = [
            checkpoint(
                *(self._block, queries[:, :, start:stop], keys, values, biases[:, :, start:stop], seen, start),
                use_reentrant=False,
                preserve_rng_state=False,  # nothing here is random
            )
            for start, stop in blocks(queries.shape[2])
        ]
        return self.linear_out(torch.cat(attended, 2).transpose(1, 2).flatten(2)), None

    def _block(
        self, queries: Tensor, keys: Tensor, values: Tensor, biases: Tensor, seen: Tensor | None, start: int
    ) -> Tensor:
        """Queries from `start` on: (B, H, n, d), (B, H, T, d) twice, (B, H, n, distances) -> (B, H, n, d)."""
        num_keys = keys.shape[2]
        cut, low, high = band_of_keys(biases.flatten(0, 1), start, self.left_max_position_embeddings, num_keys)
        near = cut.unflatten(0, biases.shape[:2])
        bias = torch.cat([biases[..., :1].expand(*near.shape[:3], low), near], -1)
        bias = F.pad(bias, (0, num_keys - high))
        if seen is not None:
            bias = bias.masked_fill(~seen, -torch.inf)
        return F.scaled_dot_product_attention(queries, keys, values, bias, scale=self.scaling)


def block_attention(encoder: Any) -> Any:
    """The same encoder, its layers with attention in blocks and the weights they had, if its positions allow it."""
    if encoder.config.model_type == "wav2vec2-bert" and encoder.config.position_embeddings_type == "relative_key":
        for layer in encoder.encoder.layers:
            blocked = BlockedSelfAttention(encoder.config)
            blocked.load_state_dict(layer.self_attn.state_dict())
            layer.self_attn = blocked.train(layer.training)
    return encoder
