"""Configuration of the `export` job."""

from typing import Literal

from pydantic import Field

from w2vb_ray.config.section import Section
from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, SourceSection, StorageOptions


class ExportSection(Section):
    """What is made of the checkpoint, and where it goes."""

    uri: str
    """Folder or fsspec URL for the artifact; empty or not there yet. `encoder.checkpoint` of other jobs takes it."""
    kind: Literal["int8", "int8_weights", "fp16", "bf16", "onnx", "onnx_int8", "openvino", "openvino_int8"] = "int8"
    """`int8`: matrices and what they are multiplied with, for CPUs; `int8_weights`: matrices only, a quarter of the
    size at the speed of floats; `fp16`, `bf16`: half the size; `onnx`, `onnx_int8`, `openvino` (fp16), `openvino_int8`:
    graphs for ONNX Runtime and OpenVINO, which need the extras `onnx` and `openvino`."""
    max_kept: float = Field(default=0.05, ge=0, le=1)
    """Share of the matrices that may stay fp16 where int8 costs too much accuracy: the costliest ones, as measured."""
    accept: bool = False
    """Write the artifact even if it is below a limit of `gate`; its `artifact.json` says so."""
    storage: StorageOptions = {}
    """fsspec options of the artifact's store."""


class GateSection(Section):
    """How near the artifact's vectors must be to those of the checkpoint in fp32, on the speech of `source`."""

    max_utterances: int = Field(default=64, ge=2)
    """Utterances of the source that are encoded: evenly spaced ones, those over `max_duration_s` left out."""
    max_duration_s: float = Field(default=30.0, gt=0)
    """Longest utterance taken."""
    min_pooled_cosine: float = Field(default=0.999, le=1)
    """Least cosine of an utterance's mean over frames."""
    min_frame_cosine: float = Field(default=0.99, le=1)
    """Least cosine of a frame."""
    min_recall: float = Field(default=0.95, ge=0, le=1)
    """Mean share of the 10 nearest utterances, by fp32 vectors, that a search with the artifact's vector finds."""


class ExportConfig(Section):
    """Everything the `export` job can be told."""

    export: ExportSection
    source: SourceSection
    gate: GateSection = GateSection()
    audio: AudioSection = AudioSection()
    encoder: EncoderSection = EncoderSection()
    batching: BatchingSection = BatchingSection()
