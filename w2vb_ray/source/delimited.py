"""CSV and TSV -> tables of strings, block by block, or an error that names the line.

pyarrow reads; Python's `csv` reads the header and, once something is wrong, finds the line.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import pyarrow as pa
import pyarrow.csv as pa_csv

from w2vb_ray.errors import SourceError

_BLOCK_BYTES = 16 * 1024**2  # a longer row is malformed
_EMPTY = "Empty CSV file"  # so pyarrow calls a header without a line end


@dataclass(frozen=True)
class Delimited:
    """UTF-8 text with a header line: one string column per header cell; empty cells are empty strings."""

    open: Callable[[], pa.NativeFile]
    """Opens the file at its beginning; it may have a byte order mark, LF or CRLF."""
    name: str
    """What errors call it."""
    delimiter: str
    quoted: bool
    """RFC 4180 quotes; else a quote character is data."""

    @cached_property
    def header(self) -> list[str]:
        """Cells of the first line that is not empty; none where there is no such line.

        Raises:
            SourceError: not UTF-8.
        """
        try:
            return next((row for row, _ in self._rows() if row), [])
        except (UnicodeDecodeError, csv.Error) as err:
            raise self._malformed(err) from err

    def blocks(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The rows, all columns unless named.

        Raises:
            SourceError: not UTF-8, a row with more or fewer cells than the header, or a quote that never closes.
        """
        if not self.header:
            return
        if self.quoted and self._num_quotes() % 2:  # may be an inch sign; may be a cell that swallows the rest
            self._check_last_quote()
        try:
            with self.open() as file, self._reader(file, columns) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        except pa.ArrowInvalid as err:
            if _EMPTY not in str(err):
                raise self._malformed(err) from err

    def _reader(self, file: pa.NativeFile, columns: list[str] | None) -> pa_csv.CSVStreamingReader:
        return pa_csv.open_csv(
            file,
            pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
            pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if self.quoted else False,
                double_quote=self.quoted,
                newlines_in_values=self.quoted,
            ),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(self.header, pa.string()),
                strings_can_be_null=False,
                include_columns=columns,
            ),
        )

    def _rows(self, *, strict: bool = False) -> Iterator[tuple[list[str], int]]:
        """Cells and the number of the last line of each row."""
        with self.open() as file:
            text = io.TextIOWrapper(cast(Any, file), encoding="utf-8-sig", newline="")
            quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
            reader = csv.reader(text, delimiter=self.delimiter, quoting=quoting, strict=strict)
            for row in reader:
                yield row, reader.line_num

    def _num_quotes(self) -> int:
        with self.open() as file:
            return sum(block.count(b'"') for block in iter(partial(file.read, _BLOCK_BYTES), b""))

    def _check_last_quote(self) -> None:
        line = 0
        try:
            for _, last_line in self._rows(strict=True):
                line = last_line
        except csv.Error as err:
            if "end of data" in str(err):
                raise SourceError(f"{self.name}, line {line + 1}: a quote opens in this row and never closes.") from err
        except UnicodeDecodeError:
            return  # the reader reports it, with its line

    def _malformed(self, err: Exception) -> SourceError:
        if (bad := self._not_utf8()) is not None:
            return bad
        header: list[str] = []
        try:
            for row, line in self._rows():
                header = header or row
                if row and len(row) != len(header):
                    return SourceError(
                        f"{self.name}, line {line} has {len(row)} cells, but the header has {len(header)}."
                    )
        except csv.Error as bad:
            return SourceError(f"{self.name} is malformed: {bad}.")
        return SourceError(f"{self.name} is malformed: {err}.")

    def _not_utf8(self) -> SourceError | None:
        with self.open() as file:
            for number, line in enumerate(_buffered(file), start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as bad:
                    return SourceError(
                        f"{self.name}, line {number} is not UTF-8 ({bad.reason}); convert the file to UTF-8."
                    )
        return None


def _buffered(file: pa.NativeFile) -> io.BufferedReader:
    return io.BufferedReader(cast(Any, file))


def parse(data: bytes, name: str, *, delimiter: str, quoted: bool) -> pa.Table:
    """The whole of a file in memory; see `Delimited`."""
    table = Delimited(lambda: pa.BufferReader(data), name, delimiter, quoted)
    empty = pa.table({cell: pa.array([], pa.string()) for cell in table.header})
    return pa.concat_tables([empty, *table.blocks()])
