"""Files of rows, in: JSON lines, a JSON list, CSV, TSV and Parquet, packed or not.

What a file is, its first bytes say; only CSV and TSV go by their names. Invariants: a file that is
damaged or in no known encoding raises with its name and line; a row that cannot be read by itself
is `Malformed`; no file is held in memory, a JSON list or object excepted. Nothing here knows what
the rows mean.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from feedback_store.errors import InvalidFeedbackError

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_ARCHIVES = {b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)
_UNDECODED = re.compile("[\udc80-\udcff]")  # how a byte that is not UTF-8 is read
_MORE = ("{", "[", ",", ":")  # ends a line of a document that goes on
_TABLES = {".csv": ",;\t", ".tsv": "\t"}
_LONGEST_FIELD = 2**31 - 1  # characters of a field of CSV; replies are long
Stream = io.BufferedReader | gzip.GzipFile


class Malformed(NamedTuple):
    """Stands for a line that is no JSON document."""

    reason: str


def read_documents(path: Path) -> Iterator[tuple[int, Any]]:
    """Each document of a file with its number, from 1: its line, row, or place in a JSON list.

    NaN is read as null, and a date or time of Parquet as text.

    Args:
        path: Parquet, CSV, TSV, JSON lines, a JSON list or an object whose "data" is one; also
            packed by gzip; text is UTF-8, UTF-16 or UTF-32.

    Raises:
        OSError: The file cannot be read.
        InvalidFeedbackError: It is damaged, or not what its name says.
    """
    with path.open("rb") as raw:
        beginning = raw.peek(8)
        for magic, kind in _ARCHIVES.items():
            if beginning.startswith(magic):
                raise InvalidFeedbackError(f"{path} is packed by {kind}; unpack it first.")
        if beginning.startswith(_PARQUET) or path.suffix.lower() == ".parquet":
            yield from _read_parquet(path)
        else:
            with _unpacked(raw) as stream:
                yield from _read_text(stream, path)


def read_whole(path: Path) -> Iterator[tuple[int, Any]]:
    """The documents of a file that was read to its end before: damage raises before the first.

    Raises:
        OSError: The file cannot be read.
        InvalidFeedbackError: It is damaged somewhere, or not what its name says.
    """
    for _ in read_documents(path):
        pass
    return read_documents(path)


def parse_lines(lines: Iterable[str], *, start: int = 1) -> Iterator[tuple[int, Any]]:
    """The document of each line that is not blank, or `Malformed`, with the line's number."""
    for number, line in enumerate(lines, start=start):
        if line.strip():
            yield number, _parsed(line)


@contextmanager
def _unpacked(raw: io.BufferedReader) -> Iterator[Stream]:
    if not raw.peek(2).startswith(_GZIP):
        yield raw
        return
    with gzip.GzipFile(fileobj=raw) as stream:
        yield stream


def _read_text(stream: Stream, path: Path) -> Iterator[tuple[int, Any]]:
    """The documents of a text, whose damage is named with the line that it is in."""
    place = [0]
    try:
        encoding = json.detect_encoding(stream.peek(4)[:4])
        utf8 = encoding.startswith("utf-8")
        errors = "surrogateescape" if utf8 else "strict"
        delimiters = _delimiters(path)
        with io.TextIOWrapper(
            stream, "utf-8-sig" if utf8 else encoding, errors, newline=""
        ) as text:
            lines = _counted(text, path, place)
            if delimiters is not None:
                yield from _read_table(lines, delimiters, place)
            else:
                yield from _read_json(lines, path)
    except _DAMAGE as exc:
        raise InvalidFeedbackError(
            f"{path}:{place[0] + 1}: the file is damaged from here on ({exc}); give a whole one."
        ) from exc
    except UnicodeDecodeError as exc:
        raise _undecodable(path, place[0] + 1, exc.encoding) from exc
    except csv.Error as exc:
        raise InvalidFeedbackError(f"{path}:{place[0]}: not CSV ({exc}); mend the file.") from exc


def _counted(text: TextIO, path: Path, place: list[int]) -> Iterator[str]:
    """The lines of a text; `place` has the number of the one that was read last."""
    for line in text:
        place[0] += 1
        if not line.isascii() and _UNDECODED.search(line):
            raise _undecodable(path, place[0], "UTF-8")
        yield line


def _undecodable(path: Path, number: int, encoding: str) -> InvalidFeedbackError:
    return InvalidFeedbackError(f"{path}:{number}: not {encoding}; save the file as UTF-8.")


def _read_json(lines: Iterator[str], path: Path) -> Iterator[tuple[int, Any]]:
    """JSON lines; or one document over several lines, which is a list or has one."""
    skipped, first = 0, ""
    for first in lines:
        if first.strip():
            break
        skipped += 1
    if first.lstrip().startswith("[") or first.rstrip().endswith(_MORE):
        yield from enumerate(_rows_of(_document("".join(chain([first], lines)), path, skipped)), 1)
        return
    for number, document in parse_lines(chain([first], lines), start=skipped + 1):
        rows = _rows_of(document) if number == skipped + 1 else [document]
        yield from enumerate(rows, number)


def _document(text: str, path: Path, skipped: int) -> Any:
    try:
        return _decode(text)
    except (ValueError, RecursionError) as exc:
        line = skipped + (exc.lineno if isinstance(exc, json.JSONDecodeError) else 1)
        reason = "nested too deeply" if isinstance(exc, RecursionError) else exc
        raise InvalidFeedbackError(
            f"{path}:{line}: this begins like a JSON list or object but is none ({reason}); give "
            "JSON lines or a whole list."
        ) from exc


def _rows_of(document: Any) -> list[Any]:
    """The rows of a list, or of an object whose "data" is one; otherwise the document is a row."""
    if isinstance(document, list):
        return document
    rows = document.get("data") if isinstance(document, Mapping) else None
    is_wrapper = isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
    return rows if is_wrapper else [document]  # type: ignore[return-value]


def _parsed(line: str) -> Any:
    try:
        return _decode(line)
    except ValueError as exc:
        return Malformed(f"not JSON: {exc}")
    except RecursionError:
        return Malformed("not JSON that can be read: nested too deeply")


def _decode(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: None if name == "NaN" else float(name))


def _delimiters(path: Path) -> str | None:
    """What may part the columns of a table; None if the name is no table's."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return _TABLES.get(suffixes[-1]) if suffixes else None


def _read_table(
    lines: Iterator[str], delimiters: str, place: list[int]
) -> Iterator[tuple[int, Any]]:
    """The rows of a table by the names in its first line, each with the line that it begins in."""
    csv.field_size_limit(_LONGEST_FIELD)
    first = next(lines, "")
    delimiter = max(delimiters, key=first.count)
    table = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    names = next(table, [])
    number = place[0] + 1
    for row in table:
        if row:
            whole = len(row) == len(names)
            reason = f"{len(row)} fields, but the first line names {len(names)}"
            yield number, dict(zip(names, row, strict=True)) if whole else Malformed(reason)
        number = place[0] + 1


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa  # as large as the rest of the store together, so only where needed
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=500):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _plain(row)
    except (pa.ArrowException, ValueError, OSError) as exc:
        if isinstance(exc, (FileNotFoundError, PermissionError)):
            raise
        reason = " ".join(str(exc).split())
        raise InvalidFeedbackError(
            f"cannot read {path} as Parquet after row {number} ({reason}); give an undamaged file."
        ) from exc


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, (date, time_of_day)):  # a datetime is a date
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
