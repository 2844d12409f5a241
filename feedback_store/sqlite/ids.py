"""Ids and times: UUIDv7 text that grows within a process, and UTC with milliseconds.

Two ids made by one process are in the order in which they were made, even within a millisecond;
between processes they are in order as far as the clock is.
"""

import secrets
import threading
import time
import uuid
from datetime import UTC, datetime

_lock = threading.Lock()
_last_tick = 0


def new_id() -> str:
    """Make a UUIDv7.

    Source:
        RFC 9562, section 5.7, with method 3 of section 6.2: the 12 bits after the milliseconds
        are the fraction of the millisecond.
    """
    global _last_tick
    with _lock:
        _last_tick = tick = max(time.time_ns() * 4096 // 1_000_000, _last_tick + 1)
    milliseconds, fraction = tick >> 12, tick & 0xFFF
    value = milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def utc_now() -> str:
    """The time as ISO 8601 text in UTC with milliseconds."""
    return iso_utc(datetime.now(UTC))


def iso_utc(time_utc: datetime) -> str:
    """A time as the store writes it, so that it can be compared with those in the database."""
    return time_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
