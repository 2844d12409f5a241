"""`FeedbackStore`: everything that people said and every adapter and cycle, in one SQLite file.

Several processes may open the same file, and several threads may share one store. What a method has
returned is on disk; what has raised is not. The parts are in modules of their own: `conversations`
(raters and messages), `events` (feedback), `learning` (comparisons), `exchange` (in, out, forget),
`registry` (adapters and cycles).
"""

import os
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from feedback_store.conversations import Conversations
from feedback_store.database import SQLiteFile, translated
from feedback_store.errors import (
    ConflictError,
    FeedbackStoreError,
    StoreOpenError,
    StoreUnavailableError,
)
from feedback_store.events import Events
from feedback_store.exchange import Exchange
from feedback_store.ids import new_id
from feedback_store.registry import Registry
from feedback_store.rows import rows


class FeedbackStore(Conversations, Events, Exchange, Registry):
    """The store in the file `path`, made if it is not there.

    Raises:
        StoreOpenError: The file cannot be used; the message says why and what to do.
    """

    def __init__(self, path: Path | str, *, allow_old_sqlite: bool = False) -> None:
        if str(path) == ":memory:":
            raise StoreOpenError("a store in memory would not last; give the path of a file.")
        self._file = SQLiteFile(Path(path), allow_old_sqlite=allow_old_sqlite)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._file.close()

    def backup(self, path: Path | str) -> None:
        """Write a complete copy of this moment to a new file, while others go on writing.

        Raises:
            ConflictError: The file exists.
            StoreUnavailableError: The directory cannot be written, or is full.
        """
        target = Path(path)
        partial = target.with_name(f"{target.name}.{new_id()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT, 0o600))  # private from the start
            with translated(partial), closing(self._file.connect()) as db:
                db.execute("VACUUM INTO ?", [str(partial)])
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            _publish(partial, target)
        except FeedbackStoreError:
            raise
        except OSError as exc:
            raise StoreUnavailableError(
                f"cannot write the backup {target} ({exc.strerror}); choose another directory."
            ) from exc
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def verify(self) -> list[str]:
        """Read the whole file and say what is damaged; an empty list means nothing is."""
        with self._file.long_read() as db:
            damage = [row["integrity_check"] for row in rows(db, "PRAGMA integrity_check")]
            orphans = rows(db, "PRAGMA foreign_key_check")
        return [text for text in damage if text != "ok"] + [
            f"row {row['rowid']} of {row['table']} refers to a missing one in {row['parent']}"
            for row in orphans
        ]


def _publish(partial: Path, target: Path) -> None:
    """Give a finished file its name; unlike a rename, this never replaces another backup."""
    try:
        os.link(partial, target)
    except FileExistsError as exc:
        raise ConflictError(f"{target} exists; choose another name for the backup.") from exc
