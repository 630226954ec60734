"""Models as graphs for other runtimes: a batch in, every hidden state out.

The graph of Wav2Vec2-BERT is our own. transformers' would carry the (L, L, d) tensor of its relative-key attention into
the runtime; here q Eᵀ, (L, 73), is looked up by distance (see `encoder.positions`). Pointwise convolutions are linear
layers, so that a quantizer finds them; queries, keys and values are one; the half step of both feed-forwards is folded
into their second weights.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HIDDEN = -10_000.0  # added to the score of a key that is padding; float16 can hold it


class FeatureGraph(nn.Module):
    """Wav2Vec2-BERT with relative-key positions and SiLU.

    Args:
        model: a `Wav2Vec2BertModel` for which `encoder.packed.why_not_packed` knows no reason.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        attention = model.encoder.layers[0].self_attn
        self._left: int = attention.left_max_position_embeddings
        self._right: int = attention.right_max_position_embeddings
        self._projection = model.feature_projection
        self._layers = nn.ModuleList(_Layer(layer) for layer in model.encoder.layers)

    def forward(self, input_features: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 160), (B, T) int64, 1 = real, padding last -> inputs of the layers and the output, (B, T, D) each."""
        steps = torch.arange(input_features.shape[1], device=input_features.device)
        distances = torch.clamp(steps - steps.unsqueeze(1), -self._left, self._right) + self._left
        # where the bias of each pair of frames stands among those of all queries, (T, left + 1 + right), in one row
        places = distances + steps.unsqueeze(1) * (self._left + 1 + self._right)
        padding = ((1 - attention_mask) * _HIDDEN).to(input_features.dtype)[:, None, None, :]
        hidden = self._projection(input_features)[0]
        states = [hidden]
        for layer in self._layers:
            hidden = layer(hidden, places, padding)
            states.append(hidden)
        return tuple(states)


class TransformersGraph(nn.Module):
    """Any other model as transformers computes it.

    Args:
        model: a base model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def forward(self, inputs: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """(B, num_samples), or as `FeatureGraph` -> inputs of the layers and the output, (B, T, D) each."""
        output = self._model(inputs, attention_mask=attention_mask, output_hidden_states=True)
        return (*output.hidden_states[:-1], output.last_hidden_state)  # see `encoder.forward` on the last


class _Layer(nn.Module):
    """A `Wav2Vec2BertEncoderLayer`; padding may hold anything, since the depthwise convolution looks back only."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        convolution = layer.conv_module
        self._ffn1 = _feed_forward(layer.ffn1_layer_norm, layer.ffn1)
        self._attention_norm, self._attention = layer.self_attn_layer_norm, _Attention(layer.self_attn)
        self._gate = nn.Sequential(convolution.layer_norm, _pointwise(convolution.pointwise_conv1), nn.GLU(-1))
        self._depthwise = convolution.depthwise_conv
        self._project = nn.Sequential(
            convolution.depthwise_layer_norm, nn.SiLU(), _pointwise(convolution.pointwise_conv2)
        )
        self._ffn2 = _feed_forward(layer.ffn2_layer_norm, layer.ffn2)
        self._final_norm = layer.final_layer_norm

    def forward(self, hidden: Tensor, places: Tensor, padding: Tensor) -> Tensor:
        """(B, T, D), (T, T), (B, 1, 1, T) -> (B, T, D)"""
        hidden = hidden + self._ffn1(hidden)
        hidden = hidden + self._attention(self._attention_norm(hidden), places, padding)
        gated = F.pad(self._gate(hidden).transpose(1, 2), (self._depthwise.kernel_size[0] - 1, 0))
        hidden = hidden + self._project(self._depthwise(gated).transpose(1, 2))
        return self._final_norm(hidden + self._ffn2(hidden))


class _Attention(nn.Module):
    """A `Wav2Vec2BertSelfAttention` with relative-key positions."""

    _distances: Tensor

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self._num_heads: int = attention.num_heads
        query, scale = attention.linear_q, 1 / math.sqrt(attention.head_size)
        parts = (query.weight * scale, attention.linear_k.weight, attention.linear_v.weight)
        self._qkv = _linear(
            torch.cat(parts), torch.cat([query.bias * scale, attention.linear_k.bias, attention.linear_v.bias])
        )
        self.register_buffer("_distances", attention.distance_embedding.weight.detach().t().contiguous())
        self._out = attention.linear_out

    def forward(self, hidden: Tensor, places: Tensor, padding: Tensor) -> Tensor:
        """(B, T, D), (T, T), (B, 1, 1, T) -> (B, T, D)"""
        batch, length, dimension = hidden.shape
        split = self._qkv(hidden).view(batch, length, 3, self._num_heads, -1)
        queries, keys, values = (split[:, :, index].transpose(1, 2) for index in range(3))
        biases = torch.matmul(queries, self._distances).flatten(2)  # (B, H, T * distances)
        biases = biases.index_select(2, places.flatten()).view(batch, self._num_heads, length, length)
        scores = torch.matmul(queries, keys.transpose(2, 3)) + biases + padding
        attended = torch.matmul(torch.softmax(scores, -1), values)
        return self._out(attended.transpose(1, 2).reshape(batch, length, dimension))


def _feed_forward(norm: nn.LayerNorm, module: Any) -> nn.Module:
    outer = module.output_dense
    return nn.Sequential(norm, module.intermediate_dense, nn.SiLU(), _linear(outer.weight * 0.5, outer.bias * 0.5))


def _pointwise(convolution: nn.Conv1d) -> nn.Linear:
    return _linear(convolution.weight.flatten(1), None)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear
