"""A manifest of NeMo: JSON lines with `audio_filepath`, whatever the file's name ends in."""

from w2vb_ray.source import tabular
from w2vb_ray.source.peek import Peek

AUDIO = "audio_filepath"


def recognises(peek: Peek) -> str | None:
    """By its `audio_filepath`."""
    is_nemo = peek.table is not None and tabular.kind_of(peek.table) == "jsonl" and AUDIO in peek.columns
    return f"{AUDIO} in its JSON lines" if is_nemo else None
