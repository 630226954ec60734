"""Tables set aside on this machine's disk, so that a source that is costly to read is read once, its rows often."""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator

import pyarrow as pa


class Spill:
    """Tables of any columns in a temporary file, which goes away with this object."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        handle, self._path = tempfile.mkstemp(prefix="w2vb-rows-")
        os.close(handle)
        weakref.finalize(self, os.unlink, self._path)
        self._num_tables = 0
        with pa.OSFile(self._path, "wb") as out:
            for table in tables:
                with pa.ipc.new_stream(out, table.schema) as stream:
                    stream.write_table(table)
                self._num_tables += 1

    def read(self) -> Iterator[pa.Table]:
        """The tables, in order."""
        with pa.OSFile(self._path) as file:
            for _ in range(self._num_tables):
                yield pa.ipc.open_stream(file).read_all()
