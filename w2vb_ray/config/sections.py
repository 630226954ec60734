"""Sections that several jobs share: where audio comes from, how it is decoded, what encodes it, where Ray runs."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from w2vb_ray.config.section import Section

StorageOptions = dict[str, Any]
PoolingMethod = Literal["mean", "mean_std", "max", "attention"]

_PLACE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.\-]*://[^/]|(file|local):///")


class SourceSection(Section):
    """Where utterances come from."""

    uri: str
    """Folder, file or glob, local or any fsspec URL (`s3://bucket/prefix`)."""
    format: Literal[
        "auto", "folder", "manifest", "nemo", "common_voice", "kaldi", "lhotse", "webdataset", "parquet", "shar"
    ] = "auto"
    """`auto` recognises lists of recordings, tars and tables with audio inside by their files and columns, reads any
    other Parquet, CSV, TSV or JSONL file as a manifest, and everything else as a folder of audio; the plan line says
    what it took."""
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
    audio_root: str | None = None
    """Where relative paths of a manifest start. Unset: at the manifest's own folder (Common Voice: at `clips/`)."""
    allowed_uris: list[str] = []
    """Where URIs in manifests may lead besides the store (scheme and bucket or host) of `source.uri` itself, as
    prefixes: `s3://other-bucket/`, `https://host/path/`, `/data/audio/`. Others are rejected (`forbidden`) unseen."""
    min_age_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Objects written less than so many seconds ago wait for the next run. 600 is usual where others are writing."""
    inventory_uri: str | None = None
    """`manifest.json` of an S3 Inventory report that stands for the listing of a folder or glob on S3."""
    storage: StorageOptions = {}
    """fsspec options of the source's store (`endpoint_url`, `anon`, …). Leave credentials to the provider chain;
    what is secret here is masked wherever it is shown."""
    etag_is_md5: bool = True
    """Check what is read from S3 against its etag where that looks like an MD5; false for a store where it is none."""

    @field_validator("allowed_uris")
    @classmethod
    def _prefixes_name_a_place(cls, uris: list[str]) -> list[str]:
        for uri in uris:
            if "::" in uri or not _PLACE.match(uri):
                raise ValueError(f"must be URLs with a bucket or host, or absolute paths, but has {uri!r}")
        return uris


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
    max_expansion: float = Field(default=4096.0, gt=0)
    """Files that decode to more than this many times their own bytes, as 16-bit samples at 16 kHz, are rejected
    (`expansion`). Speech stays under 400 (codec2 at 700 bit/s), digital silence in FLAC near 700."""
    decoder_memory_bytes: int = Field(default=512 * 1024**2, gt=0)
    """Files whose decoder needs more memory than this, beside the file itself, are rejected (`decoder_limit`). It
    needs some 30 MiB for a recording of any length."""
    decoder_cpu_s: float = Field(default=900.0, gt=0)
    """Files whose decoding takes more CPU time are rejected (`decoder_limit`)."""
    decoder_wall_s: float = Field(default=1800.0, gt=0)
    """Files whose decoding takes more time by the clock are rejected (`decoder_limit`): it hangs. Leave room for a
    machine that is busy with other things."""


class EncoderSection(Section):
    """The model."""

    checkpoint: str = "embedded"
    """A transformers folder, an object-store URI or a hub id, in safetensors; or an artifact of the export job.
    `embedded` is the small model that comes with this package: two million parameters, trained in an hour on two cores;
    for trying the pipeline, not for an index that matters."""
    revision: str | None = None
    """Commit, tag or branch of a hub checkpoint."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """`auto` is fp32 on CPU and bf16 on CUDA, and int8 for an int8 artifact on CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is CUDA where the encoder finds a GPU."""
    layers: list[int] = [-1]
    """Hidden layers to keep: 0 is the input of the first layer, negative counts from the end."""
    layer_weights: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    """Mix the kept layers, frame by frame, into one: the sum of each times its weight, taken as given (weights need
    not sum to 1). Unset keeps the layers apart."""
    storage: StorageOptions = {}
    """fsspec options of the checkpoint's store."""

    @field_validator("layer_weights")
    @classmethod
    def _one_weight_per_layer(cls, weights: list[float] | None, info: ValidationInfo) -> list[float] | None:
        layers = info.data.get("layers")  # missing when it has an error of its own
        if weights is not None and layers is not None and len(weights) != len(layers):
            raise ValueError(f"must have one weight for each of encoder.layers ({len(layers)})")
        return weights


class PoolingSection(Section):
    """How frames become one vector."""

    method: PoolingMethod | list[PoolingMethod] = "mean"
    """One, or a list that shares one forward. `mean_std` concatenates mean and standard deviation, so its vectors have
    twice the model's dimension. `attention` is a trained head in the checkpoint's folder."""
    normalise: bool = False
    """Divide every vector by its L2 norm; a vector of zeros stays one."""

    @field_validator("method", mode="before")
    @classmethod
    def _known_and_distinct(cls, method: Any) -> Any:
        known, methods = get_args(PoolingMethod), method if isinstance(method, list) else [method]
        if not methods or any(one not in known for one in methods) or len(set(methods)) < len(methods):
            raise ValueError(f"must be one of {', '.join(known)}, or a list of different ones")
        return method

    @property
    def methods(self) -> list[PoolingMethod]:
        """`method` as a list, in the order given."""
        return self.method if isinstance(self.method, list) else [self.method]


class BatchingSection(Section):
    """How utterances become micro-batches."""

    max_frames: Annotated[int, Field(gt=0)] | None = None
    """Frame budget of one micro-batch, in 20 ms frames, padding included; a longer window goes alone. Unset: 2048 on
    CPU and 30000 on CUDA for models that are packed without padding, 800 and 15000 for those that are padded."""
    attention_frames: int = Field(default=600, gt=0)
    """Of padded models: length in frames at which an utterance's attention costs as much as the rest of the model; an
    utterance of L frames takes L + L²/attention_frames of the budget."""


class ClusterSection(Section):
    """Where Ray runs and what the job takes of it."""

    address: str = "local"
    """`local` starts Ray on this machine, `auto` finds the cluster this machine is part of, else a cluster's address.
    A job that `ray job submit` started uses the cluster it was submitted to, whatever stands here."""
    num_encoders: Annotated[int, Field(gt=0)] | None = None
    """Size of the encoder pool. Unset: one per GPU of the cluster; where there is none, as many of one thread as the
    cores, the memory and the number of units allow."""
    gpus_per_encoder: Annotated[float, Field(ge=0)] | None = None
    """Unset: 1 when the encoder runs on CUDA, else 0."""
    cpus_per_encoder: Annotated[int, Field(gt=0)] | None = None
    """Threads of an encoder. Unset: 1 on CUDA; on CPU the cores of the smallest node, shared among its encoders."""
    num_cpus: Annotated[int, Field(gt=0)] | None = None
    """Logical CPUs of a local Ray. Unset: the machine's cores, and at least what the job needs."""
    num_gpus: Annotated[int, Field(ge=0)] | None = None
    """Logical GPUs of a local Ray. Unset: those that Ray finds."""
    object_store_bytes: Annotated[int, Field(gt=0)] | None = None
    """Object store of a local Ray. Unset: Ray's own choice."""
    unit_timeout_s: float = Field(default=1_800.0, gt=0)
    """A worker that finishes no recording and no micro-batch for this long is taken to hang, and is ended; its unit is
    run again. Raise it where one micro-batch, or one window with `audio.max_window_s: null`, takes longer."""
