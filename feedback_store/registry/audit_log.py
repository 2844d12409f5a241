"""The audit log as operators read it: newest first, page by page.

Entries are written in the transaction of what they tell (`rows.audit`); nothing here writes.
"""

import json

from feedback_store.records import AuditEntry
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import Row, rows

_PAGE = """SELECT * FROM audit WHERE id < coalesce(:before, id + 1)
    AND (:action IS NULL OR action = :action) ORDER BY id DESC LIMIT :limit"""
_FORCED = """SELECT * FROM audit WHERE action = 'serve' AND detail ->> 'forced' ORDER BY id"""


class AuditLog:
    """The audit log of a store."""

    _file: SQLiteFile

    def audit_log(
        self, *, before: int | None = None, action: str | None = None, limit: int = 50
    ) -> list[AuditEntry]:
        """Entries of the audit log, newest first.

        Args:
            before: Those older than the entry with this id.
            action: Those of one kind, such as "serve".
            limit: How many at most.
        """
        given = {"before": before, "action": action, "limit": limit}
        with self._file.read() as db:
            return [_entry(row) for row in rows(db, _PAGE, given)]

    def forced(self) -> dict[str, AuditEntry]:
        """By adapter, the last time that one was served against the gate's verdict."""
        with self._file.read() as db:
            entries = [_entry(row) for row in rows(db, _FORCED)]
        return {entry.detail["adapter"]: entry for entry in entries}


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(**row | {"detail": json.loads(row["detail"])})
