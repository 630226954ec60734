"""The seam between the encoder and what multiplies the matrices: a micro-batch in, hidden states of kept layers out.

`TransformersForward` runs the model class of transformers as it is; a faster forward replaces it here and nowhere else.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel

from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.quiet import quiet_transformers, without_mask_warning
from w2vb_ray.errors import CheckpointError

# Parts that inference never runs: older checkpoints lack the mask embedding, and adapters stand behind the encoder.
_UNUSED = ("masked_spec_embed", "adapter.", "intermediate_ffn.")


class Forward(Protocol):
    """One micro-batch through a model."""

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states of the kept layers, each (B, L, D); a row's real frames come first.

        Args:
            inputs: B model inputs, (L_i, F) features or (num_samples_i,) samples, float32, on the model's device.
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
        self._model, self._layers, self._input_name, self._masked = model, layers, input_name, masked
        self._dtype: torch.dtype = model.dtype
        self._num_layers: int = model.config.num_hidden_layers
        self._guard = without_mask_warning if masked and model.config.model_type == "wavlm" else nullcontext

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `Forward`."""
        padded = pad_sequence(list(inputs), batch_first=True)
        mask = _length_mask([len(one) for one in inputs], padded.device) if self._masked else None
        inner = [layer for layer in self._layers if layer < self._num_layers]
        with self._guard():
            output = self._model(
                **{self._input_name: padded.to(self._dtype)},
                attention_mask=mask,
                output_hidden_states=inner or False,  # a list keeps only these in memory
            )
        return [
            output.last_hidden_state if layer == self._num_layers else output.hidden_states[layer]
            for layer in self._layers
        ]


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
