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

    suite: Literal["selfcheck", "retrieval", "probes", "phones", "all"] = "selfcheck"
    """`selfcheck`: does an utterance get the same vector alone and in any batch, here and with this checkpoint?
    `retrieval`: does the same sentence lie nearest in another language? `probes`: can a linear classifier tell what a
    column of the source says? `phones`: phone by frame, their boundaries, speech in noise, ABX. The last three layer by
    layer, beside what needs no model; `all` is those of them that the source has data for."""
    table_uri: str | None = None
    """Tables that `embed` wrote (its `sink.uri`): `retrieval` and `probes` take their vectors, and no model runs."""
    table_storage: StorageOptions = {}
    """fsspec options of the tables' store."""
    layers: list[int] | None = None
    """Hidden states that are measured, 0 is the input of the first layer; unset: all."""
    num_samples: int = Field(default=1_000, ge=10)
    """Of the bootstrap that gives the intervals."""
    seed: int = Field(default=0, ge=0)
    """Of whatever is drawn, and of the model that has learnt nothing."""
    report_uri: str | None = None
    """File or fsspec URL for the results as JSON; unset writes none."""
    html_uri: str | None = None
    """The same as a page with pictures, of every suite but `selfcheck`."""
    storage: StorageOptions = {}
    """fsspec options of the report's and the page's store."""


class SelfcheckSection(Section):
    """How hard the batch-invariance contract is tried."""

    num_trials: int = Field(default=12, gt=0)
    """Batches of random company; with 12 every test utterance gets company once."""
    seed: int = Field(default=0, ge=0)
    """Of the synthetic audio and of the batches."""
    max_duration_s: float = Field(default=40.0, ge=1.0)
    """Longest test utterance in seconds; one is a tenth longer than `audio.max_window_s` where this allows it."""


class RetrievalSection(Section):
    """Which utterances say the same."""

    item_column: str = "parallel_id"
    """Column of the source (or the table) that is the same for utterances that say the same."""
    max_items: int = Field(default=1_000, ge=2)
    """Items at most, evenly spaced."""
    min_items: int = Field(default=10, ge=2)
    """Items that two languages must share, to be compared."""


class ProbesSection(Section):
    """What linear classifiers are asked for."""

    columns: dict[str, str | None] = {"language": "speaker"}
    """Column to tell -> column whose values are never in training and test at once (or null): a language is told from
    speakers that the classifier has not heard. Any column of the source will do: `{emotion: speaker}`."""
    max_utterances: int = Field(default=5_000, ge=10)
    """Utterances at most, evenly spaced."""
    max_folds: int = Field(default=10, ge=2)
    """Of the cross-validation."""


class PhonesSection(Section):
    """Where phones are, and how much of them is looked at."""

    alignment_uri: str | None = None
    """CTM file (NIST): utterance, channel, start and duration in seconds, phone. An utterance is named by its id or by
    the end of its path. The suite `phones` needs it."""
    storage: StorageOptions = {}
    """fsspec options of the alignment's store."""
    unseen_languages: list[str] = []
    """Languages that classifiers of phones are not trained on, and are measured on."""
    max_utterances: int = Field(default=1_000, ge=10)
    """Utterances at most, evenly spaced; half of them train the classifiers."""
    max_frames: int = Field(default=20_000, ge=100)
    """Of 20 ms, to train on, and as many to test on."""
    snr_db: list[float] = [20.0, 10.0, 5.0, 0.0]
    """Levels of noise in which speech is to be found."""
    num_triples: int = Field(default=2_000, ge=10)
    """Of ABX, within and across languages each."""


class EvaluateConfig(Section):
    """Everything the `evaluate` job can be told."""

    evaluate: EvaluateSection = EvaluateSection()
    selfcheck: SelfcheckSection = SelfcheckSection()
    retrieval: RetrievalSection = RetrievalSection()
    probes: ProbesSection = ProbesSection()
    phones: PhonesSection = PhonesSection()
    source: SourceSection | None = None
    """Speech to evaluate on; every suite but `selfcheck` needs it, or `evaluate.table_uri`."""
    audio: AudioSection = AudioSection()
    encoder: EncoderSection = EncoderSection()
    pooling: PoolingSection = PoolingSection()
    batching: BatchingSection = BatchingSection()

    @model_validator(mode="after")
    def _has_speech(self) -> "EvaluateConfig":
        settings = self.evaluate
        if settings.suite != "selfcheck" and (self.source is None) == (settings.table_uri is None):
            raise ValueError(f"evaluate.suite {settings.suite} needs either source.uri or evaluate.table_uri")
        if settings.suite == "phones" and (self.source is None or self.phones.alignment_uri is None):
            raise ValueError("evaluate.suite phones needs source.uri and phones.alignment_uri")
        return self
