"""Configuration of the `evaluate` job."""

from typing import Literal

from pydantic import Field, model_validator

from w2vb_ray.config.section import Section
from w2vb_ray.config.sections import (
    AudioSection,
    BatchingSection,
    EncoderSection,
    PoolingSection,
    SourceSection,
    StorageOptions,
)


class EvaluateSection(Section):
    """What is evaluated, and where the figures go."""

    suite: Literal["selfcheck", "retrieval"] = "selfcheck"
    """`selfcheck`: does an utterance get the same vector alone and in any batch, here and with this checkpoint?
    `retrieval`: does the same sentence lie nearest in another language, layer by layer, beside what needs no model?"""
    report_uri: str | None = None
    """File or fsspec URL for the results as JSON; unset writes none."""
    storage: StorageOptions = {}
    """fsspec options of the report's store."""


class SelfcheckSection(Section):
    """How hard the batch-invariance contract is tried."""

    num_trials: int = Field(default=12, gt=0)
    """Batches of random company; with 12 every test utterance gets company once."""
    seed: int = Field(default=0, ge=0)
    """Of the synthetic audio and of the batches."""
    max_duration_s: float = Field(default=40.0, ge=1.0)
    """Longest test utterance in seconds; one is a tenth longer than `audio.max_window_s` where this allows it."""


class RetrievalSection(Section):
    """Which utterances say the same, and how sure the figures are."""

    item_column: str = "parallel_id"
    """Column of the source (or the table) that is the same for utterances that say the same."""
    table_uri: str | None = None
    """Tables that `embed` wrote (its `sink.uri`): their vectors are taken, and no model runs."""
    table_storage: StorageOptions = {}
    """fsspec options of the tables' store."""
    max_items: int = Field(default=1_000, ge=2)
    """Items at most, evenly spaced."""
    min_items: int = Field(default=10, ge=2)
    """Items that two languages must share, to be compared."""
    num_samples: int = Field(default=1_000, ge=10)
    """Of the bootstrap that gives the intervals."""
    seed: int = Field(default=0, ge=0)
    """Of the bootstrap and of the model that has learnt nothing."""


class EvaluateConfig(Section):
    """Everything the `evaluate` job can be told."""

    evaluate: EvaluateSection = EvaluateSection()
    selfcheck: SelfcheckSection = SelfcheckSection()
    retrieval: RetrievalSection = RetrievalSection()
    source: SourceSection | None = None
    """Speech to evaluate on; the suite `retrieval` needs it, or `retrieval.table_uri`."""
    audio: AudioSection = AudioSection()
    encoder: EncoderSection = EncoderSection()
    pooling: PoolingSection = PoolingSection()
    batching: BatchingSection = BatchingSection()

    @model_validator(mode="after")
    def _has_speech(self) -> "EvaluateConfig":
        if self.evaluate.suite == "retrieval" and (self.source is None) == (self.retrieval.table_uri is None):
            raise ValueError("evaluate.suite retrieval needs either source.uri or retrieval.table_uri")
        return self
