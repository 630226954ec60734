"""The conformer layer of Wav2Vec2-BERT on packed rows (Gulati et al. 2020; transformers 5.23,
`modeling_wav2vec2_bert.py`).

Works in place on a float32 residual stream, mostly some rows at a time, so that what is between two products stays in
the caches. The half step of both feed-forwards is folded into their second weights.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from w2vb_ray.encoder.backends import Backend
from w2vb_ray.encoder.packing import Packing
from w2vb_ray.encoder.positions import RelativePositions
from w2vb_ray.encoder.quantization import as_matrix, scaled, stacked


class ConformerLayer(nn.Module):
    """One layer.

    Args:
        layer: a `Wav2Vec2BertEncoderLayer` with relative-key positions and SiLU, whose weights are copied; those of
            linear layers and pointwise convolutions may be an `Int8Weight`.
        backend: what multiplies, convolves and attends.
    """

    def __init__(self, layer: Any, backend: Backend) -> None:
        super().__init__()
        attention, convolution = layer.self_attn, layer.conv_module
        projections = (attention.linear_q, attention.linear_k, attention.linear_v)
        positions = RelativePositions(attention.distance_embedding.weight, attention.left_max_position_embeddings)
        self._chunk_rows = backend.chunk_rows
        self._ffn1 = FeedForward(layer.ffn1_layer_norm, layer.ffn1, backend)
        self._qkv = nn.Sequential(
            RowNorm(layer.self_attn_layer_norm),
            backend.linear(
                stacked([one.weight for one in projections]), torch.cat([one.bias for one in projections]), "none"
            ),
        )
        self._attention = backend.attention(positions, attention.num_heads)
        self._out = backend.linear(attention.linear_out.weight, attention.linear_out.bias, "none")
        self._gate = nn.Sequential(
            RowNorm(convolution.layer_norm),
            backend.linear(as_matrix(convolution.pointwise_conv1.weight), None, "none"),
            nn.GLU(-1),
        )
        self._depthwise = backend.depthwise(convolution.depthwise_conv.weight)
        self._project = nn.Sequential(
            RowNorm(convolution.depthwise_layer_norm),
            nn.SiLU(inplace=True),
            backend.linear(as_matrix(convolution.pointwise_conv2.weight), None, "none"),
        )
        self._ffn2 = FeedForward(layer.ffn2_layer_norm, layer.ffn2, backend)
        self._final_norm = RowNorm(layer.final_layer_norm, torch.float32)

    def forward(self, hidden: Tensor, packing: Packing) -> None:
        """(N, D) float32, in place."""
        for rows in self._chunks(hidden):
            self._ffn1(rows)
        # All rows at once: to put chunks of these together costs more than the caches save.
        attended = self._attention(self._qkv(hidden), packing)
        gated = torch.cat(
            [
                self._gate(rows.add_(self._out(some)))
                for rows, some in zip(self._chunks(hidden), self._chunks(attended), strict=True)
            ]
        )
        convolved = self._depthwise(gated, packing)
        for rows, some in zip(self._chunks(hidden), self._chunks(convolved), strict=True):
            rows.copy_(self._final_norm(self._ffn2(rows.add_(self._project(some)))))

    def _chunks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Views of equal parts of about `chunk_rows`, so that none has a single row."""
        if self._chunk_rows is None:
            return (rows,)
        return rows.chunk(max(1, round(len(rows) / self._chunk_rows)))


class FeedForward(nn.Module):
    """Half a step of a feed-forward.

    Args:
        norm: its layer norm.
        module: a `Wav2Vec2BertFeedForward` with SiLU.
        backend: what multiplies.
    """

    def __init__(self, norm: nn.LayerNorm, module: Any, backend: Backend) -> None:
        super().__init__()
        inner, outer = module.intermediate_dense, module.output_dense
        self._step = nn.Sequential(
            RowNorm(norm),
            backend.linear(inner.weight, inner.bias, "silu"),
            backend.linear(scaled(outer.weight, 0.5), outer.bias * 0.5, "none"),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """(n, D) float32, in place."""
        return rows.add_(self._step(rows))


class RowNorm(nn.Module):
    """A layer norm in float32 whose result has the type of what follows.

    Args:
        norm: weights, in the model's type.
        dtype: type of the result; that of the weights unless given.
    """

    _weight: Tensor
    _bias: Tensor

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self._dtype, self._epsilon = dtype or norm.weight.dtype, norm.eps
        self.register_buffer("_weight", norm.weight.detach().float())
        self.register_buffer("_bias", norm.bias.detach().float())

    def forward(self, rows: Tensor) -> Tensor:
        """(n, D) -> (n, D)"""
        return F.layer_norm(rows.float(), self._weight.shape, self._weight, self._bias, self._epsilon).to(self._dtype)
