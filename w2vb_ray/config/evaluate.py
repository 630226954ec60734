"""Configuration of the `evaluate` job."""

from typing import Literal

from pydantic import Field

from w2vb_ray.config.section import Section
from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, PoolingSection, StorageOptions


class EvaluateSection(Section):
    """What is evaluated, and where the figures go."""

    suite: Literal["selfcheck"] = "selfcheck"
    """`selfcheck`: does an utterance get the same vector alone and in any batch, here and with this checkpoint?"""
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


class EvaluateConfig(Section):
    """Everything the `evaluate` job can be told."""

    evaluate: EvaluateSection = EvaluateSection()
    selfcheck: SelfcheckSection = SelfcheckSection()
    audio: AudioSection = AudioSection()
    encoder: EncoderSection = EncoderSection()
    pooling: PoolingSection = PoolingSection()
    batching: BatchingSection = BatchingSection()
