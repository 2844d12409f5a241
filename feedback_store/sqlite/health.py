"""Checks of a store: what is damaged, and what an operator should know about it.

Nothing is written. Damage is what complete writes cannot lead to: broken pages, references to
nothing, candidates without their replies, comparisons without their texts.
"""

from typing import Any

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.sqlite.database import SQLiteFile, settings_of
from feedback_store.sqlite.migrations import MIGRATIONS
from feedback_store.sqlite.rows import rows

_IS_MESSAGE = "EXISTS (SELECT 1 FROM messages WHERE messages.id = {0})"
_IS_TEXT = (
    f"({_IS_MESSAGE} OR EXISTS (SELECT 1 FROM demonstrations WHERE demonstrations.id = {{0}}))"
)
_WITHOUT_TEXTS = f"""
    SELECT 'comparison ' || id AS what FROM comparisons
    WHERE NOT ({_IS_MESSAGE.format("prompt_id")}
        AND {_IS_TEXT.format("a")} AND {_IS_TEXT.format("b")})
    UNION ALL
    SELECT 'judgement ' || id FROM unpaired
    WHERE NOT ({_IS_MESSAGE.format("prompt_id")} AND {_IS_MESSAGE.format("unpaired.message_id")})"""
_TORN = """SELECT candidates.id, count(messages.id) AS replies
    FROM candidates LEFT JOIN messages ON messages.candidates_id = candidates.id
    GROUP BY candidates.id HAVING count(messages.id) < 2"""


class Health:
    """Checks of a store."""

    _file: SQLiteFile

    def verify(self) -> list[str]:
        """Read the whole file and say what is damaged; an empty list means nothing is."""
        with self._file.long_read() as db:
            return damage_of(db)

    @property
    def saves(self) -> bool:
        """Whether the last write was saved; false while the disk is full."""
        return self._file.saves

    def condition(self) -> dict[str, Any]:
        """What an operator should know about the database.

        Returns:
            `sqlite` (version of the library), `schema` (the last migration), `settings` (pragmas of
            the writing connection), `file_bytes`, `wal_bytes`, and `stale` (how many pairs of a
            rater and a prompt wait to be derived again).
        """
        with self._file.read() as db:
            schema = max(migration.name for migration in MIGRATIONS.applied(db))
            stale = db.table("stale_prompts").count
        with self._file.maintenance() as db:
            settings = settings_of(db)
        wal = self._file.path.with_name(f"{self._file.path.name}-wal")
        return {
            "sqlite": sqlite3.sqlite_version,
            "schema": schema,
            "settings": settings,
            "file_bytes": self._file.path.stat().st_size,
            "wal_bytes": wal.stat().st_size if wal.exists() else 0,
            "stale": stale,
        }


def damage_of(db: Database) -> list[str]:
    """What is damaged, one line each, on an open connection."""
    damage = [row["integrity_check"] for row in rows(db, "PRAGMA integrity_check")]
    orphans = rows(db, "PRAGMA foreign_key_check")
    return [
        *(text for text in damage if text != "ok"),
        *(
            f"row {row['rowid']} of {row['table']} refers to a missing one in {row['parent']}"
            for row in orphans
        ),
        *(f"candidates {row['id']} have {row['replies']} replies" for row in rows(db, _TORN)),
        *(f"{row['what']} refers to texts that are missing" for row in rows(db, _WITHOUT_TEXTS)),
    ]
