"""Lhotse cuts (`cuts.jsonl`, `cuts.jsonl.gz`) -> rows: one utterance per cut, with what its supervisions say.

The layout is plain JSON, so Lhotse itself is not needed. Cuts whose audio is not simply a part of one file (mixed,
padded, transformed, made by a command, or one channel of several) are rejected.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import AudioRejected, RejectReason
from w2vb_ray.source import manifest, tabular
from w2vb_ray.source.peek import Peek
from w2vb_ray.source.rows import Pieces

_CUT = frozenset({"recording", "supervisions"})
_MIXED = frozenset({"tracks", "type"})
_WHOLE_S = 1e-3
"""A cut from 0 whose length differs less from the recording's is the whole of it."""
_SUPERVISED = ("speaker", "language", "gender")
_COLUMNS = ("utterance_id", "recording_id", "audio_uri", "start_s", "end_s", "duration_s", "text", *_SUPERVISED)
_CWD = "Lhotse takes them from the folder that a program runs in"


def recognises(peek: Peek) -> str | None:
    """By the keys of a cut in JSON lines."""
    if peek.table is None or tabular.kind_of(peek.table) != "jsonl":
        return None
    return "the keys of Lhotse cuts in it" if peek.columns >= _CUT or peek.columns >= _MIXED else None


def read(section: SourceSection) -> Pieces:
    """Read the cuts at `source.uri`: a file, or a glob of them.

    Raises:
        SourceError: nothing there, a line that is not JSON, or no cuts.
    """
    return manifest.read(section, manifest.Dialect("lhotse", convert=_row, elsewhere=_CWD))


def _row(cut: dict[str, Any]) -> dict[str, Any]:
    """One cut as flat columns."""
    recording = _mapping(cut.get("recording"))
    row = {"utterance_id": cut.get("id"), "recording_id": recording.get("id"), **described(cut)}
    try:
        row |= {"audio_uri": _file(cut, recording), **_times(cut, recording)}
    except AudioRejected as rejected:
        row |= dict(zip(manifest.REFUSAL, (str(rejected.reason), rejected.detail), strict=True))
    return dict.fromkeys(_COLUMNS) | row


def described(cut: Mapping[str, Any]) -> dict[str, Any]:
    """What the supervisions and the custom fields say. What supervisions do not agree on is null."""
    supervisions = [_mapping(one) for one in _sequence(cut.get("supervisions"))]
    supervisions.sort(key=lambda one: float(_number(one.get("start")) or 0.0))
    texts = [one["text"] for one in supervisions if isinstance(one.get("text"), str)]
    custom: dict[str, Any] = {}
    for fields in (*supervisions, cut):
        custom.update(_mapping(fields.get("custom")))
    row = {f"custom_{name}" if name in _COLUMNS else name: value for name, value in custom.items()}
    row["text"] = " ".join(texts) if texts else None
    for name in _SUPERVISED:
        values = {json.dumps(one.get(name)): one.get(name) for one in supervisions}
        row[name] = next(iter(values.values())) if len(values) == 1 else None
    return row


def _file(cut: Mapping[str, Any], recording: Mapping[str, Any]) -> str:
    """Path or URL of the one file that holds the cut's audio.

    Raises:
        AudioRejected: it is not simply in one file.
    """
    if "tracks" in cut or cut.get("type") not in (None, "MonoCut", "MultiCut", "Cut"):
        raise _not_read(f"a {cut.get('type', 'MixedCut')} is made of several; write its audio to a file first")
    sources = [_mapping(one) for one in _sequence(recording.get("sources"))]
    if not sources:
        raise AudioRejected(RejectReason.MISSING, "the cut has no recording")
    changes = [_mapping(one).get("name", one) for one in _sequence(recording.get("transforms"))]
    if changes := [name for name in changes if name != "Resample"]:
        raise _not_read(f"its recording is changed by {', '.join(map(str, changes))}; write its audio to a file first")
    kind, source = sources[0].get("type"), sources[0].get("source")
    if kind == "command":
        raise AudioRejected(RejectReason.FORBIDDEN, f"`{source}` is a command, and commands are never run")
    if kind not in ("file", "url") or not isinstance(source, str):
        raise _not_read(f"its audio is of the type {kind}; files and URLs are read")
    channels = [channel for one in sources for channel in _sequence(one.get("channels"))]
    wanted = cut.get("channel", 0)
    wanted = _sequence(wanted) if isinstance(wanted, list) else [wanted]
    if len(sources) > 1 or set(wanted) < set(channels):
        raise _not_read(f"channel {wanted} of {channels} cannot be chosen; write it to a file first")
    return source


def _times(cut: Mapping[str, Any], recording: Mapping[str, Any]) -> dict[str, float | None]:
    """Start and end, null where the cut is the whole recording.

    Raises:
        AudioRejected: they are no numbers.
    """
    start, duration, whole = (
        _number(v) for v in (cut.get("start", 0.0), cut.get("duration"), recording.get("duration"))
    )
    if start is None or duration is None:
        raise AudioRejected(
            RejectReason.BAD_SEGMENT, f"start ({cut.get('start')}) and duration ({cut.get('duration')}) must be numbers"
        )
    if start == 0 and whole is not None and abs(duration - whole) < _WHOLE_S:
        return {"duration_s": duration}
    return {"start_s": start, "end_s": start + duration, "duration_s": duration}


def _not_read(detail: str) -> AudioRejected:
    return AudioRejected(RejectReason.UNDECODABLE, detail)


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return cast(Sequence[Any], value) if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
