"""What must never be embedded again: hashes of ids, audio URIs and column values under `<sink.uri>/_forgotten/`.

Written when somebody has data erased, read by every plan. The list itself names nothing: it holds SHA-256 of column
and value, which hides them from whoever reads it, though not from whoever can guess one and hash it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from w2vb_ray import storage
from w2vb_ray.arrow import pc
from w2vb_ray.errors import SinkError
from w2vb_ray.source import Batch

FOLDER = "_forgotten"
ID = "utterance_id"


def fingerprint(column: str, value: str) -> str:
    """What stands in the list for a value of a column; the case of the column's name does not matter, as in Delta."""
    return hashlib.sha256(f"w2vb.forgotten\0{column.lower()}\0{value}".encode()).hexdigest()


class Forgotten:
    """The list of one sink.

    Args:
        fingerprints: column, in lower case -> fingerprints of its values.
    """

    def __init__(self, fingerprints: Mapping[str, set[str]]) -> None:
        self._fingerprints = fingerprints

    @classmethod
    def read(cls, sink_uri: str, options: Mapping[str, Any]) -> "Forgotten":
        """The whole list; empty where nothing was ever erased.

        Raises:
            SinkError: a part of the list cannot be understood, and planning without it would embed what must not be.
        """
        folder = storage.join(sink_uri, FOLDER)
        filesystem = storage.filesystem(folder, options)
        root = storage.fs_path(folder, filesystem)
        found: dict[str, set[str]] = {}
        for path in filesystem.find(root) if filesystem.exists(root) else []:
            if not path.endswith(".json"):
                continue
            try:
                for column, fingerprints in dict(json.loads(filesystem.cat_file(path))["fingerprints"]).items():
                    found.setdefault(column, set()).update(fingerprints)
            except (ValueError, KeyError, TypeError) as err:
                raise SinkError(f"{path} must be a list of what was forgotten, but is not; restore it") from err
        return cls(found)

    def missing(self, values: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """Fingerprints of the values of each column that are not in the list yet; columns without any left out."""
        new = {
            column.lower(): sorted({fingerprint(column, value) for value in of_column} - self._of(column))
            for column, of_column in values.items()
        }
        return {column: fingerprints for column, fingerprints in new.items() if fingerprints}

    def without(self, batch: Batch) -> tuple[Batch, int]:
        """Leave out the rows of a batch that are in the list, and say how many they are."""
        rows = batch.table
        masks = [self._mask(name, rows[name]) for name in rows.column_names if self._of(name)]
        if self._of(ID) and batch.repeated:  # `<id>#<number>` stands for the same id
            masks.append(self._mask(ID, pc.replace_substring_regex(rows[ID], r"#\d+$", "")))
        forgotten = np.logical_or.reduce(masks) if masks else np.zeros(rows.num_rows, bool)
        if not forgotten.any():
            return batch, 0
        return batch.take(np.flatnonzero(~forgotten)), int(forgotten.sum())

    def _of(self, column: str) -> set[str]:
        return self._fingerprints.get(column.lower(), set())

    def _mask(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """(N,) whether each value is in the list. Chunk by chunk: the ids of a corpus are many."""
        known = self._of(name)
        masks: list[np.ndarray] = []
        for chunk in column.chunks:
            coded = as_text(chunk).dictionary_encode(null_encoding="encode")
            hits = [value is not None and fingerprint(name, value) in known for value in coded.dictionary.to_pylist()]
            masks.append(np.array(hits, bool)[coded.indices.to_numpy()])
        return np.concatenate(masks) if masks else np.zeros(0, bool)


NOTHING = Forgotten({})


def is_comparable(kind: pa.DataType) -> bool:
    """Whether values of a type can be named in a list of text: text and whole numbers."""
    return pa.types.is_string(kind) or pa.types.is_integer(kind)


def as_text(column: Any) -> Any:
    """Values as they are named in a list; null where a type has no such name."""
    return column.cast(pa.string()) if is_comparable(column.type) else pa.nulls(len(column), pa.string())


def write_forgotten(
    sink_uri: str, options: Mapping[str, Any], run_id: str, fingerprints: Mapping[str, list[str]]
) -> None:
    """Add a part to the list; it holds from the next plan on."""
    uri = storage.join(sink_uri, FOLDER, f"{run_id}.json")
    storage.write_atomic(uri, (json.dumps({"fingerprints": fingerprints}, indent=1) + "\n").encode(), options)
