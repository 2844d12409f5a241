"""Files of rows, out: JSON lines, also packed, and Parquet, one row at a time.

Invariant: what is written is JSON that any reader takes: a number that is none is null.
"""

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any

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


def line_of(row: Mapping[str, Any]) -> str:
    """A row as one line of JSON, without its end."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]], *, packed: bool = False) -> int:
    """Write one JSON document a line; return how many."""
    count = 0
    with path.open("wb") as file, _packed(file) if packed else nullcontext(file) as out:
        for row in rows:
            out.write(f"{line_of(row)}\n".encode())
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
            out.write_table(pa.Table.from_pylist(list(map(_finite, group)), schema=schema))
            count += len(group)
    return count


def _packed(file: IO[bytes]) -> gzip.GzipFile:
    """Without a name and a time in it: the same rows are the same bytes."""
    return gzip.GzipFile("", "wb", fileobj=file, mtime=0)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
