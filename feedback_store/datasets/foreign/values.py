"""What stands in a column, whatever wrote the file: flags, numbers, times, names, JSON as text.

A table that went through pandas, Parquet or CSV has 1.0 for 1, "True" for true, NaN or "" for
nothing and a text for a list. Each function here takes what plainly says the same and raises
`InvalidFeedbackError` for everything else; nothing is guessed.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from feedback_store.errors import InvalidFeedbackError
from feedback_store.sqlite.ids import iso_utc

LONGEST_NAME = 100
_WITH_POINT = re.compile(r"(-?\d+)\.0+\Z")  # such a number, written into CSV
_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
# Seconds since 1970 are below 1e11 until the year 5138; more is a smaller unit.
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))


def missing(value: Any) -> bool:
    """Whether a value stands for nothing: null, NaN, an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def given(document: Any, name: str) -> Any:
    """A field of a document; None if it is not there, or stands for nothing.

    Raises:
        InvalidFeedbackError: The document is no object.
    """
    if not isinstance(document, Mapping):
        raise InvalidFeedbackError(f"{shown(document)} is no JSON object")
    value = document.get(name)
    return None if missing(value) else value


def required(document: Any, name: str, *kinds: type) -> Any:
    """A field of a document, of one of these types.

    Raises:
        InvalidFeedbackError: It is missing, or something else.
    """
    given(document, name)
    if name not in document:
        raise InvalidFeedbackError(f"there is no {name!r}")
    value = document[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise _refused(name, value)
    return value


def flag(document: Any, name: str) -> bool | None:
    """True or false, however it is written; None if nothing is said."""
    value = given(document, name)
    if value is None:
        return None
    said = _FLAGS.get(str(value).strip().casefold()) if _is_plain(value) else None
    if said is None:
        raise _refused(name, value)
    return said


def number(document: Any, name: str) -> float | None:
    """A finite number, None if nothing is said."""
    value = given(document, name)
    if value is None:
        return None
    found = _number(value)
    if found is None:
        raise _refused(name, value)
    return found


def whole(document: Any, name: str) -> int | None:
    """A whole number, also one with ".0"; None if nothing is said."""
    found = number(document, name)
    if found is not None and not found.is_integer():
        raise _refused(name, document[name])
    return None if found is None else int(found)


def name_of(document: Any, name: str) -> str | None:
    """What identifies something: a short text or a whole number; None if nothing is said.

    12 and 12.0 are the same name, since a column of numbers with a gap has become one of floats.
    """
    value = given(document, name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (bool, float)) or not _is_plain(value):
        raise _refused(name, value)
    if isinstance(value, int) and abs(value) >= 10**LONGEST_NAME:  # Python would not write it
        raise _refused(name, value)
    found = _WITH_POINT.sub(r"\1", str(value))
    if len(found) > LONGEST_NAME:
        raise _refused(name, value)
    return found


def required_name(document: Any, name: str) -> str:
    """What identifies something, which has to be there."""
    found = name_of(document, name)
    if found is None:
        raise _refused(name, required(document, name, object))
    return found


def text(document: Any, name: str) -> str:
    """A text; empty if nothing is said."""
    value = given(document, name)
    return "" if value is None else str(required(document, name, str))


def structured(value: Any) -> Any:
    """A list or an object, if the value is one written as JSON; otherwise the value itself."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def utc(value: Any) -> str | None:
    """A time (ISO 8601, seconds or milliseconds since 1970) as the store writes it."""
    if missing(value):
        return None
    try:
        time = value if isinstance(value, datetime) else _time(value)
        aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError) as exc:
        raise InvalidFeedbackError(f"{shown(value)} is no time") from exc
    return iso_utc(aware)


def shown(value: Any) -> str:
    """A value in a few characters, as a reason may quote it."""
    try:
        said = repr(value)
    except ValueError:  # a number of more digits than Python writes
        said = "a number of very many digits"
    return said if len(said) <= 40 else f"{said[:37]}..."


def _time(value: Any) -> datetime:
    since = _number(value)
    if since is None:
        return datetime.fromisoformat(value)
    unit = next((unit for least, unit in _UNITS if abs(since) >= least), 1.0)
    return datetime.fromtimestamp(since / unit, UTC)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not _is_plain(value):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))


def _refused(name: str, value: Any) -> InvalidFeedbackError:
    return InvalidFeedbackError(f"{name!r} cannot be {shown(value)}")
