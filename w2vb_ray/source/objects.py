"""What a reader asks of the objects that its rows name: size, version, age; or why the row is refused unseen."""

from typing import NamedTuple

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import RejectReason, SourceError
from w2vb_ray.source import versions
from w2vb_ray.source.allowed import Allowed

OBJECT = pa.schema(
    {
        "audio_uri": pa.string(),
        "source_bytes": pa.int64(),
        "source_version": pa.string(),
        "modified_s": pa.float64(),
        "reason": pa.string(),
        "detail": pa.string(),
    }
)
"""The columns of `Rows` that say what an utterance's object is."""

_ABSOLUTE = r"^(/|[A-Za-z][A-Za-z0-9+.\-]*://|\s*$)"
_SCHEME = r"(?s)^(?:([A-Za-z][A-Za-z0-9+.\-]*://).*|.*)$"


class Refusals(NamedTuple):
    """Reason and detail of rows that a reader refuses; null for the others. (N,) each."""

    reason: pa.Array
    detail: pa.Array

    @classmethod
    def none(cls, num_rows: int) -> "Refusals":
        """All rows are fine."""
        return cls(pa.nulls(num_rows, pa.string()), pa.nulls(num_rows, pa.string()))


class Objects:
    """The objects of a source that comes in pieces.

    Args:
        section: which URIs may be opened, and how.
        elsewhere: where other programs look for the relative paths of such a source, to say where one leads nowhere.
    """

    def __init__(self, section: SourceSection, elsewhere: str = "") -> None:
        self._section = section
        self._allowed = Allowed.by(section)
        self._own, self._other = versions.Versions(section.storage), versions.Versions({})
        self._elsewhere = elsewhere
        self._num_relative = self._num_missing = 0
        self._example = ""

    def look_up(
        self,
        audio_uri: pa.Array,
        *,
        given_version: pa.Array | None = None,
        refused: Refusals | None = None,
        written: pa.Array | None = None,
    ) -> pa.Table:
        """Ask the stores for the objects of one piece, as rarely as possible. (N,) -> a table of `OBJECT`

        Args:
            audio_uri: full URIs.
            given_version: where it is not blank, the object is not looked at.
            refused: rows that the reader refuses; their objects are not looked at either.
            written: the paths as the source has them, where it matters that they are relative.

        Raises:
            SourceError: a store cannot be reached.
        """
        num = len(audio_uri)
        reason, detail = self._refusals(audio_uri, refused or Refusals.none(num))
        source_bytes, version = pa.nulls(num, pa.int64()), pa.repeat(pa.scalar("", pa.string()), num)
        modified_s = pa.nulls(num, pa.float64())
        asked = pc.is_null(reason)
        if given_version is not None:
            known = pc.and_(asked, pc.not_equal(given_version, ""))
            version = pc.if_else(known, given_version, version)
            source_bytes = pc.if_else(known, versions.UNKNOWN_BYTES, source_bytes)
            asked = pc.and_(asked, pc.invert(known))
        is_own = self._is_own(audio_uri)
        for mask, store in ((is_own, self._own), (pc.invert(is_own), self._other)):
            looked_at = pc.and_(asked, mask)
            if pc.any(looked_at).as_py():
                stats = store.stat(audio_uri.filter(looked_at))
                source_bytes = pc.replace_with_mask(source_bytes, looked_at, stats.source_bytes)
                version = pc.replace_with_mask(version, looked_at, stats.source_version)
                modified_s = pc.replace_with_mask(modified_s, looked_at, stats.modified_s)
        if written is not None and self._elsewhere:
            missing = self._missing(written, reason, source_bytes, audio_uri)
            reason = pc.if_else(missing, str(RejectReason.MISSING), reason)
            detail = pc.if_else(missing, f"the object does not exist; {self._elsewhere}", detail)
        return pa.table([audio_uri, source_bytes, version, modified_s, reason, detail], schema=OBJECT)

    def check(self) -> None:
        """Raise SourceError where all pieces together show that the whole source cannot be meant like this: access to
        every object is denied, or none of the relative paths leads anywhere."""
        self._own.check()
        self._other.check()
        if self._num_missing and self._num_missing == self._num_relative:
            raise SourceError(
                f"`source.uri`: none of the {self._num_missing} relative paths in {self._section.uri} leads to a file, "
                f"such as {self._example}; {self._elsewhere}."
            )

    def _refusals(self, audio_uri: pa.Array, refused: Refusals) -> Refusals:
        """What the reader refuses, then what the config does not allow."""
        open_ = pc.is_null(refused.reason)
        reason, detail = self._allowed.refusals(audio_uri.filter(open_))
        return Refusals(
            pc.replace_with_mask(refused.reason, open_, reason), pc.replace_with_mask(refused.detail, open_, detail)
        )

    def _is_own(self, audio_uri: pa.Array) -> pa.Array:
        """Rows of the source's own protocol, whose options are those of the source; other stores get none of them."""
        schemes = pc.replace_substring_regex(audio_uri, _SCHEME, r"\1")
        own = [scheme for scheme in schemes.unique().to_pylist() if storage.same_protocol(scheme, self._section.uri)]
        return pc.is_in(schemes, value_set=pa.array(own, pa.string()))

    def _missing(self, written: pa.Array, reason: pa.Array, source_bytes: pa.Array, audio_uri: pa.Array) -> pa.Array:
        """Rows whose relative path leads nowhere."""
        relative = pc.and_(pc.is_null(reason), pc.invert(pc.match_substring_regex(written, _ABSOLUTE)))
        missing = pc.and_(relative, pc.is_null(source_bytes))
        num_missing = pc.sum(missing).as_py() or 0
        self._num_relative += pc.sum(relative).as_py() or 0
        self._num_missing += num_missing
        if num_missing and not self._example:
            self._example = audio_uri.filter(missing)[0].as_py()
        return missing
