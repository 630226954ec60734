"""Configuration of the `pretrain` job. Defaults are those of a 768-d model; `conf/pretrain` has what differs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from w2vb_ray.config.section import Section
from w2vb_ray.config.sections import AudioSection, ClusterSection, SourceSection, StorageOptions

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PretrainSection(Section):
    """Where a run lives, and how long it is."""

    uri: str
    """Folder or fsspec URL of the run: its checkpoints, its log. The same command goes on where it stopped."""
    num_updates: Positive = 400_000
    """Steps of the optimizer."""
    checkpoint_updates: Positive = 1_000
    """Updates between checkpoints; what is after the last one is done again."""
    keep_checkpoints: Positive = 3
    """Newest ones that stay; each has all that is needed to go on, and loads in transformers."""
    log_updates: Positive = 50
    """Updates between lines of the log."""
    seed: int = Field(default=0, ge=0)
    """Of weights, order, crops, masks, distractors and noise."""
    storage: StorageOptions = {}
    """fsspec options of the run's store."""


class ModelSection(Section):
    """The encoder that is trained."""

    checkpoint: str | None = None
    """Start from this one (folder, URI, hub id), whose sizes then count; unset: random weights."""
    revision: str | None = None
    """Commit, tag or branch of a hub checkpoint."""
    storage: StorageOptions = {}
    """fsspec options of the checkpoint's store."""
    type: Literal["wav2vec2-bert", "wav2vec2", "wav2vec2-conformer"] = "wav2vec2-bert"
    """`wav2vec2-bert` takes mel filterbanks, the others waveforms through seven convolutions."""
    hidden_size: Positive = 768
    num_layers: Positive = 12
    num_heads: Positive = 12
    intermediate_size: Positive = 3_072
    conv_kernel_size: Positive = 31
    """Of the depthwise convolutions of conformers."""
    conv_dim: Positive = 512
    """Channels of the convolutions that take waveforms."""
    contrastive_layers: Positive = 4
    """The contrastive loss sees the output of this layer, masked prediction that of the last."""

    @model_validator(mode="after")
    def _fits(self) -> "ModelSection":
        if self.contrastive_layers > self.num_layers and self.checkpoint is None:
            raise ValueError(f"contrastive_layers must be at most num_layers ({self.num_layers})")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads})")
        return self


class MaskingSection(Section):
    """Which frames are hidden from the encoder."""

    probability: Annotated[float, Field(gt=0, lt=1)] = 0.65
    """Frames in spans, of all frames, if spans did not overlap."""
    span: Positive = 10
    """Frames of one span, 20 ms each."""
    min_spans: Positive = 2
    """Spans of an utterance at least."""


class QuantizerSection(Section):
    """The codes that stand for what is hidden."""

    num_codebooks: Positive = 2
    num_codes: Positive = 320
    """Of each codebook."""
    code_dim: Positive = 256
    """Of all codebooks together."""
    projection_dim: Positive = 256
    """In which predictions and targets are compared."""
    max_temperature: Annotated[float, Field(gt=0)] = 2.0
    """Of the Gumbel softmax, at the first update."""
    min_temperature: Annotated[float, Field(gt=0)] = 0.5
    temperature_decay: Annotated[float, Field(gt=0, le=1)] = 0.999995
    """Factor per update."""
    learning_rate_factor: Annotated[float, Field(gt=0)] = 1.0
    """Of the quantizer, to that of the rest: codes that move faster than the heads follow teach them nothing."""

    @model_validator(mode="after")
    def _fits(self) -> "QuantizerSection":
        if self.code_dim % self.num_codebooks:
            raise ValueError(f"code_dim ({self.code_dim}) must be a multiple of num_codebooks ({self.num_codebooks})")
        return self


class LossSection(Section):
    """What is minimised: contrastive + diversity, masked prediction, and optional random-projection codes."""

    contrastive: Weight = 1.0
    diversity: Weight = 0.1
    """Times the contrastive weight."""
    masked_prediction: Weight = 1.0
    num_negatives: Positive = 100
    """Distractors of a frame, from the other hidden frames of its utterance."""
    logit_temperature: Annotated[float, Field(gt=0)] = 0.1
    random_projection: Weight = 0.0
    """Of codes that are not learnt (Chiu et al. 2022); 0 has none."""
    num_random_codes: Positive = 1_024
    random_code_dim: Positive = 16
    feature_penalty: Weight = 10.0
    """Of the mean square of what the convolutions make of waveforms."""


class OptimiserSection(Section):
    """AdamW, warmed up and then let down to zero."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    warmup_updates: Positive = 32_000
    betas: tuple[Share, Share] = (0.9, 0.98)
    epsilon: Annotated[float, Field(gt=0)] = 1e-6
    weight_decay: Weight = 0.01
    """Of matrices; norms, biases, codes and the mask's vector have none."""
    max_gradient_norm: Annotated[float, Field(gt=0)] = 5.0
    """Larger gradients are scaled to it; updates with one that is no number are skipped."""


class BatchesSection(Section):
    """What an update sees."""

    audio_s: Annotated[float, Field(gt=0)] = 5_760.0
    """Audio of an update, over all workers, about; it does not depend on how many they are."""
    max_frames: Positive = 6_000
    """Of one micro-batch, padding included: what fits in a worker's memory."""
    min_crop_s: Annotated[float, Field(ge=0.1)] = 2.0
    """Shorter utterances are left out."""
    max_crop_s: Annotated[float, Field(gt=0)] = 15.6
    """Longer utterances give a piece of this length, another one in each epoch."""
    language_temperature: Share = 0.5
    """Languages have shares of the batches like their shares of the audio to this power: 1 is as it comes, 0 gives all
    the same."""

    @model_validator(mode="after")
    def _fits(self) -> "BatchesSection":
        if self.max_crop_s < self.min_crop_s:
            raise ValueError(f"max_crop_s ({self.max_crop_s:g}) must be at least min_crop_s ({self.min_crop_s:g})")
        if self.max_frames < self.max_crop_s * 50:
            raise ValueError(
                f"max_frames must hold max_crop_s ({self.max_crop_s * 50:.0f} frames): is {self.max_frames}"
            )
        return self


class AlarmSection(Section):
    """When a run is told to have collapsed: codes that all frames share make every loss small and teach nothing."""

    min_perplexity: Share = 0.1
    """Of the codes and of their mean probabilities, as a share of their number (or of an update's hidden frames)."""
    max_same_negatives: Share = 0.2
    """Distractors with the very codes of the target, which the loss leaves out."""
    patience_updates: Positive = 500
    """For so long in a row."""
    stop: bool = False
    """End the run instead of only saying so."""


class WorkersSection(Section):
    """What Ray Train starts."""

    num_workers: Positive = 1
    """At most; each has a copy of the model and two logical CPUs, one of them to read with, or a GPU and a CPU."""
    min_workers: Positive | None = None
    """The run goes on with so many when nodes are lost, and grows again. Unset: as many as `num_workers`."""
    use_gpu: bool = False
    """One GPU for each."""
    num_threads: Positive = 1
    """Of a worker's model on CPUs. Bit for bit the same run needs the same number."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` is autocast; losses, quantizer and weights stay fp32."""
    max_failures: int = Field(default=3, ge=0)
    """Restarts of the workers from the last checkpoint before the run gives up."""


class PretrainConfig(Section):
    """Everything the `pretrain` job can be told."""

    pretrain: PretrainSection
    source: SourceSection
    audio: AudioSection = AudioSection()
    model: ModelSection = ModelSection()
    masking: MaskingSection = MaskingSection()
    quantizer: QuantizerSection = QuantizerSection()
    loss: LossSection = LossSection()
    optimiser: OptimiserSection = OptimiserSection()
    batches: BatchesSection = BatchesSection()
    alarm: AlarmSection = AlarmSection()
    cluster: ClusterSection = ClusterSection()
    workers: WorkersSection = WorkersSection()
