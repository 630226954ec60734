"""CSV and TSV bytes -> a table of strings, or an error that names the line.

pyarrow reads; Python's `csv` reads the header and, once something is wrong, finds the line.
"""

import csv
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv as pa_csv

from w2vb_ray.errors import SourceError

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 64 * 1024**2


def parse(data: bytes, name: str, *, delimiter: str, quoted: bool) -> pa.Table:
    """UTF-8 text with a header line -> one string column per header cell; empty cells are empty strings.

    Args:
        data: the whole file, with or without a byte order mark, LF or CRLF.
        name: what errors call it.
        delimiter: between cells.
        quoted: RFC 4180 quotes; else a quote character is data.

    Raises:
        SourceError: not UTF-8, a row with more or fewer cells than the header, or a quote that never closes.
    """
    if not data.removeprefix(_BOM).strip():
        return pa.table({})
    if data[-1:] != b"\n":
        data += b"\n"  # pyarrow takes a header without a line end for an empty file
    if quoted and data.count(b'"') % 2:  # may be an inch sign; may be a cell that swallows the rest of the file
        _check_last_quote(data, name, delimiter)
    try:
        header = next(row for row, _ in _rows(data, delimiter, quoted) if row)
        return _read(data, header, delimiter, quoted)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as err:
        raise _malformed(data, name, delimiter, quoted, err) from err


def _read(data: bytes, header: list[str], delimiter: str, quoted: bool) -> pa.Table:
    return pa_csv.read_csv(
        pa.BufferReader(data),
        pa_csv.ReadOptions(block_size=min(len(data) + 1, _BLOCK_BYTES)),
        pa_csv.ParseOptions(
            delimiter=delimiter, quote_char='"' if quoted else False, double_quote=quoted, newlines_in_values=quoted
        ),
        pa_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
    )


def _rows(data: bytes, delimiter: str, quoted: bool, strict: bool = False) -> Iterator[tuple[list[str], int]]:
    """Cells and the number of the last line of each row."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=strict)
    for row in reader:
        yield row, reader.line_num


def _check_last_quote(data: bytes, name: str, delimiter: str) -> None:
    line = 0
    try:
        for _, last_line in _rows(data, delimiter, quoted=True, strict=True):
            line = last_line
    except csv.Error as err:
        if "end of data" in str(err):
            raise SourceError(f"{name}, line {line + 1}: a quote opens in this row and never closes.") from err
    except UnicodeDecodeError:
        return  # the reader reports it, with its line


def _malformed(data: bytes, name: str, delimiter: str, quoted: bool, err: Exception) -> SourceError:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as bad:
        line = data.count(b"\n", 0, bad.start) + 1
        return SourceError(f"{name}, line {line} is not UTF-8 ({bad.reason}); convert the file to UTF-8.")
    header: list[str] = []
    try:
        for row, line in _rows(data, delimiter, quoted):
            header = header or row
            if row and len(row) != len(header):
                return SourceError(f"{name}, line {line} has {len(row)} cells, but the header has {len(header)}.")
    except csv.Error as bad:
        return SourceError(f"{name} is malformed: {bad}.")
    return SourceError(f"{name} is malformed: {err}.")
