"""Which URIs a manifest may send the job to: those of its own store, and of `source.allowed_uris`.

Decides by the text of a URI alone, so that nothing is asked of a place that is not allowed; only local paths beside a
remote source are resolved, for a link must not lead out of an allowed folder.
"""

import os
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import RejectReason

_URL = r"^[A-Za-z][A-Za-z0-9+.\-]*://"
_ODD = r"(?i)\.\.|%2e|%25|%5c|\\|::"  # what has to be looked at closely
_CHAIN = re.compile(r"::.*://")
_HTTP = frozenset({"http", "https"})
_REPOSITORY_PARTS = {"datasets": 3, "spaces": 3, "buckets": 3}
_DECODINGS = 3  # servers and proxies have been seen to decode twice


class _Place(NamedTuple):
    """A URI for comparison: `s3`, `bucket`, `/key`; local paths have no host."""

    scheme: str
    host: str
    path: str

    def holds(self, other: "_Place") -> bool:
        """Whether `other` is this place or lies under it; names are compared up to a slash."""
        if (self.scheme, self.host) != (other.scheme, other.host):
            return False
        folder = self.path.rstrip("/")
        return other.path == folder or other.path.startswith(folder + "/")


@dataclass(frozen=True)
class Allowed:
    """The places of one source.

    Args:
        own: the store of `source.uri`; and of `source.audio_root`, which the config names too.
        more: those of `source.allowed_uris`.
    """

    own: tuple[str, ...]
    more: tuple[str, ...] = ()

    @staticmethod
    def by(section: SourceSection) -> "Allowed":
        """What the config allows."""
        named = [section.uri] if section.audio_root is None else [section.uri, section.audio_root]
        return Allowed(tuple(dict.fromkeys(_store(uri) for uri in named)), tuple(section.allowed_uris))

    def refusals(self, uris: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Reason and detail of each URI that is not allowed, null for the others. (N,) -> (N,), (N,)"""
        plain = pc.invert(pc.match_substring_regex(uris, _ODD))
        own = [
            pc.invert(pc.match_substring_regex(uris, _URL)) if p == "/" else pc.starts_with(uris, p) for p in self.own
        ]
        fine = own[0]
        for mask in own[1:]:
            fine = pc.or_(fine, mask)
        fine = pc.and_(fine, plain)
        if pc.all(fine).as_py() is not False:
            return pa.nulls(len(uris), pa.string()), pa.nulls(len(uris), pa.string())
        known: dict[str, str | None] = {
            uri: self.refusal(uri) for uri in uris.filter(pc.invert(fine)).unique().to_pylist()
        }
        details = [known.get(uri) for uri in uris.to_pylist()]
        reasons = [None if detail is None else str(RejectReason.FORBIDDEN) for detail in details]
        return pa.array(reasons, pa.string()), pa.array(details, pa.string())

    def refusal(self, uri: str) -> str | None:
        """Why one URI may not be opened, or None where it may; a blank one leads nowhere."""
        if not uri or (storage.is_local(uri) and "/" in self.own and not _CHAIN.search(uri)):
            return None
        if _CHAIN.search(uri):
            return f"{uri} chains URLs, which is not allowed in a manifest"
        if not storage.is_local(uri) and _climbs(uri):
            return f"{uri} has a `..` in its path, which is not allowed in a URL of a manifest"
        place = _place(uri)
        if any(_place(prefix).holds(place) for prefix in (*self.own, *self.more)):
            return None
        places = ", ".join("the files of this machine" if p == "/" else p for p in (*self.own, *self.more))
        return f"{uri} is outside {places}; to read it, add its bucket, host or folder to source.allowed_uris"


def _store(uri: str) -> str:
    """Scheme and bucket or host of a URI (of a Hub URI, its repository), with a slash; `/` for local paths."""
    if storage.is_local(uri):
        return "/"
    head, _, rest = uri.partition("://")
    parts = rest.split("/")
    num_parts = _REPOSITORY_PARTS.get(parts[0], 2) if head.lower() == "hf" else 1
    return f"{head}://{'/'.join(parts[:num_parts])}/"


def _place(uri: str) -> _Place:
    if storage.is_local(uri):
        return _Place("file", "", os.path.realpath(storage.normalise(uri)))
    scheme = storage.protocol(uri)
    scheme = "s3" if scheme == "s3a" else scheme
    rest = uri.partition("://")[2]
    end = next((i for i, character in enumerate(rest) if character in "/?#\\"), len(rest))
    host = rest[:end].lower() if scheme in _HTTP else rest[:end]
    return _Place(scheme, host, rest[end:])


def _climbs(uri: str) -> bool:
    """Whether a segment is `..`, however it is written."""
    for _ in range(_DECODINGS):
        if ".." in re.split(r"[/\\?#]", uri):
            return True
        uri = unquote(uri)
    return ".." in re.split(r"[/\\?#]", uri)
