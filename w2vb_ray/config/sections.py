"""Sections that several jobs share: where audio comes from, how it is decoded, what encodes it, where Ray runs."""

from typing import Annotated, Any, Literal

from pydantic import Field

from w2vb_ray.config.section import Section

StorageOptions = dict[str, Any]


class SourceSection(Section):
    """Where utterances come from."""

    uri: str
    """Folder, file or glob, local or any fsspec URL (`s3://bucket/prefix`)."""
    format: Literal["auto", "folder", "manifest"] = "auto"
    """`auto` reads a Parquet, CSV, TSV or JSONL file as a manifest and everything else as a folder of audio."""
    language: str | None = None
    """A constant (`deu`), a column (`column:lang`) or a path template under `source.uri` (`path:{language}/`,
    `path:*/{language}/`). Unset: the `language` column when there is one, else `und`."""
    columns: dict[str, str] = {}
    """Manifest columns that do not have the usual names, as `field: column`; fields are `audio`, `utterance_id`,
    `language`, `start_s`, `end_s`, `duration_s`, `source_version`, `sampling_rate`, `num_channels`."""
    raw_sampling_rate: Annotated[int, Field(gt=0)] | None = None
    """Sampling rate in Hz of headerless PCM files (`.raw`, `.pcm`; int16 little-endian) that carry none elsewhere.
    A folder's headerless files are read only when this is set."""
    raw_num_channels: int = Field(default=1, gt=0)
    """Channels of headerless PCM files."""
    storage: StorageOptions = {}
    """fsspec options of the source's store (`endpoint_url`, `anon`, …). Leave credentials to the provider chain;
    what is secret here is masked wherever it is shown."""


class AudioSection(Section):
    """How bytes become 16 kHz mono waveforms, and where the limits are."""

    max_window_s: Annotated[float, Field(ge=2.0)] | None = 30.0
    """Longer recordings are encoded in overlapping windows of at most this length; null encodes in one piece."""
    window_context_s: float = Field(default=2.0, ge=0.0)
    """Audio beside each window that is encoded with it and then dropped, so that frames have neighbours."""
    max_duration_s: float = Field(default=14_400.0, gt=0)
    """Longer utterances are rejected (`too_long`)."""
    max_bytes: int = Field(default=2 * 1024**3, gt=0)
    """Larger objects are rejected (`too_large`) without being read."""
    max_channels: int = Field(default=32, gt=0)
    """More channels are rejected (`out_of_range`)."""
    min_sampling_rate: int = Field(default=4_000, gt=0)
    """Lower sampling rates in Hz are rejected (`out_of_range`)."""
    max_sampling_rate: int = Field(default=384_000, gt=0)
    """Higher sampling rates in Hz are rejected (`out_of_range`)."""


class EncoderSection(Section):
    """The model."""

    checkpoint: str = "embedded"
    """A transformers folder, an object-store URI or a hub id, in safetensors. `embedded` is the small model that
    comes with this package (untrained for now: for trying the pipeline, not for using the vectors)."""
    revision: str | None = None
    """Commit, tag or branch of a hub checkpoint."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """`auto` is fp32 on CPU and bf16 on CUDA."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is CUDA where the encoder finds a GPU."""
    layers: list[int] = [-1]
    """Hidden layers to keep: 0 is the input of the first layer, negative counts from the end."""
    storage: StorageOptions = {}
    """fsspec options of the checkpoint's store."""


class PoolingSection(Section):
    """How frames become one vector."""

    method: Literal["mean", "mean_std", "max"] = "mean"
    """`mean_std` concatenates mean and standard deviation, so its vectors have twice the model's dimension."""


class BatchingSection(Section):
    """How utterances become micro-batches."""

    max_frames: Annotated[int, Field(gt=0)] | None = None
    """Frame budget of one micro-batch, in 20 ms frames, padding included. Unset: 800 on CPU, where a longer
    window goes alone, and 15000 on CUDA."""
    attention_frames: int = Field(default=600, gt=0)
    """Length in frames at which an utterance's attention costs as much as the rest of the model; an utterance of L
    frames takes L + L²/attention_frames of the budget."""


class ClusterSection(Section):
    """Where Ray runs and what the job takes of it."""

    address: str = "local"
    """`local` starts Ray on this machine, `auto` finds the cluster this machine is part of, else a cluster's address.
    A job that `ray job submit` started uses the cluster it was submitted to, whatever stands here."""
    num_encoders: Annotated[int, Field(gt=0)] | None = None
    """Size of the encoder pool. Unset: one per GPU of the cluster, or one where there is none."""
    gpus_per_encoder: Annotated[float, Field(ge=0)] | None = None
    """Unset: 1 when the encoder runs on CUDA, else 0."""
    cpus_per_encoder: Annotated[int, Field(gt=0)] | None = None
    """Threads of an encoder. Unset: 1 on CUDA; on CPU all cores of the smallest node, shared among its encoders."""
    num_cpus: Annotated[int, Field(gt=0)] | None = None
    """Logical CPUs of a local Ray. Unset: the machine's cores, and at least what the job needs."""
    num_gpus: Annotated[int, Field(ge=0)] | None = None
    """Logical GPUs of a local Ray. Unset: those that Ray finds."""
    object_store_bytes: Annotated[int, Field(gt=0)] | None = None
    """Object store of a local Ray. Unset: Ray's own choice."""
