"""Versions: the policy adapters that were ever served, as people count them.

The number of an adapter says nothing to people: a rejected one takes a number, too. A version is
what they met. Invariant: a version keeps its number for good, since rows of `serving` are only
added.
"""

from feedback_store.records import Serving
from feedback_store.sqlite.database import SQLiteFile
from feedback_store.sqlite.rows import rows, to_record


class Versions:
    """The versions of a store."""

    _file: SQLiteFile

    def versions(self) -> dict[str, int]:
        """The number of each policy adapter that was ever served, by when it first was, from 1.

        The starting policy is version 1. One that is served again keeps its number.
        """
        names = dict.fromkeys(serving.adapter for serving in self.servings())
        return {name: number for number, name in enumerate(names, start=1)}

    def servings(self) -> list[Serving]:
        """What was served since when, oldest first; a rollback is one more."""
        # By the primary key: a row a promotion, and no other index is needed.
        with self._file.read() as db:
            found = rows(db, 'SELECT adapter, previous, since, "by" FROM serving ORDER BY id')
        return [to_record(Serving, row) for row in found]
