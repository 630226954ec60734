"""What a reader asks of the objects that its rows name: size, version, age; or why the row is refused unseen."""

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
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


def look_up(
    audio_uri: pa.Array,
    section: SourceSection,
    *,
    given_version: pa.Array | None = None,
    reason: pa.Array | None = None,
    detail: pa.Array | None = None,
) -> pa.Table:
    """Ask the stores for the objects of many rows, as rarely as possible. (N,) -> a table of `OBJECT`

    Args:
        audio_uri: full URIs.
        section: says which of them may be opened, and how.
        given_version: where it is not blank, the object is not looked at.
        reason: why the reader refuses a row, null where it does not; such objects are not looked at either.
        detail: goes with `reason`.

    Raises:
        SourceError: a store cannot be reached, or denies access to everything.
    """
    reason, detail = _refusals(audio_uri, section, reason, detail)
    num = len(audio_uri)
    source_bytes, version = pa.nulls(num, pa.int64()), pa.repeat(pa.scalar("", pa.string()), num)
    modified_s = pa.nulls(num, pa.float64())
    asked = pc.is_null(reason)
    if given_version is not None:
        known = pc.and_(asked, pc.not_equal(given_version, ""))
        version = pc.if_else(known, given_version, version)
        source_bytes = pc.if_else(known, versions.UNKNOWN_BYTES, source_bytes)
        asked = pc.and_(asked, pc.invert(known))
    for mask, options in _by_options(audio_uri, asked, section):
        stats = versions.stat(audio_uri.filter(mask), options)
        source_bytes = pc.replace_with_mask(source_bytes, mask, stats.source_bytes)
        version = pc.replace_with_mask(version, mask, stats.source_version)
        modified_s = pc.replace_with_mask(modified_s, mask, stats.modified_s)
    return pa.table([audio_uri, source_bytes, version, modified_s, reason, detail], schema=OBJECT)


def _refusals(
    audio_uri: pa.Array, section: SourceSection, reason: pa.Array | None, detail: pa.Array | None
) -> tuple[pa.Array, pa.Array]:
    """What the reader refuses, then what the config does not allow."""
    if reason is None or detail is None:
        return Allowed.by(section).refusals(audio_uri)
    open_ = pc.is_null(reason)
    forbidden, why = Allowed.by(section).refusals(audio_uri.filter(open_))
    return pc.replace_with_mask(reason, open_, forbidden), pc.replace_with_mask(detail, open_, why)


def _by_options(
    audio_uri: pa.Array, asked: pa.Array, section: SourceSection
) -> list[tuple[pa.Array, dict[str, object]]]:
    """Rows of the source's own protocol, with its options, and all others, which get none."""
    schemes = pc.replace_substring_regex(audio_uri, r"(?s)^(?:([A-Za-z][A-Za-z0-9+.\-]*://).*|.*)$", r"\1")
    own = [scheme for scheme in schemes.unique().to_pylist() if storage.same_protocol(scheme, section.uri)]
    is_own = pc.is_in(schemes, value_set=pa.array(own, pa.string()))
    masks = [(pc.and_(asked, is_own), dict(section.storage)), (pc.and_(asked, pc.invert(is_own)), {})]
    return [(mask, options) for mask, options in masks if pc.any(mask).as_py()]
