"""Some clips of the sample inside tars and tables, as other people's tools lay them out."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from . import jobs

AUDIO = pa.struct({"bytes": pa.binary(), "path": pa.string()})
Row = dict[str, str]


def clips(num: int = 4, languages: Iterable[str] = ("bel", "eng", "jpn")) -> list[Row]:
    rows = jobs.sample_rows()
    return [row for language in languages for row in [row for row in rows if row["language"] == language][:num]]


def audio(row: Row) -> bytes:
    return (jobs.SAMPLE / row["path"]).read_bytes()


def tar(members: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return memory.getvalue()


def webdataset(rows: list[Row]) -> bytes:
    members: dict[str, bytes] = {}
    for row in rows:
        members[row["path"]] = audio(row)
        members[row["path"].rpartition(".")[0] + ".json"] = json.dumps(
            {"text": row["text"], "clip": row["path"]}
        ).encode()
    return tar(members)


def parquet(rows: list[Row], row_group_size: int = 3) -> bytes:
    memory = io.BytesIO()
    cells = [{"bytes": audio(row), "path": row["path"]} for row in rows]
    columns = {name: [row[name] for row in rows] for name in ("text", "language")}
    columns["clip"] = [row["path"] for row in rows]
    pq.write_table(pa.table({"audio": pa.array(cells, AUDIO), **columns}), memory, row_group_size=row_group_size)
    return memory.getvalue()


def shar(folder: Path, rows: list[Row]) -> None:
    cuts, members = [], {}
    for row in rows:
        name, suffix = row["path"].replace("/", "-").rsplit(".", 1)
        supervision = {"id": name, "start": 0, "duration": 1.0, "text": row["text"], "language": row["language"]}
        cut = {"id": name, "start": 0, "duration": 1.0, "type": "MonoCut", "custom": {"clip": row["path"]}}
        cuts.append({**cut, "supervisions": [supervision]})
        members |= {f"{name}.{suffix}": audio(row), f"{name}.json": b"{}"}
    lines = "".join(json.dumps(cut) + "\n" for cut in cuts)
    (folder / "cuts.000000.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "recording.000000.tar").write_bytes(tar(members))
