"""The feed: a row for each thing that happens, in the order of the commits, and counts of votes.

Whoever follows the store keeps the number of the last row that it has dealt with. The rowids of the
votes would not do: VACUUM may renumber them, and the number of a deleted row is used again. Nor
would the ids: those of two processes, or after a clock was set back, are out of order. A file
never uses a number of the feed twice; a restored backup uses those again that the file has given
since. Only what happens here is noted; imports are not.
"""

from collections.abc import Mapping
from typing import Any

from sqlite_utils import Database

from feedback_store.sqlite.ids import utc_now

_THUMBS = {1: "up", -1: "down", 0: "withdrawn"}
_NOTE = "INSERT INTO feed (kind, about, at) VALUES (?, ?, ?)"
_COUNT = """INSERT INTO vote_counts (kind, said, votes) VALUES (?, ?, 1)
    ON CONFLICT (kind, said) DO UPDATE SET votes = votes + 1"""


def note_vote(db: Database, kind: str, row: Mapping[str, Any]) -> None:
    """Note and count a vote, in the transaction that stores it."""
    note(db, kind, row["id"])
    db.conn.execute(_COUNT, [kind, said_by(kind, row)])


def note(db: Database, kind: str, about: str | int) -> None:
    """Note that something happened: its kind, and the id of the row that says what."""
    db.conn.execute(_NOTE, [kind, str(about), utc_now()])


def said_by(kind: str, row: Mapping[str, Any]) -> str:
    """A vote in one word: of a thumb, a choice or a retry; other kinds have none."""
    if kind == "thumb":
        return _THUMBS[row["value"]]
    return str({"choice": row.get("choice"), "retry": row.get("than_before")}.get(kind) or "")
