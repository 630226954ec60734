"""The forward of Wav2Vec2-BERT on packed utterances: the weights and numbers of transformers, no padding anywhere."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from w2vb_ray.encoder.backends import Backend
from w2vb_ray.encoder.conformer import ConformerLayer, RowNorm
from w2vb_ray.encoder.heap import keep_freed_memory


class PackedForward:
    """A `Forward` whose utterances stand end to end; see `forward.Forward` for the contract.

    Args:
        model: a `Wav2Vec2BertModel` for which `why_not_packed` knows no reason. Its layers are taken out one by one, so
            that the weights are in memory once.
        layers: hidden states to keep, non-negative.
        backend: what the layers are made of.
    """

    pads = False

    def __init__(self, model: Any, layers: Sequence[int], backend: Backend) -> None:
        if model.device.type == "cpu":
            keep_freed_memory()
        projection = model.feature_projection
        self._backend, self._wanted = backend, set(layers)
        self._project = nn.Sequential(
            RowNorm(projection.layer_norm),
            backend.linear(projection.projection.weight, projection.projection.bias, "none"),
        )
        self._layers = nn.ModuleList()
        for index in range(max(self._wanted)):  # what is behind the last wanted hidden state never runs
            self._layers.append(ConformerLayer(model.encoder.layers[index], backend))
            model.encoder.layers[index] = nn.Identity()
        if backend.compiled:
            for layer in self._layers:
                layer.compile(dynamic=True)

    def __call__(self, inputs: Sequence[Tensor], lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """See `Forward`."""
        packing = self._backend.packing(lengths, inputs[0].device)
        hidden = self._project(packing.pack(inputs)).float()
        used = sum(lengths)
        if 0 in self._wanted:
            yield 0, hidden[:used]
        for index, layer in enumerate(self._layers, 1):
            layer(hidden, packing)
            if index in self._wanted:
                yield index, hidden[:used]


def why_not_packed(config: Any) -> str | None:
    """What a `wav2vec2-bert` checkpoint has that the packed forward does not know; None when there is nothing."""
    if config.position_embeddings_type != "relative_key":
        return f"position_embeddings_type {config.position_embeddings_type!r}"
    if config.hidden_act not in ("swish", "silu"):
        return f"hidden_act {config.hidden_act!r}"
    return None
