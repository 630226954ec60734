"""Configuration of the `maintain` job."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from w2vb_ray.config.embed import EmbedConfig, SinkSection
from w2vb_ray.config.section import Section
from w2vb_ray.config.sections import SourceSection, StorageOptions
from w2vb_ray.errors import RejectReason


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class MaintainSection(Section):
    """What is done to the tables under `sink.uri`."""

    action: Literal["vacuum", "compact", "forget", "rejects"]
    """`vacuum` deletes files that the tables no longer need, `compact` merges small files, `forget` erases rows for
    good, `rejects` lists what could not be embedded, or has it tried again."""
    dry_run: bool = True
    """Only show what would be done."""
    retention_h: int = Field(default=168, ge=0)
    """`vacuum` leaves files alone that were written or removed in so many hours: a run may be about to commit them, a
    reader may be at them. Under 24 it needs the tables to itself."""
    target_bytes: int = Field(default=256 * 1024**2, gt=0)
    """`compact` merges files of one language under half this size, up to this size."""


class ForgetSection(Section):
    """What `forget` erases: all rows with one of these values in this column."""

    column: str = "utterance_id"
    """`utterance_id`, `audio_uri`, `language`, or a column of the source's own such as `speaker`."""
    values: list[Annotated[str, BeforeValidator(_text)]] = []
    """The values."""
    values_uri: str | None = None
    """File or fsspec URL of a text file with more values, one a line."""
    storage: StorageOptions = {}
    """fsspec options of the store of `values_uri`."""


class RejectsSection(Section):
    """Which rejects are listed, or tried again."""

    reasons: list[RejectReason] = []
    """Only rejects for these reasons; empty: all."""
    languages: list[str] = []
    """Only rejects in these languages; empty: all."""
    retry: bool = False
    """Have the next embed run try them again although their source has not changed."""


class MaintainConfig(Section):
    """Everything the `maintain` job can be told; the config of an `embed` job can be given too, as it stands."""

    maintain: MaintainSection
    forget: ForgetSection = ForgetSection()
    rejects: RejectsSection = RejectsSection()
    source: SourceSection | None = None
    """Where the tables' rows come from. Only `forget` reads it, to find rejects by a column that only the source
    has."""
    sink: SinkSection

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_only_embed_needs(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        unused = EmbedConfig.model_fields.keys() - cls.model_fields.keys()
        return {key: value for key, value in values.items() if key not in unused}

    @model_validator(mode="after")
    def _says_what_to_forget(self) -> Self:
        if self.maintain.action == "forget" and not self.forget.values and self.forget.values_uri is None:
            raise ValueError("forget.values must name what is to be forgotten, but is empty; or set forget.values_uri")
        return self
