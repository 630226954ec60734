"""Audio paths as a manifest writes them -> full URIs."""

import posixpath

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.source.rows import Column, flat
from w2vb_ray.source.storable import as_text

_ABSOLUTE = r"^(/|[A-Za-z][A-Za-z0-9+.\-]*://)"
_DOTS = r"(^|/)\.{0,2}(/|$)"  # `./`, `../`, `//`: two spellings of a path must not be two utterances


def resolve(paths: Column, base: str) -> pa.Array:
    """Full URIs of paths relative to `base`; absolute paths and URLs stay, blank ones are empty. (N,) -> (N,)"""
    texts = pc.fill_null(as_text(paths), "")
    absolute = pc.match_substring_regex(texts, _ABSOLUTE)
    uris = flat(pc.if_else(absolute, texts, pc.binary_join_element_wise(base.rstrip("/"), texts, "/")))
    odd = flat(pc.and_(pc.match_substring_regex(texts, _DOTS), pc.invert(absolute)))
    if pc.any(odd).as_py():
        normal = pa.array([_without_dots(uri) for uri in uris.filter(odd).to_pylist()], pa.string())
        uris = pc.replace_with_mask(uris, odd, normal)
    uris = pc.replace_substring_regex(uris, "(?i)^(file|local)://", "")
    return flat(pc.if_else(pc.equal(pc.utf8_trim_whitespace(flat(texts)), ""), "", uris))


def _without_dots(uri: str) -> str:
    scheme, separator, path = uri.rpartition("://")
    bucket, slash, key = path.partition("/")
    return scheme + separator + bucket + posixpath.normpath(slash + key)
