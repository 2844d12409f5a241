"""Alarms: what operators should hear of, and what is left to send.

Whoever finds trouble raises an alarm; who sends it is another process, perhaps, and a later one.
Invariants: an alarm is raised once, by its kind and key; two processes never send it at the same
time. This module does not decide what is trouble, and sends nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from feedback_store.records import ALARM_KINDS, Alarm, RaisedAlarm
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.feed import note
from feedback_store.sqlite.ids import iso_utc, utc_now
from feedback_store.sqlite.rows import one_of, rows, scalar, to_record

_RAISE = """INSERT INTO alarms
    (kind, key, text, value, "limit", cycle_id, raised_at, next_try_at)
    VALUES (:kind, :key, :text, :value, :limit, :cycle_id, :now, :now)
    ON CONFLICT (kind, key) DO NOTHING"""
_DUE = "SELECT * FROM alarms WHERE next_try_at <= ? ORDER BY id LIMIT 1"
_PUT_OFF = "UPDATE alarms SET tries = tries + 1, next_try_at = ? WHERE id = ?"
_WATCHED = "watched_cycle"  # in the bookkeeping


class Alarms:
    """The alarms of a store."""

    _file: SQLiteFile

    def raise_alarm(self, alarm: Alarm, *, key: str, cycle_id: int | None = None) -> bool:
        """Raise an alarm, unless one of this kind and key was raised before.

        Args:
            alarm: What an operator should hear of.
            key: What it is about, such as the cycle's number.
            cycle_id: The cycle that it is about, if any.

        Returns:
            Whether it is new.
        """
        one_of(alarm.kind, ALARM_KINDS, "the kind of an alarm")
        row = {
            "kind": alarm.kind,
            "key": key,
            "text": alarm.text,
            "value": alarm.value,
            "limit": alarm.limit,
            "cycle_id": cycle_id,
            "now": utc_now(),
        }
        with self._file.write() as db:
            raised = db.execute(_RAISE, row)
            if raised.rowcount:
                note(db, "alarm", scalar(db, "SELECT last_insert_rowid()"))
            return bool(raised.rowcount)

    def alarms(self, *, since: str = "", after: int = 0, limit: int = 50) -> list[RaisedAlarm]:
        """The latest alarms, oldest first.

        Args:
            since: Those raised at this time or later.
            after: Those with a larger id.
            limit: How many at most.
        """
        sql = "SELECT * FROM alarms WHERE raised_at >= ? AND id > ? ORDER BY id DESC LIMIT ?"
        with self._file.read() as db:
            found = [to_record(RaisedAlarm, row) for row in rows(db, sql, [since, after, limit])]
        return found[::-1]

    def alarm_counts(self) -> dict[str, int]:
        """How many alarms of each kind were raised, 0 included."""
        sql = "SELECT kind, count(*) AS n FROM alarms GROUP BY kind"
        with self._file.read() as db:
            found = {row["kind"]: row["n"] for row in rows(db, sql)}
        return {kind: found.get(kind, 0) for kind in ALARM_KINDS}

    def last_tried_alarm(self) -> int:
        """The id of the latest alarm that somebody sent or tried to send; 0 if there is none."""
        with self._file.read() as db:
            return int(scalar(db, "SELECT coalesce(max(id), 0) FROM alarms WHERE tries > 0"))

    def take_alarm(self, waits: Sequence[timedelta]) -> RaisedAlarm | None:
        """Take the oldest alarm that is due to be sent, and put its next try off.

        So if the process dies while it sends the alarm, another one sends it later.

        Args:
            waits: From each try to the next one; there are no more tries after these.

        Returns:
            The alarm, this try counted; None if none is due.
        """
        now = datetime.now(UTC)
        with self._file.write() as db:
            found = rows(db, _DUE, [iso_utc(now)])
            if not found:
                return None
            row = found[0]
            wait = next(iter(waits[row["tries"] :]), None)
            db.execute(_PUT_OFF, [None if wait is None else iso_utc(now + wait), row["id"]])
            return to_record(RaisedAlarm, row | {"tries": row["tries"] + 1})

    def note_sent(self, alarm_id: int) -> None:
        """Note that nothing of an alarm is left to send."""
        with self._file.write() as db:
            db.execute("UPDATE alarms SET next_try_at = NULL WHERE id = ?", [alarm_id])

    def watched_cycle(self) -> int:
        """The latest cycle that was watched for trouble; 0 if there is none."""
        sql = "SELECT coalesce(max(value), 0) FROM bookkeeping WHERE name = ?"
        with self._file.read() as db:
            return int(scalar(db, sql, [_WATCHED]))

    def note_watched(self, cycle_id: int) -> None:
        """Note that all alarms of a cycle, and of those before it, are raised."""
        sql = "UPDATE bookkeeping SET value = max(value, ?) WHERE name = ?"
        with self._file.write() as db:
            db.execute(sql, [cycle_id, _WATCHED])
