"""The seam between the encoder and what multiplies the matrices: a micro-batch in, hidden states of kept layers out.

`TransformersForward` runs the model class of transformers as it is; `packed.PackedForward` is the fast one.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel

from w2vb_ray.encoder.backends import choose_backend
from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.frontend import Frontend
from w2vb_ray.encoder.packed import PackedForward, why_not_packed
from w2vb_ray.encoder.quiet import quiet_transformers, without_mask_warning
from w2vb_ray.errors import CheckpointError

_log = logging.getLogger(__name__)

# Parts that inference never runs: older checkpoints lack the mask embedding, and adapters stand behind the encoder.
_UNUSED = ("masked_spec_embed", "adapter.", "intermediate_ffn.")


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
    checkpoint: Checkpoint, layers: Sequence[int], frontend: Frontend, dtype: torch.dtype, device: torch.device
) -> Forward:
    """The fastest forward that gives the checkpoint's numbers.

    Raises:
        CheckpointError: see `load_model`.
    """
    model = load_model(checkpoint, dtype, device)
    if checkpoint.model_type == "wav2vec2-bert":
        reason = why_not_packed(model.config)
        if reason is None:
            return PackedForward(model, layers, choose_backend(device, dtype))
        _log.warning("%s has %s: the slower forward of transformers is used", checkpoint.name, reason)
    return TransformersForward(model, layers, input_name=frontend.input_name, masked=frontend.paddable)


def load_model(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> Any:
    """The base model of a checkpoint, heads and adapters dropped, in evaluation mode.

    Raises:
        CheckpointError: the files do not make this model, or weights are missing.
    """
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(checkpoint.path, local_files_only=True, trust_remote_code=False)
            for adapter in ("add_adapter", "use_intermediate_ffn_before_adapter"):
                if hasattr(config, adapter):
                    setattr(config, adapter, False)
            model, report = AutoModel.from_pretrained(
                checkpoint.path,
                config=config,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as err:
        raise CheckpointError(
            f"encoder.checkpoint must load as {checkpoint.model_type}, but '{checkpoint.name}' does not "
            f"({' '.join(str(err).split())[:300]}); fetch or save it again"
        ) from err
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(_UNUSED))
    if missing:
        raise CheckpointError(
            f"encoder.checkpoint must hold every weight of its {checkpoint.model_type} model, but '{checkpoint.name}' "
            f"lacks {len(missing)}, such as {missing[0]}; save it again with transformers"
        )
    return model.eval().requires_grad_(False).to(device)


def _length_mask(lengths: list[int], device: torch.device) -> Tensor:
    """(B, L) int64, 1 = real."""
    ends = torch.tensor(lengths, device=device).unsqueeze(1)
    return (torch.arange(max(lengths), device=device).unsqueeze(0) < ends).long()
