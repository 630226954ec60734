"""The model that is trained: an encoder of transformers, its attention in blocks, and what it needs to learn.

Layers 1 to k and the contrastive head are w2v-BERT's contrastive module, the layers behind them its masked prediction
module (Chung et al. 2021, section 3.1). The encoder is the attribute that transformers' own heads have it under.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from w2vb_ray.config.pretrain import ModelSection, PretrainConfig
from w2vb_ray.config.sections import EncoderSection
from w2vb_ray.encoder import resolve_checkpoint
from w2vb_ray.encoder.grouped_convolutions import keep_groups_in_float32
from w2vb_ray.errors import ConfigError
from w2vb_ray.pretrain.attention import block_attention
from w2vb_ray.pretrain.quantizer import GumbelQuantizer, RandomProjectionQuantizer

_ABOUT = "w2vb_ray"  # key of this package in `config.json`
_CONV_GRADIENT = 0.1  # of the loss, for the convolutions that take waveforms (Baevski et al. 2020, appendix B)


class Hidden(NamedTuple):
    """What the encoder made of a micro-batch at its M hidden frames, utterance after utterance.

    Args:
        features: (M, F), normalised inputs of the projection, not masked.
        middle: (M, D), output of layer k.
        last: (M, D), output of the last layer.
        penalty: (), the sum over the frames of utterances of the mean square of convolutional features; 0 for mel.
    """

    features: Tensor
    middle: Tensor
    last: Tensor
    penalty: Tensor


class PretrainingModel(nn.Module):
    """Encoder, quantizers and heads.

    Args:
        encoder: a base model of transformers that masks what it is told to.
        config: sizes of the rest.
    """

    def __init__(self, encoder: Any, config: PretrainConfig) -> None:
        super().__init__()
        self.encoder = encoder
        if not config.workers.use_gpu:
            keep_groups_in_float32(encoder)
        self._layer = config.model.contrastive_layers
        self._takes_features = encoder.config.model_type == "wav2vec2-bert"
        width = encoder.config.hidden_size
        inputs = encoder.config.feature_projection_input_dim if self._takes_features else encoder.config.conv_dim[-1]
        quantizer, loss = config.quantizer, config.loss
        self.quantizer = GumbelQuantizer(inputs, quantizer)
        # Layers of stable models give residuals that nothing has normalised yet.
        self.middle_norm = (
            nn.LayerNorm(width) if getattr(encoder.config, "do_stable_layer_norm", False) else nn.Identity()
        )
        self.contrastive_head = nn.Linear(width, quantizer.projection_dim)
        self.code_head = nn.Linear(width, quantizer.num_codebooks * quantizer.num_codes)
        self.random_quantizer = self.random_head = None
        if loss.random_projection > 0:
            self.random_quantizer = RandomProjectionQuantizer(
                inputs, loss.num_random_codes, loss.random_code_dim, config.pretrain.seed
            )
            self.random_head = nn.Linear(width, loss.num_random_codes)

    def features(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Normalised inputs of the projection at hidden frames, (M, F), without the encoder's layers."""
        if self._takes_features:
            return self.encoder.feature_projection.layer_norm(inputs[mask])
        convolved = self.encoder.feature_extractor(inputs).transpose(1, 2)
        return self.encoder.feature_projection.layer_norm(convolved[mask])

    def forward(self, inputs: Tensor, lengths: Sequence[int], num_frames: Sequence[int], mask: Tensor) -> Hidden:
        """Encode a micro-batch with frames hidden.

        Args:
            inputs: (B, T, 160) features or (B, num_samples), padded behind.
            lengths: B, of the inputs.
            num_frames: B, that the model makes of each.
            mask: (B, T) bool, True = hidden.
        """
        convolved: list[Tensor] = []
        name = "input_features" if self._takes_features else "input_values"
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        real = steps < torch.tensor(lengths, device=inputs.device).unsqueeze(1)
        hooks = [] if self._takes_features else [self.encoder.feature_extractor.register_forward_hook(_keep(convolved))]
        try:
            output = self.encoder(
                **{name: inputs}, attention_mask=real.long(), mask_time_indices=mask, output_hidden_states=[self._layer]
            )
        finally:
            for hook in hooks:
                hook.remove()
        middle = output.last_hidden_state if self._is_last() else output.hidden_states[self._layer]
        penalty = inputs.new_zeros(())
        if convolved:
            squares = convolved[0].float().square().mean(1)  # (B, T)
            frames = torch.arange(squares.shape[1], device=inputs.device)
            penalty = squares[frames < torch.tensor(num_frames, device=inputs.device).unsqueeze(1)].sum()
        return Hidden(
            output.extract_features[mask], self.middle_norm(middle[mask]), output.last_hidden_state[mask], penalty
        )

    def _is_last(self) -> bool:
        return self._layer == self.encoder.config.num_hidden_layers


def make_encoder(section: ModelSection, folder: Path | None, span: int) -> Any:
    """An encoder in training mode without dropout of any kind, with random weights or those in a folder.

    Dropout is 0 in every published recipe of w2v-BERT (research of fairseq and fairseq2), and transformers' defaults,
    layer drop 0.1 among them, would make gradients depend on chance.

    Args:
        section: its type and sizes.
        folder: of a checkpoint whose weights and sizes it gets; None for random ones, from torch's generator.
        span: frames of a masked span, which the configuration of the model records.
    """
    wanted = {
        **dict.fromkeys(_DROPOUTS, 0.0),
        "apply_spec_augment": True,  # else transformers ignores the mask without a word
        "mask_time_prob": 0.65,  # above 0, else there is no vector for hidden frames
        "mask_time_length": span,
        "mask_feature_prob": 0.0,
    }
    if folder is not None:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        if hasattr(config, _ABOUT):  # that it is untrained, which it will not stay
            delattr(config, _ABOUT)
        config.update({key: value for key, value in wanted.items() if hasattr(config, key)})
        encoder = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, local_files_only=True)
        return block_attention(encoder.train())
    sizes: dict[str, Any] = {
        "hidden_size": section.hidden_size,
        "num_hidden_layers": section.num_layers,
        "num_attention_heads": section.num_heads,
        "intermediate_size": section.intermediate_size,
        "conv_depthwise_kernel_size": section.conv_kernel_size,
    }
    if section.type != "wav2vec2-bert":
        # Group norm lets padding into real frames; so there is none.
        sizes |= {"conv_dim": [section.conv_dim] * 7, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
        sizes["conv_bias"] = True
    config = AutoConfig.for_model(section.type, **sizes)
    config.update({key: value for key, value in wanted.items() if hasattr(config, key)})
    return block_attention(AutoModel.from_config(config).train())


def checkpoint_folder(section: ModelSection) -> Path | None:
    """Where the checkpoint lies that training starts from, fetched if need be; None for random weights.

    Raises:
        CheckpointError: it cannot be had.
        ConfigError: it is of another type than `model.type`, or has fewer layers than the contrastive loss wants.
    """
    if section.checkpoint is None:
        return None
    wanted = EncoderSection(checkpoint=section.checkpoint, revision=section.revision, storage=section.storage)
    found = resolve_checkpoint(wanted)
    if found.model_type != section.type or found.artifact is not None:
        kind = "an artifact" if found.artifact else found.model_type
        raise ConfigError(
            f"model.checkpoint must be of model.type {section.type}, but '{section.checkpoint}' is {kind}; set "
            "model.type, or choose another checkpoint"
        )
    if found.num_layers < section.contrastive_layers:
        raise ConfigError(
            f"model.contrastive_layers must be at most the layers of model.checkpoint ({found.num_layers}), but is "
            f"{section.contrastive_layers}"
        )
    return found.path


_DROPOUTS = (
    *("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout"),
    *("layerdrop", "conformer_conv_dropout", "feat_quantizer_dropout"),
)


def _keep(convolved: list[Tensor]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        convolved.append(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient * _CONV_GRADIENT)

    return hook
