"""Manifests of NeMo: JSON lines with `audio_filepath`, whatever the file's name ends in."""

import json
from typing import Any, cast

from w2vb_ray.errors import RejectReason
from w2vb_ray.source import tabular
from w2vb_ray.source.peek import Peek

AUDIO = "audio_filepath"
REFUSAL = ("\0reason", "\0detail")
"""Columns for what cannot be read, by names that no key of a manifest has."""


def recognises(peek: Peek) -> str | None:
    """By its `audio_filepath`."""
    is_nemo = peek.table is not None and tabular.kind_of(peek.table) == "jsonl" and AUDIO in peek.columns
    return f"{AUDIO} in its JSON lines" if is_nemo else None


def single_file(row: dict[str, Any]) -> dict[str, Any]:
    """NeMo may name the channels of a recording as a list of files: a list of one is that file, more are refused."""
    if not isinstance(row.get(AUDIO), list):
        return row
    files = cast(list[Any], row[AUDIO])
    if len(files) == 1:
        return row | {AUDIO: files[0]}
    detail = f"one file per channel is not read: {json.dumps(files, ensure_ascii=False)}"
    return row | {AUDIO: None} | dict(zip(REFUSAL, (str(RejectReason.UNDECODABLE), detail), strict=True))
