"""Backups of a store: made while others write, restored only if they are whole.

Invariants: a backup or a restored store gets its name when it is complete and flushed to disk; only
its owner may read it; no existing file is replaced.

`VACUUM INTO` copies one snapshot, so all tables are of the same moment. SQLite's backup API starts
again whenever another process writes between two of its steps, and it copies free pages too.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.errors import (
    ConflictError,
    FeedbackStoreError,
    StoreOpenError,
    StoreUnavailableError,
)
from feedback_store.registry.cycles import end_cycle_of_copy
from feedback_store.sqlite.database import SQLiteFile, translated
from feedback_store.sqlite.health import damage_of
from feedback_store.sqlite.migrations import APPLICATION_ID
from feedback_store.training_data import counts_of
from feedback_store.whole_files import name_new, new_file

_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = slice(68, 72)  # in the header; sqlite.org/fileformat.html, section 1.3
_BESIDE = ("-wal", "-shm", ".lock")  # files that SQLite and the lock keep beside a database


class Backups:
    """Backup and restore of a store."""

    _file: SQLiteFile

    def backup(self, path: Path | str) -> dict[str, int]:
        """Write a complete copy of this moment to a new file, while others may write.

        Returns:
            The `counts` of the copy.

        Raises:
            ConflictError: The file exists.
            StoreUnavailableError: The directory cannot be written, or is full.
        """
        with (
            _new_file(Path(path), "the backup") as partial,
            translated(partial),
            closing(self._file.connect()) as db,
        ):
            db.execute("VACUUM INTO ?", [str(partial)])
            return _counts_of_copy(partial)

    @staticmethod
    def restore(
        backup: Path | str, target: Path | str, *, allow_old_sqlite: bool = False
    ) -> dict[str, int]:
        """Make a store at `target` from a backup, and check all of it.

        Args:
            backup: A file that `backup` wrote; it is only read. The new store has the present
                schema, also if the backup is of an older version.
            target: A path that does not exist.
            allow_old_sqlite: Accept a SQLite that has the WAL-reset bug.

        Returns:
            The `counts` of the new store.

        Raises:
            ConflictError: `target` exists, or `backup` is a store in use.
            StoreOpenError: `backup` is damaged, is no backup, or is of a newer version.
            StoreUnavailableError: The directory cannot be written, or is full.
        """
        backup, target = Path(backup), Path(target)
        _check_backup(backup)
        with _new_file(target, "the restored store") as partial:
            shutil.copyfile(backup, partial)
            try:
                damage, counts = _examined(partial, allow_old_sqlite)
            except StoreOpenError as exc:
                raise StoreOpenError(str(exc).replace(str(partial), str(backup))) from exc
            if damage:
                raise StoreOpenError(
                    f"{backup} is damaged ({damage[0]}); restore a backup that is whole."
                )
        return counts


def _check_backup(backup: Path) -> None:
    """Refuse a file that is no feedback database; an empty one would look like a new store."""
    wal = Path(f"{backup}-wal")
    try:
        with backup.open("rb") as file:
            header = file.read(100)
        in_use = wal.exists() and wal.stat().st_size > 0
    except OSError as exc:
        raise StoreOpenError(
            f"cannot read the backup {backup} ({exc.strerror}); restore a backup that is there."
        ) from exc
    found = int.from_bytes(header[_APPLICATION_ID_AT], "big")
    if not header.startswith(_MAGIC) or found != APPLICATION_ID:
        raise StoreOpenError(
            f"cannot open {backup} as a feedback database (it is none, or is cut off); "
            "restore a backup that is whole."
        )
    if in_use:
        raise ConflictError(
            f"{backup} is in use or was not closed (it has a write-ahead log), so its file alone "
            "is incomplete; make a backup of it and restore that."
        )


def _counts_of_copy(copy: Path) -> dict[str, int]:
    """The counts of a finished copy; `immutable` makes SQLite leave no files beside it."""
    uri = f"{copy.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return counts_of(Database(connection, execute_plugins=False))


def _examined(partial: Path, allow_old_sqlite: bool) -> tuple[list[str], dict[str, int]]:
    """Migrate a copy and read all of it; return what is damaged, and the counts."""
    file = SQLiteFile(partial, allow_old_sqlite=allow_old_sqlite)
    try:
        with file.long_read() as db:
            damage = damage_of(db)
        if damage:
            return damage, {}
        with file.write() as db:
            end_cycle_of_copy(db)
        with file.read() as db:
            return [], counts_of(db)
    finally:
        file.close()


@contextmanager
def _new_file(target: Path, what: str) -> Iterator[Path]:
    """A file to fill; it gets its name when it is whole, and never replaces another file."""
    try:
        _require_free(target)
        with new_file(target, lambda partial: name_new(partial, target)) as partial:
            try:
                yield partial
            finally:
                for suffix in _BESIDE:
                    Path(f"{partial}{suffix}").unlink(missing_ok=True)
    except FeedbackStoreError:
        raise  # some of these are OSErrors too, with a better message
    except FileExistsError as exc:
        raise ConflictError(f"{target} exists; choose another name, or move it away.") from exc
    except OSError as exc:
        raise StoreUnavailableError(
            f"cannot write {what} {target} ({exc.strerror}); choose another directory."
        ) from exc


def _require_free(target: Path) -> None:
    """Refuse an existing file now; SQLite would apply an old write-ahead log to the new one."""
    for path in (target, *(Path(f"{target}{suffix}") for suffix in ("-wal", "-shm"))):
        if path.exists():
            raise ConflictError(f"{path} exists; choose another name, or move it away.")
