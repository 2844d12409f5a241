"""Documents of a file, brought together by a key: for formats that scatter what belongs together.

A temporary SQLite database holds them, which is gone with the object; memory holds one group.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there


class Spool:
    """Documents with their numbers, to be had again by key."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file that SQLite deletes
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE documents (key TEXT, number INTEGER, document TEXT)")
        self._db.execute("BEGIN")

    def add(self, key: str, number: int, document: Any) -> None:
        """Keep a JSON document under a key."""
        row = (key, number, json.dumps(document))
        self._db.execute("INSERT INTO documents VALUES (?, ?, ?)", row)

    def groups(self) -> Iterator[tuple[int, list[Any]]]:
        """The documents of each key in their order, with the number of the first of them."""
        sql = "SELECT key, number, document FROM documents ORDER BY key, number"
        for _, rows in groupby(self._db.execute(sql), key=lambda row: row[0]):
            found = list(rows)
            yield found[0][1], [json.loads(document) for _, _, document in found]

    def close(self) -> None:
        """Give the disk space back."""
        self._db.close()
