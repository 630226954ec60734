"""A Kaldi data folder (`wav.scp`, with or without `segments`, `text`, `utt2spk`, …) -> rows.

Utterances are those of `segments`, or the recordings of `wav.scp` where there is none. The other files give columns:
`text`, `speaker` from `utt2spk`, `language` from `utt2lang`, `gender` from `spk2gender`, and so `NAME` from any
`utt2NAME` or `spk2NAME`.
"""

import re
from typing import cast

import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import AudioRejected, RejectReason, SourceError
from w2vb_ray.source import columns, listed
from w2vb_ray.source.access import readable
from w2vb_ray.source.objects import Refusals
from w2vb_ray.source.peek import Peek
from w2vb_ray.source.rows import Rows, flat
from w2vb_ray.source.rxfilename import file_of

WAV_SCP = "wav.scp"
_LINE = r"^[ \t]*(?P<key>[^ \t\r]+)[ \t]*(?P<value>.*?)[ \t\r]*$"
_SEGMENT = (
    r"^(?P<recording_id>[^ \t]+)[ \t]+(?P<start_s>[^ \t]+)[ \t]+(?P<end_s>[^ \t]+)(?:[ \t]+(?P<channel>[^ \t]+))?$"
)
_BY_KEY = re.compile(r"(utt|spk)2(?!utt$)(\w+)")
_NAMES = {"spk": "speaker", "lang": "language", "dur": "duration_s"}
_CWD = "recipes of Kaldi write them as seen from the folder that they run in"


def recognises(peek: Peek) -> str | None:
    """By its `wav.scp`."""
    named = peek.uri.rpartition("/")[2] == WAV_SCP
    return f"its {WAV_SCP}" if named or peek.has(WAV_SCP) else None


def read(section: SourceSection) -> Rows:
    """Read the data folder at `source.uri`, which may also name its `wav.scp`.

    Raises:
        SourceError: no `wav.scp`, a file that is not UTF-8, or a malformed line.
    """
    uri = storage.normalise(section.uri)
    folder = uri.rpartition("/")[0] if uri.rpartition("/")[2] == WAV_SCP else uri
    names = _file_names(folder, section)
    if WAV_SCP not in names:
        raise SourceError(f"`source.uri`: {folder} holds no {WAV_SCP}, which a Kaldi data folder has.")
    recordings = _read(WAV_SCP, folder, section)
    utterances = _segments(folder, section) if "segments" in names else _whole(recordings)
    if not utterances.num_rows:
        raise SourceError(f"`source.uri`: the Kaldi data folder {folder} has no utterances.")
    audio = _audio(recordings, utterances)
    table = _with_columns(utterances.drop_columns(["channel"]), names, folder, section)
    fields = columns.map_fields(table.column_names, section, section.uri)
    fields.pop("audio", None)  # `wav.scp` has it
    found = listed.List(section, fields, folder, "kaldi", elsewhere=_CWD)
    rows = found.rows(table, audio["path"], Refusals(flat(audio["reason"]), flat(audio["detail"])))
    found.check()
    return rows


def _file_names(folder: str, section: SourceSection) -> list[str]:
    fs = storage.filesystem(folder, section.storage)
    with readable(folder):
        entries = cast(list[str], fs.ls(storage.fs_path(folder, fs), detail=False))
    return sorted(entry.rstrip("/").rpartition("/")[2] for entry in entries)


def _read(name: str, folder: str, section: SourceSection) -> pa.Table:
    """Lines of a file as `key` (its first word), `value` (the rest) and the number of the `line`."""
    uri = storage.join(folder, name)
    fs = storage.filesystem(uri, section.storage)
    with readable(uri):
        data = cast(bytes, fs.cat_file(storage.fs_path(uri, fs)))
    try:
        lines = pa.array(data.decode("utf-8-sig").split("\n"), pa.string())
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise SourceError(f"{uri}, line {line} is not UTF-8 ({err.reason}); convert the file to UTF-8.") from err
    cells = pc.extract_regex(lines, _LINE)  # null for a blank line
    table = pa.table(
        {
            "key": pc.struct_field(cells, ["key"]),
            "value": pc.struct_field(cells, ["value"]),
            "line": pa.array(range(1, len(lines) + 1)),
        }
    )
    return table.filter(pc.is_valid(table["key"]))


def _whole(recordings: pa.Table) -> pa.Table:
    nothing = pa.nulls(recordings.num_rows, pa.string())
    keys = recordings["key"]
    return pa.table({"utterance_id": keys, "recording_id": keys, "channel": nothing})


def _segments(folder: str, section: SourceSection) -> pa.Table:
    """`utterance_id recording_id start end [channel]`; an end below 0 is the recording's."""
    lines = _read("segments", folder, section)
    cells = pc.extract_regex(flat(lines["value"]), _SEGMENT)
    if cells.null_count:
        line = lines["line"].filter(pc.is_null(cells))[0].as_py()
        raise SourceError(
            f"{storage.join(folder, 'segments')}, line {line} is not `utterance recording start end` with times in s."
        )
    names = ("recording_id", "start_s", "end_s", "channel")
    columns = {name: pc.struct_field(cells, [name]) for name in names}
    to_the_end = pc.starts_with(columns["end_s"], "-")
    columns["end_s"] = pc.if_else(to_the_end, pa.scalar(None, pa.string()), columns["end_s"])
    columns["channel"] = pc.if_else(pc.equal(columns["channel"], ""), pa.scalar(None, pa.string()), columns["channel"])
    return pa.table({"utterance_id": lines["key"], **columns})


def _audio(recordings: pa.Table, utterances: pa.Table) -> pa.Table:
    """`path` of each utterance's recording, or `reason` and `detail` where it cannot be read."""
    files = [_file(value) for value in recordings["value"].to_pylist()]
    wanted = flat(utterances["recording_id"])
    where = pc.index_in(wanted, value_set=flat(recordings["key"]))
    path, reason, detail = (pa.array([file[i] for file in files], pa.string()).take(where) for i in range(3))
    unknown, channel = pc.is_null(where), flat(utterances["channel"])
    reason = pc.if_else(unknown, str(RejectReason.MISSING), reason)
    detail = pc.if_else(unknown, _join(f"{WAV_SCP} has no recording", wanted), detail)
    part = pc.and_(pc.is_valid(channel), pc.is_null(reason))
    reason = pc.if_else(part, str(RejectReason.UNDECODABLE), reason)
    detail = pc.if_else(part, _join("a single channel cannot be chosen, but `segments` asks for", channel), detail)
    return pa.table({"path": pc.fill_null(path, ""), "reason": reason, "detail": detail})


def _file(entry: str) -> tuple[str, str | None, str | None]:
    try:
        return file_of(entry), None, None
    except AudioRejected as rejected:
        return "", str(rejected.reason), rejected.detail


def _join(text: str, values: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(text, values, " ")


def _with_columns(utterances: pa.Table, names: list[str], folder: str, section: SourceSection) -> pa.Table:
    """The utterances with what the other files say of them, and of their speakers."""
    described = {name: found for name in names if (found := _BY_KEY.fullmatch(name))}
    if "text" in names:
        utterances = _add(utterances, "text", "utterance_id", _read("text", folder, section))
    for name in sorted(described, reverse=True):  # utt2spk before spk2gender
        key = "utterance_id" if described[name][1] == "utt" else "speaker"
        column = _NAMES.get(described[name][2], described[name][2])
        if key in utterances.column_names and column not in utterances.column_names:
            utterances = _add(utterances, column, key, _read(name, folder, section))
    return utterances


def _add(utterances: pa.Table, column: str, key: str, lines: pa.Table) -> pa.Table:
    where = pc.index_in(flat(utterances[key]), value_set=flat(lines["key"]))
    return utterances.append_column(column, flat(lines["value"]).take(where))
