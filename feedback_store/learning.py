"""Comparisons in the store: kept in step with the events, counted, and traced back to raters.

`comparisons` is a cache of `derive_comparisons` over all standing events, with one addition: a
comparison that a cycle has learnt from stays, marked as withdrawn, when its events no longer stand.
What a person said without consent to its use is derived and kept, but never handed out.
"""

import json
from typing import Any

from sqlite_utils import Database

from feedback_store.comparisons import Evidence, derive_comparisons
from feedback_store.database import SQLiteFile
from feedback_store.events import (
    CONSENTED,
    EVENT_TABLES,
    current_choices,
    current_demonstrations,
    current_rankings,
    current_thumbs,
)
from feedback_store.ids import utc_now
from feedback_store.records import Comparison, Message
from feedback_store.rows import Row, decode, insert, one_of, require, rows, scalar, to_record

_DERIVATION = 2  # raise it when comparisons.py changes, so that stores derive afresh

# What a failed or refused cycle looked at has taught nothing, so it is still unused.
_UNUSED = """NOT EXISTS (
    SELECT 1 FROM cycle_comparisons JOIN cycles ON cycles.id = cycle_comparisons.cycle_id
    WHERE cycle_comparisons.comparison_id = comparisons.id
    AND cycles.state IN ('running', 'promoted', 'rejected'))"""

_USABLE = f"""FROM comparisons JOIN raters ON raters.id = comparisons.rater_id
    WHERE withdrawn_at IS NULL AND {CONSENTED}"""

_MESSAGES_SPOKEN_OF = """SELECT * FROM messages WHERE conversation_id IN (
    SELECT conversation_id FROM messages WHERE id IN (
        SELECT message_id FROM thumbs
        UNION SELECT message_id FROM demonstrations WHERE message_id IS NOT NULL
        UNION SELECT prompt_message_id FROM candidates))"""

_COUNTS = f"""SELECT
    (SELECT count(*) FROM raters) AS raters,
    (SELECT count(*) FROM messages) AS messages,
    (SELECT count(*) FROM thumbs WHERE superseded_at IS NULL AND value <> 0) AS thumbs,
    (SELECT count(*) FROM choices WHERE superseded_at IS NULL) AS choices,
    (SELECT count(*) FROM demonstrations WHERE superseded_at IS NULL) AS demonstrations,
    (SELECT count(*) {_USABLE}) AS comparisons,
    (SELECT count(*) {_USABLE} AND {_UNUSED}) AS unused_comparisons"""


class Learning:
    """Comparisons, counts and receipts of a store."""

    _file: SQLiteFile

    def refresh_comparisons(self) -> int:
        """Bring the comparisons in step with the events; return how many are new."""
        with self._file.read() as db:
            if _derived_state(db) == _event_state(db):
                return 0
        with self._file.write() as db:
            return derive_afresh(db)

    def comparisons(self, *, split: str | None = None, unused: bool = False) -> list[Comparison]:
        """Comparisons that may be learnt from, sorted by id, as of the last refresh.

        Args:
            split: Only "train" or only "held_out".
            unused: Leave out what a cycle has learnt from.
        """
        one_of(split, (None, "train", "held_out"), "the split")
        sql = f"""SELECT comparisons.*, (
                SELECT json_group_array(event_id) FROM (
                    SELECT event_id FROM comparison_events
                    WHERE comparison_id = comparisons.id ORDER BY event_id)) AS event_ids
            {_USABLE} AND (:split IS NULL OR split = :split)
            {"AND " + _UNUSED if unused else ""} ORDER BY comparisons.id"""
        with self._file.read() as db:
            return [to_record(Comparison, row) for row in rows(db, sql, {"split": split})]

    def counts(self) -> dict[str, int]:
        """How much there is: what stands of the feedback, what may be used of the comparisons."""
        with self._file.read() as db:
            return rows(db, _COUNTS)[0]

    def feedback_of(self, rater_id: str) -> list[dict[str, Any]]:
        """A rater's receipts: each event, oldest first, with its comparisons and their cycles."""
        with self._file.read() as db:
            require(db, "raters", rater_id)
            receipts = [
                {"event": name, **decode(row), "comparisons": _uses(db, row["id"])}
                for name, table in EVENT_TABLES.items()
                for row in rows(db, f"SELECT * FROM {table} WHERE rater_id = ?", [rater_id])
            ]
        return sorted(receipts, key=lambda receipt: (receipt["created_at"], receipt["id"]))


def derive_afresh(db: Database) -> int:
    """Make the comparisons what the events imply; return how many are new."""
    implied = {item.id: item for item in derive_comparisons(_evidence(db))}
    sql = "SELECT id, weight, split, withdrawn_at FROM comparisons"
    stored = {row["id"]: row for row in rows(db, sql)}
    for comparison_id in stored.keys() - implied.keys():
        _withdraw(db, comparison_id)
    for comparison_id, comparison in implied.items():
        if comparison_id not in stored:
            row = {name: getattr(comparison, name) for name in Comparison.__dataclass_fields__}
            insert(db, "comparisons", {k: v for k, v in row.items() if k != "event_ids"})
            continue
        before, now = stored[comparison_id], (comparison.weight, comparison.split)
        if before["withdrawn_at"] or (before["weight"], before["split"]) != now:
            db.conn.execute(
                "UPDATE comparisons SET weight = ?, split = ?, withdrawn_at = NULL WHERE id = ?",
                [*now, comparison_id],
            )
    db.conn.executemany(
        "INSERT INTO comparison_events VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(item.id, event_id) for item in implied.values() for event_id in item.event_ids],
    )
    db.conn.execute(
        "INSERT INTO bookkeeping VALUES ('derived_from', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [_event_state(db)],
    )
    return len(implied.keys() - stored.keys())


def _withdraw(db: Database, comparison_id: str) -> None:
    sql = "SELECT count(*) FROM cycle_comparisons WHERE comparison_id = ?"
    if scalar(db, sql, [comparison_id]):
        db.conn.execute(
            "UPDATE comparisons SET withdrawn_at = ? WHERE id = ? AND withdrawn_at IS NULL",
            [utc_now(), comparison_id],
        )
    else:
        db.conn.execute("DELETE FROM comparisons WHERE id = ?", [comparison_id])


def _evidence(db: Database) -> Evidence:
    return Evidence(
        choices=current_choices(db),
        rankings=current_rankings(db),
        thumbs=current_thumbs(db),
        demonstrations=current_demonstrations(db),
        messages={row["id"]: to_record(Message, row) for row in rows(db, _MESSAGES_SPOKEN_OF)},
    )


def _event_state(db: Database) -> str:
    """A text that changes whenever an event is added: superseding one adds one, too."""
    tables = EVENT_TABLES.values()
    return json.dumps([_DERIVATION, *(scalar(db, f"SELECT count(*) FROM {t}") for t in tables)])


def _derived_state(db: Database) -> str | None:
    sql = "SELECT max(value) FROM bookkeeping WHERE name = 'derived_from'"
    state = scalar(db, sql)
    return None if state is None else str(state)


def _uses(db: Database, event_id: str) -> list[Row]:
    """The comparisons of an event, with the cycles that used each."""
    sql = """SELECT id, label, source, split, withdrawn_at, (
            SELECT json_group_array(cycle_id) FROM (
                SELECT cycle_id FROM cycle_comparisons
                WHERE comparison_id = comparisons.id ORDER BY cycle_id)) AS cycles
        FROM comparison_events JOIN comparisons ON comparisons.id = comparison_id
        WHERE event_id = ? ORDER BY id"""
    return [{**row, "cycles": json.loads(row["cycles"])} for row in rows(db, sql, [event_id])]
