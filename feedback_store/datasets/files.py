"""Files of rows, in and out: JSON lines and Parquet, one row at a time.

Invariant: no file is held in memory, a JSON list excepted. Nothing here knows what the rows mean.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from feedback_store.errors import InvalidFeedbackError

Stream = io.BufferedReader | gzip.GzipFile
ROWS_IN_A_GROUP = 1_000  # of a Parquet file: what is in memory while it is written
_TEXT, _NUMBER, _FLAG, _MESSAGES = "text", "number", "flag", "messages"
_TYPES = {
    "weight": _NUMBER,
    "strength": _NUMBER,
    "propensity": _NUMBER,
    "label": _FLAG,
    "prompt": _MESSAGES,
    "chosen": _MESSAGES,
    "rejected": _MESSAGES,
    "completion": _MESSAGES,
    "messages": _MESSAGES,
}


class Malformed(NamedTuple):
    """Stands for a line that is no JSON document."""

    reason: str


def read_documents(path: Path) -> Iterator[tuple[int, Any]]:
    """Each document of a file with its number, from 1: its line, row, or place in a JSON list.

    Args:
        path: `.parquet`, or JSON lines or one JSON list, also as `.gz`.

    Raises:
        OSError: The file cannot be read.
        InvalidFeedbackError: It is not what its name says.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
        return
    with _opened(path) as stream:
        if stream.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
            yield from _read_list(stream, path)
        else:
            yield from parse_lines(stream)


def parse_lines(lines: Iterable[bytes | str]) -> Iterator[tuple[int, Any]]:
    """The document of each line that is not blank, or `Malformed`, with the line's number."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parsed(line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        yield number + 1, Malformed(f"the file is damaged from here on ({exc})")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON document a line; return how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Write rows with these columns in groups of `ROWS_IN_A_GROUP`; return how many."""
    import pyarrow as pa  # as large as the rest of the store together, so only where needed
    import pyarrow.parquet as pq

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {
        _TEXT: pa.string(),
        _NUMBER: pa.float64(),
        _FLAG: pa.bool_(),
        _MESSAGES: pa.list_(message),
    }
    schema = pa.schema([(name, types[_TYPES.get(name, _TEXT)]) for name in columns])
    count, source = 0, iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        while group := list(islice(source, ROWS_IN_A_GROUP)):
            out.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


@contextmanager
def _opened(path: Path) -> Iterator[Stream]:
    with path.open("rb") as raw:
        if path.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked


def _parsed(line: bytes | str) -> Any:
    try:
        text = line.decode("utf-8-sig") if isinstance(line, bytes) else line
        return json.loads(text)
    except UnicodeDecodeError as exc:
        return Malformed(f"not UTF-8 at byte {exc.start}")
    except ValueError as exc:
        return Malformed(f"not JSON: {exc}")
    except RecursionError:
        return Malformed("not JSON that can be read: nested too deeply")


def _read_list(stream: Stream, path: Path) -> Iterator[tuple[int, Any]]:
    try:
        documents = json.loads(stream.read().decode("utf-8-sig"))
    except (ValueError, RecursionError, EOFError, zlib.error) as exc:
        raise InvalidFeedbackError(
            f"{path} begins like a JSON list but is none ({exc}); give JSON lines or a whole list."
        ) from exc
    yield from enumerate(documents, start=1)


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=500):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as exc:
        raise InvalidFeedbackError(
            f"cannot read {path} as Parquet after row {number} ({exc}); give an undamaged file."
        ) from exc
