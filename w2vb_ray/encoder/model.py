"""Weights from a checkpoint's folder to a model of transformers."""

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel

from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.encoder.quantized_model import load_quantized
from w2vb_ray.encoder.quiet import quiet_transformers
from w2vb_ray.errors import CheckpointError

# Parts that inference never runs: older checkpoints lack the mask embedding, and adapters stand behind the encoder.
_UNUSED = ("masked_spec_embed", "adapter.", "intermediate_ffn.")


def load_model(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, *, int8: bool = False) -> Any:
    """The base model of a checkpoint, heads and adapters dropped, in evaluation mode.

    Args:
        checkpoint: the model.
        dtype: of its floats.
        device: where it goes.
        int8: leave quantized matrices as they are, for `PackedForward`.

    Raises:
        CheckpointError: the files do not make this model, or weights are missing.
    """
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(checkpoint.path, local_files_only=True, trust_remote_code=False)
            for adapter in ("add_adapter", "use_intermediate_ffn_before_adapter"):
                if hasattr(config, adapter):
                    setattr(config, adapter, False)
            if checkpoint.artifact is not None and checkpoint.artifact.quantized:
                return load_quantized(config, checkpoint.weights, dtype, device, as_floats=not int8)
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
