"""Configuration of the `embed` job."""

from typing import Self

from pydantic import Field, model_validator

from w2vb_ray.config.section import Section
from w2vb_ray.config.sections import (
    AudioSection,
    BatchingSection,
    ClusterSection,
    EncoderSection,
    PoolingSection,
    SourceSection,
    StorageOptions,
)

FRAMES_PER_S = 50


class PlanSection(Section):
    """How the work is cut into units."""

    unit_audio_s: float = Field(default=1_800.0, gt=0)
    """Audio in one unit, in seconds, where durations are known. Raise it when an encoder needs under ~1 s a unit."""
    unit_utterances: int = Field(default=512, gt=0)
    """Utterances in one unit at most."""
    unit_bytes: int = Field(default=256 * 1024**2, gt=0)
    """Source bytes in one unit at most."""
    retry_rejects: bool = False
    """Also plan utterances that were rejected before and whose source has not changed."""


class SinkSection(Section):
    """Where the tables go, and how commits are made."""

    uri: str
    """Folder or fsspec URL that holds (or will hold) the tables `utterances`, `frames` and `rejects`."""
    frames: bool = False
    """Also keep one vector per 20 ms frame."""
    max_reject_fraction: float = Field(default=0.01, ge=0, le=1)
    """The job exits with 6 when more than this fraction of the utterances it tried was rejected."""
    units_per_file: int = Field(default=1, gt=0)
    """Units whose rows are written together, one file per language."""
    commit_files: int = Field(default=16, gt=0)
    """Commit when this many files are waiting …"""
    commit_interval_s: float = Field(default=30.0, gt=0)
    """… or when the oldest has waited this long."""
    lease_s: float = Field(default=120.0, gt=0)
    """A run that has not renewed its claim on the tables for this long may be taken over."""
    storage: StorageOptions = {}
    """fsspec options of the sink's store; see `source.storage`."""
    single_writer: bool = False
    """Take an S3 store that ignores conditional writes, without asking whether it does. Two runs at a time would
    destroy each other's commits there: something else must see to it that there is only one."""


class EmbedConfig(Section):
    """Everything the `embed` job can be told."""

    source: SourceSection
    audio: AudioSection = AudioSection()
    encoder: EncoderSection = EncoderSection()
    pooling: PoolingSection = PoolingSection()
    batching: BatchingSection = BatchingSection()
    plan: PlanSection = PlanSection()
    cluster: ClusterSection = ClusterSection()
    sink: SinkSection

    @model_validator(mode="after")
    def _window_fits_budget(self) -> Self:
        budget, window_s = self.batching.max_frames, self.audio.max_window_s
        if budget is not None and window_s is not None and budget < window_s * FRAMES_PER_S:
            raise ValueError(
                f"batching.max_frames must be at least the longest window ({window_s * FRAMES_PER_S:.0f}), "
                f"but is {budget}; raise it or lower audio.max_window_s"
            )
        return self

    @model_validator(mode="after")
    def _window_outlasts_context(self) -> Self:
        window_s, context_s = self.audio.max_window_s, self.audio.window_context_s
        if window_s is not None and window_s <= 2 * context_s:
            raise ValueError(
                f"audio.max_window_s must be more than twice audio.window_context_s ({2 * context_s:g}), "
                f"but is {window_s:g}; raise it or lower audio.window_context_s"
            )
        return self
