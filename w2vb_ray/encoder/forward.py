"""The seam between the encoder and what multiplies the matrices: a micro-batch in, hidden states of kept layers out.

`TransformersForward` runs the model class of transformers as it is; `packed.PackedForward` is the fast one;
`graph_forward.GraphForward` hands exported graphs to other runtimes.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from w2vb_ray.encoder.backends import choose_backend
from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.frontend import Frontend
from w2vb_ray.encoder.graph_forward import GraphForward
from w2vb_ray.encoder.grouped_convolutions import keep_groups_in_float32
from w2vb_ray.encoder.model import load_model
from w2vb_ray.encoder.onnx_runtime import open_onnx
from w2vb_ray.encoder.openvino_runtime import open_openvino
from w2vb_ray.encoder.packed import PackedForward, why_not_packed
from w2vb_ray.encoder.quiet import without_mask_warning

_log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
"""By precision, of all that is not quantized."""


class Forward(Protocol):
    """One micro-batch through a model.

    Attributes:
        pads: whether inputs are padded to the longest.
    """

    pads: bool

    def __call__(self, inputs: Sequence[Tensor], lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Each kept layer and its hidden states, (sum of the lengths, D), the frames of one input after the other's.

        The tensor of one layer may be overwritten when the next is asked for.

        Args:
            inputs: B model inputs, (L_i, F) features or (num_samples_i,) samples, float32, on the model's device.
            lengths: B frames that the model makes of each.
        """
        ...


class TransformersForward:
    """The plain forward of transformers, padded to the longest input, with an attention mask where padding is allowed.

    Hidden state i is what transformers (5.23) calls `hidden_states[i]`: the input of layer i. The last, `num_layers`,
    is `last_hidden_state` without an adapter; since transformers 5 `hidden_states[-1]` is not, it lacks the final
    layer norm of `do_stable_layer_norm` models and of wav2vec2-conformer.

    Args:
        model: a base model in evaluation mode.
        layers: hidden states to keep, non-negative.
        input_name: keyword of its input.
        masked: False for models that take no padding (inputs must then be equally long).
    """

    def __init__(self, model: Any, layers: Sequence[int], *, input_name: str, masked: bool) -> None:
        self._model, self._layers, self._input_name, self.pads = model, layers, input_name, masked
        self._dtype: torch.dtype = model.dtype
        self._num_layers: int = model.config.num_hidden_layers
        self._guard = without_mask_warning if masked and model.config.model_type == "wavlm" else nullcontext

    def __call__(self, inputs: Sequence[Tensor], lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """See `Forward`."""
        padded = pad_sequence(list(inputs), batch_first=True)
        mask = _length_mask([len(one) for one in inputs], padded.device) if self.pads else None
        inner = [layer for layer in self._layers if layer < self._num_layers]
        with self._guard():
            output = self._model(
                **{self._input_name: padded.to(self._dtype)},
                attention_mask=mask,
                output_hidden_states=inner or False,  # a list keeps only these in memory
            )
        for layer in self._layers:
            hidden = output.last_hidden_state if layer == self._num_layers else output.hidden_states[layer]
            yield layer, torch.cat([row[:length] for row, length in zip(hidden, lengths, strict=True)])


def make_forward(
    checkpoint: Checkpoint, layers: Sequence[int], frontend: Frontend, precision: str, device: torch.device
) -> Forward:
    """The fastest forward that gives the checkpoint's numbers.

    Args:
        checkpoint: the model.
        layers: hidden states to keep, non-negative.
        frontend: makes its inputs.
        precision: `fp32`, `bf16`, `fp16` or, of an artifact of that kind, `int8`.
        device: where it runs.

    Raises:
        CheckpointError: the files do not make this model, or weights are missing.
        ConfigError: an artifact's runtime is not installed, or not for this device.
    """
    match checkpoint.artifact.runtime if checkpoint.artifact else "torch":
        case "onnxruntime":
            return GraphForward(open_onnx(checkpoint, layers, precision, device), layers, frontend.input_name)
        case "openvino":
            return GraphForward(open_openvino(checkpoint, layers, device), layers, frontend.input_name)
        case "torch":
            return _torch_forward(checkpoint, layers, frontend, precision, device)


def _torch_forward(
    checkpoint: Checkpoint, layers: Sequence[int], frontend: Frontend, precision: str, device: torch.device
) -> Forward:
    int8, dtype = precision == "int8", DTYPES[precision]
    model = load_model(checkpoint, dtype, device, int8=int8)
    if checkpoint.model_type == "wav2vec2-bert":
        reason = why_not_packed(model.config)
        if reason is None:
            return PackedForward(model, layers, choose_backend(device, dtype, int8=int8))
        _log.warning("%s has %s: the slower forward of transformers is used", checkpoint.name, reason)
    if device.type == "cpu" and dtype != torch.float32:
        keep_groups_in_float32(model)
    return TransformersForward(model, layers, input_name=frontend.input_name, masked=frontend.paddable)


def _length_mask(lengths: list[int], device: torch.device) -> Tensor:
    """(B, L) int64, 1 = real."""
    ends = torch.tensor(lengths, device=device).unsqueeze(1)
    return (torch.arange(max(lengths), device=device).unsqueeze(0) < ends).long()
