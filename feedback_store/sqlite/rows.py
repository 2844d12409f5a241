"""Between records and rows: JSON columns, and the few calls that every vote needs to be quick.

Tuples, lists and dicts are stored as JSON text. A record type says by its fields what a row needs;
columns that it lacks (such as `superseded_at`) are left out.

What is rare uses the table calls of sqlite-utils, such as `db.table("audit").delete(...)`. These
look the schema up each time: an insert takes 250 µs there and 6 µs here, a look-up by id 280 and 5,
and a whole vote 150.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlite_utils import Database

from feedback_store.errors import InvalidFeedbackError, UnknownRecordError, say
from feedback_store.sqlite.ids import utc_now

Row = dict[str, Any]
Record = TypeVar("Record")

_LISTS = {"tags", "prompt", "reasons", "event_ids"}  # become tuples
_DICTS = {"sampling", "metrics", "config"}
_FLAGS = {"held_out", "good", "gateway", "pinned"}


def encode(value: Any) -> Any:
    """Turn a field's value into one that a column can hold."""
    if not isinstance(value, (dict, list, tuple)):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InvalidFeedbackError(
            f"{value!r} cannot be stored as JSON ({exc}); use plain finite values."
        ) from exc


def decode(row: Mapping[str, Any]) -> Row:
    """Turn the JSON columns of a row back into values."""
    return {name: _decoded(name, value) for name, value in row.items()}


def to_record(cls: type[Record], row: Mapping[str, Any]) -> Record:
    """Build a record from a row, or from any mapping with its fields."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: _decoded(name, row[name]) for name in names if name in row})


def stream(
    db: Database, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> Iterator[Row]:
    """The rows of a query as dictionaries, one at a time."""
    cursor = db.conn.execute(sql, parameters)
    names = [column[0] for column in cursor.description]
    for values in cursor:
        yield dict(zip(names, values, strict=True))


def rows(db: Database, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
    """All rows of a query as dictionaries."""
    return list(stream(db, sql, parameters))


def first(db: Database, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Row | None:
    """The first row of a query, if any."""
    return next(iter(rows(db, sql, parameters)), None)


def scalar(db: Database, sql: str, parameters: Sequence[Any] = ()) -> Any:
    """The one value of a query that has exactly one."""
    return db.conn.execute(sql, parameters).fetchone()[0]


def insert(db: Database, table: str, row: Mapping[str, Any]) -> None:
    """Insert one row, encoding what needs it."""
    insert_many(db, table, [row])


def insert_many(db: Database, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that have the same columns."""
    if not rows:
        return
    columns = ", ".join(f'"{name}"' for name in rows[0])
    places = ", ".join(f":{name}" for name in rows[0])
    values = ({name: encode(value) for name, value in row.items()} for row in rows)
    db.conn.executemany(f'INSERT INTO "{table}" ({columns}) VALUES ({places})', values)


def audit(db: Database, action: str, **detail: Any) -> None:
    """Record an act that somebody may have to answer for, but no text of a chat."""
    insert(db, "audit", {"at": utc_now(), "action": action, "detail": detail})


def require(db: Database, table: str, record_id: str | int, *, key: str = "id") -> Row:
    """The row with this id.

    Raises:
        UnknownRecordError: There is none.
    """
    row = first(db, f'SELECT * FROM "{table}" WHERE "{key}" = ?', [record_id])
    if row is None:
        raise UnknownRecordError(
            say(
                "there is no {id} among {things}; check the id.",
                id=repr(record_id),
                things=f"the {table}",
            )
        )
    return row


def one_of(value: Any, allowed: Collection[Any], what: str) -> None:
    """Check a value against a closed list.

    Raises:
        InvalidFeedbackError: It is not in the list.
    """
    if value not in allowed:
        choices = ", ".join(repr(item) for item in allowed)
        raise InvalidFeedbackError(
            say(
                "{what} cannot be {value}; use one of {choices}.",
                what=what,
                value=repr(value),
                choices=choices,
            )
        )


def not_negative(value: float | None, what: str) -> None:
    """Check an optional measure.

    Raises:
        InvalidFeedbackError: It is negative or not a finite number.
    """
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise InvalidFeedbackError(
            say(
                "{what} cannot be {value}; use a number of 0 or more.", what=what, value=repr(value)
            )
        )


def _decoded(name: str, value: Any) -> Any:
    if isinstance(value, str) and name in _DICTS:
        return json.loads(value)
    if name in _LISTS and value is not None:
        return tuple(json.loads(value) if isinstance(value, str) else value)
    if name in _FLAGS:
        return bool(value)
    if name == "order":
        groups = json.loads(value) if isinstance(value, str) else value
        return tuple(tuple(group) for group in groups)
    return value
