"""The one way to SQLite: open, migrate, and run reads and writes as transactions.

Invariants: every write is part of a `BEGIN IMMEDIATE` transaction, by `SQLiteFile.write` or `run`;
every read sees one snapshot, by `SQLiteFile.read`; each commit is flushed to disk before it is
acknowledged (WAL with synchronous=FULL). One writing and one reading connection serve all threads
of a process, so readers never wait for a write or for another process. How writers take turns is in
`group_commit`. There is no SQL about feedback here.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # pysqlite3, if there

from feedback_store.errors import (
    ConflictError,
    FeedbackStoreError,
    InvalidFeedbackError,
    StoreOpenError,
    StoreUnavailableError,
    say,
)
from feedback_store.sqlite.group_commit import GroupCommit, Result
from feedback_store.sqlite.migrations import APPLICATION_ID, MIGRATIONS, known_migrations

# 3.7.0-3.51.2 can corrupt a WAL database when a checkpoint meets a restarting writer.
OLDEST_SAFE_SQLITE = (3, 51, 3)
BUSY_TIMEOUT_MS = 30_000
CACHE_KIB = 32 * 2**10  # at most, for each connection; less, and a long write spills its pages
MIGRATION_TIMEOUT_S = 60
# Set on every connection and read back: a library built without one of them says nothing.
_SETTINGS = {
    "foreign_keys": 1,
    "synchronous": 2,  # FULL: a commit is flushed before it is acknowledged
    "secure_delete": 1,
    "trusted_schema": 0,
    "journal_size_limit": 64 * 2**20,
}


class SQLiteFile:
    """One database file, opened, checked and migrated; safe to share between threads.

    Attributes:
        saves: Whether the last write was saved; false while the disk is full.
    """

    saves = True

    def __init__(self, path: Path, *, allow_old_sqlite: bool = False) -> None:
        _check_library(allow_old_sqlite)
        self.path = path
        self._reader_lock = threading.Lock()
        self._writer = self._open()
        self._reader = self.connect(read_only=True)
        self._group = GroupCommit(self._writer, self._lock_path, patience_s=BUSY_TIMEOUT_MS / 1000)

    def connect(self, *, read_only: bool = False) -> Database:
        """Open one more connection with the settings that all of them share."""
        connection = sqlite3.connect(
            str(self.path),
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,  # transactions are begun here, never by the driver
            check_same_thread=False,
        )
        db = Database(connection, execute_plugins=False)
        wanted = _settings(read_only)
        for name, value in wanted.items():
            db.conn.execute(f"PRAGMA {name} = {value}")
        db.conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _check_settings(db, self.path, wanted | {"busy_timeout": BUSY_TIMEOUT_MS})
        return db

    @contextlib.contextmanager
    def write(self) -> Iterator[Database]:
        """Run a block as one transaction; inside another one, as part of it.

        When this returns, the block is on disk. The block must not wait for a thread that writes.
        """
        with self._noted(), translated(self.path), self._group.transaction() as db:
            yield db

    def run(self, work: Callable[[Database], Result]) -> Result:
        """Like `write` round `work`, but threads that do so at the same moment share one commit.

        Work must be short, and must not wait for a thread that writes: any of these may do it.
        """
        with self._noted(), translated(self.path):
            return self._group.run(work)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Remember whether a write could be saved, for whoever asks how the store does."""
        try:
            yield
        except StoreUnavailableError:
            self.saves = False
            raise
        self.saves = True

    @contextlib.contextmanager
    def read(self) -> Iterator[Database]:
        """Run a block against one snapshot; inside a write, against that write."""
        if self._group.mine:
            yield self._writer
            return
        with self._reader_lock, translated(self.path), _snapshot(self._reader) as db:
            yield db

    @contextlib.contextmanager
    def long_read(self) -> Iterator[Database]:
        """Like `read`, on a connection of its own: others need not wait while rows are streamed."""
        connecting = contextlib.closing(self.connect(read_only=True))
        with translated(self.path), connecting as db, _snapshot(db):
            yield db

    @contextlib.contextmanager
    def maintenance(self) -> Iterator[Database]:
        """The writing connection outside any transaction, as VACUUM and checkpoints need it."""
        with translated(self.path), self._group.exclusive() as db, self._reader_lock:
            yield db

    def close(self) -> None:
        """Close both connections; the last process to do so folds the log into the file."""
        with self.maintenance():
            self._reader.close()
            self._writer.close()
            self._group.close()

    @property
    def _lock_path(self) -> str:
        return f"{self.path}.lock"

    def _open(self) -> Database:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock_path, timeout=MIGRATION_TIMEOUT_S):
                return self._migrated()
        except Timeout as exc:
            raise StoreOpenError(
                f"another process has been migrating {self.path} for over "
                f"{MIGRATION_TIMEOUT_S} s; wait until it has finished, then try again."
            ) from exc
        except StoreOpenError:
            raise
        except OSError as exc:
            raise StoreOpenError(
                f"cannot write to {self.path} ({exc.strerror or exc}); "
                "choose a data directory that this user may write to."
            ) from exc
        except sqlite3.DatabaseError as exc:
            raise StoreOpenError(
                f"cannot open {self.path} as a feedback database ({exc}); "
                "choose another data directory or restore a backup."
            ) from exc

    def _migrated(self) -> Database:
        # Conversations are private, so the file is its owner's only; WAL and SHM inherit the mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        db = self.connect()
        try:
            _check_file(db, self.path)
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise StoreOpenError(
                    f"{self.path} cannot use a write-ahead log (journal mode is '{mode}'); "
                    "put the data directory on a local disk."
                )
            if MIGRATIONS.pending(db):
                # One transaction round all of them: a kill leaves the old schema, never a half.
                with _immediate(db):
                    MIGRATIONS.apply(db)
        except BaseException:
            db.close()
            raise
        return db


class FollowedFile(SQLiteFile):
    """A database file that is there and is only read: nothing is made, migrated or locked.

    Raises:
        StoreOpenError: It is not a store of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader_lock = threading.Lock()
        with translated(path):
            self._reader = self.connect(read_only=True)
            _check_file(self._reader, path)
            if MIGRATIONS.pending(self._reader):
                self.close()
                raise StoreOpenError(
                    f"{path} was written by an earlier version; run `feedback-chat status` on its "
                    "directory, which brings it up to date, then try again."
                )

    @contextlib.contextmanager
    def read(self) -> Iterator[Database]:
        """Run a block against one snapshot."""
        with self._reader_lock, translated(self.path), _snapshot(self._reader) as db:
            yield db

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def _check_library(allow_old_sqlite: bool) -> None:
    if sqlite3.sqlite_version_info < OLDEST_SAFE_SQLITE and not allow_old_sqlite:
        raise StoreOpenError(
            f"SQLite {sqlite3.sqlite_version} can corrupt a database that several processes write; "
            "install pysqlite3>=0.6.1, or set allow_old_sqlite to take the risk."
        )


def _settings(read_only: bool) -> dict[str, int]:
    # Old libraries count the full-text index as unsafe to use in a trigger.
    old = {"trusted_schema": 1} if sqlite3.sqlite_version_info < OLDEST_SAFE_SQLITE else {}
    return {**_SETTINGS, **old, "query_only": int(read_only)}


def settings_of(db: Database) -> dict[str, Any]:
    """The settings of a connection, by the names of the pragmas."""
    names = (*_SETTINGS, "busy_timeout", "query_only", "journal_mode")
    return {name: (db.execute(f"PRAGMA {name}").fetchone() or [None])[0] for name in names}


def _check_settings(db: Database, path: Path, wanted: Mapping[str, int]) -> None:
    found = settings_of(db)
    for name, value in wanted.items():
        if found[name] != value:
            db.close()
            raise StoreOpenError(
                f"SQLite {sqlite3.sqlite_version} does not take {name} = {value} for {path} (it "
                f"says {found[name]!r}), so nothing would be safe; install pysqlite3>=0.6.1."
            )


def _check_file(db: Database, path: Path) -> None:
    """Refuse another program's file, or one of a newer version, before anything is written."""
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not tables:
        return
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreOpenError(
            f"{path} is a SQLite database, but not a feedback database; "
            "choose another data directory."
        )
    applied = {migration.name for migration in MIGRATIONS.applied(db)}
    unknown = applied - known_migrations()
    if unknown:
        raise StoreOpenError(
            f"{path} was written by a newer version (it has migration '{max(unknown)}'); "
            "upgrade feedback-chat, or use another data directory."
        )


@contextlib.contextmanager
def _immediate(db: Database) -> Iterator[None]:
    """Take the write lock at once: upgrading a read later fails as "locked" under load."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


@contextlib.contextmanager
def _snapshot(db: Database) -> Iterator[Database]:
    try:
        db.rollback()  # what an interrupted read may have left open
        db.execute("BEGIN")
        yield db
    finally:
        db.rollback()


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the driver's errors into the store's, with the file and what to do."""
    try:
        yield
    except FeedbackStoreError:
        raise
    except sqlite3.IntegrityError as exc:
        raise ConflictError(
            say(
                "{file} refused a record that contradicts another ({reason}); nothing was saved.",
                file=path,
                reason=exc,
            )
        ) from exc
    except sqlite3.DatabaseError as exc:
        raise StoreUnavailableError(
            f"{path} did not answer ({exc}); nothing was saved, try again."
        ) from exc
    except OverflowError as exc:
        raise InvalidFeedbackError(
            say("a whole number needs more than 64 bits; send one below 2**63.")
        ) from exc
    except UnicodeEncodeError as exc:
        raise InvalidFeedbackError(
            say(
                "text with an unpaired surrogate at position {place} cannot be stored; send valid "
                "Unicode.",
                place=exc.start,
            )
        ) from exc
