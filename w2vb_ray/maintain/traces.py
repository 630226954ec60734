"""Run reports under `<sink.uri>/_runs/` that name what is forgotten."""

import html
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from w2vb_ray import storage

_LONG = 8  # characters; a shorter id may be part of any word or number, so it counts only where it stands alone


def reports_naming(
    values: Collection[str], sink_uri: str, options: Mapping[str, Any], between: Callable[[], None]
) -> list[str]:
    """Files of run folders that hold one of the values, as the store's filesystem names them.

    Args:
        values: ids and URIs.
        sink_uri: folder of the tables.
        options: fsspec options of its store.
        between: called for each file, to renew a claim.
    """
    folder = storage.join(sink_uri, "_runs")
    filesystem = storage.filesystem(folder, options)
    root = storage.fs_path(folder, filesystem)
    needles = [needle for value in values for needle in _spellings(value)]
    if not needles or not filesystem.exists(root):
        return []
    naming: list[str] = []
    for path in filesystem.find(root):
        between()
        if _holds(cast(bytes, filesystem.cat_file(path)), needles):
            naming.append(path)
    return naming


def delete_reports(paths: Sequence[str], sink_uri: str, options: Mapping[str, Any]) -> None:
    """Delete these files."""
    if paths:
        storage.filesystem(sink_uri, options).rm(list(paths))


def _spellings(value: str) -> set[bytes]:
    """The value as JSON and HTML write it."""
    spellings = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], html.escape(value)}
    if len(value) < _LONG:
        spellings = {f"{left}{one}{right}" for one in spellings for left, right in ('""', "''", "><")}
    return {spelling.encode() for spelling in spellings}


def _holds(content: bytes, needles: Sequence[bytes]) -> bool:
    return any(needle in content for needle in needles)
