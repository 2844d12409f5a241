"""Make a backup, verify it, remove old ones, note it; by the server when it is due, or a command.

Invariants: an older backup is removed only after a newer one was verified; whatever goes wrong is
an alarm, and the service goes on. One routine at a time works on a folder, in whichever process.
"""

import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from chat_app.errors import ChatAppError, RefusedError, StartError, log_fault
from chat_app.service.backups.checking import verify
from chat_app.service.backups.copying import back_up
from chat_app.service.backups.rotation import clean, name_of, rotate
from chat_app.settings import Settings
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import Alarm
from feedback_store.store import FeedbackStore

log = logging.getLogger(__name__)

BY = "the server"  # for the audit log
HOUR_S = 3600.0
STOP_SECONDS = 1.0  # that a stop of the server waits for a backup; the next process makes another


@dataclass(frozen=True, slots=True)
class MadeBackup:
    """A verified backup, what is in it, and the older ones that were removed."""

    folder: Path
    counts: dict[str, int]
    removed: tuple[Path, ...] = ()


def verified_backup(
    store: FeedbackStore, settings: Settings, folder: Path, *, by: str
) -> MadeBackup:
    """Make a backup in a new folder and verify it.

    Raises:
        RefusedError: The folder is not new, or its disk has too little room.
        StartError: It cannot be written.
        FeedbackStoreError: The store cannot be read, or its copy is damaged.
        ChatAppError: The backup stays where it is, but could not be restored as it is.
    """
    before = store.counts()
    back_up(store, settings, folder)
    counts = verify(store, settings, folder, before)
    store.note_verified_backup(str(folder.resolve()), by=by)
    return MadeBackup(folder, counts)


def run_routine(store: FeedbackStore, settings: Settings, *, by: str) -> MadeBackup:
    """Make a verified backup in the folder of backups, then remove those that it supersedes.

    Raises:
        RefusedError: Another process makes one at this moment.
        StartError: The folder cannot be used.
        ChatAppError: The backup failed; this was raised as an alarm, too.
        FeedbackStoreError: The same.
    """
    folder = settings.backup_folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            return _rotated(store, settings, by)
    except Timeout as exc:
        raise RefusedError(f"another process makes a backup in {folder}; wait for it") from exc
    except (ChatAppError, FeedbackStoreError) as exc:
        _raise_alarm(store, str(exc))
        raise
    except OSError as exc:
        text = f"cannot use the folder of backups {folder}: {exc.strerror or exc}"
        _raise_alarm(store, text)
        raise StartError(text) from exc


def _rotated(store: FeedbackStore, settings: Settings, by: str) -> MadeBackup:
    folder, keep = settings.backup_folder, settings.backups
    clean(folder)
    removed = list[Path]()
    try:
        made = verified_backup(store, settings, folder / name_of(datetime.now(UTC)), by=by)
    finally:  # also of those that could not be verified only the newest stays
        for path in rotate(folder, days=keep.keep_days, weeks=keep.keep_weeks):
            store.note_removed_backup(str(path.resolve()), by=by)
            removed.append(path)
    return replace(made, removed=tuple(removed))


def _raise_alarm(store: FeedbackStore, fault: str) -> None:
    """One alarm for each day on which backups fail."""
    text = f"there is no new backup: {fault}"
    try:
        store.raise_alarm(Alarm("backup", text), key=datetime.now(UTC).date().isoformat())
    except FeedbackStoreError as exc:
        log.error("an alarm cannot be stored: %s", exc)


class BackupSchedule:
    """Makes backups in a thread of its own, whenever the last verified one is old enough."""

    def __init__(self, store: FeedbackStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._not_before = 0.0  # on a monotonic clock; after a failure it waits
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backups", daemon=True)

    def begin(self) -> None:
        """Start, unless no backups are wanted."""
        if self._settings.backups.every_hours:
            self._thread.start()

    def end(self) -> None:
        """Stop; a backup that is half made never gets its name."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def check(self) -> None:
        """Make a backup if one is due; what goes wrong is an alarm, and tried again in an hour."""
        every_s = self._settings.backups.every_hours * HOUR_S
        if time.monotonic() < self._not_before or self._age_s() < every_s:
            return
        try:
            made = run_routine(self._store, self._settings, by=BY)
        except (ChatAppError, FeedbackStoreError) as exc:
            self._not_before = time.monotonic() + min(HOUR_S, every_s)
            log.error("there is no new backup: %s", exc)
        else:
            log.info("backup %s is verified; %d older removed", made.folder, len(made.removed))

    def _age_s(self) -> float:
        """Since the last verified backup, or without one since the store was made."""
        since = self._store.last_verified_backup() or self._store.made_at()
        return (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()

    def _run(self) -> None:
        while not self._end.wait(self._settings.schedule.poll_seconds):
            try:
                self.check()
            except Exception as exc:  # whatever it is, the next one is made
                self._not_before = time.monotonic() + HOUR_S
                log_fault(log, "backups cannot be made", exc)
