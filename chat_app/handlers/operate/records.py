"""What was done and what went wrong: the audit log, alarms, copies of the data."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chat_app.handlers.operate.guarded import require
from chat_app.identity import OPERATOR
from chat_app.service.backups.routine import verified_backup
from chat_app.service.chat import ChatService
from feedback_store.errors import Sentence, say
from feedback_store.records import AuditEntry, RaisedAlarm

PAGE = 40
ALARMS = 100


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One act: who did it, and its details in one line."""

    id: int
    at: str
    action: str
    by: str
    about: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the audit log; `more` is where the next one begins, None at the end."""

    lines: tuple[AuditLine, ...]
    more: int | None


@dataclass(frozen=True, slots=True)
class AlarmsView:
    """Alarms, newest first: `open` since the last cycle began, and those of before."""

    open: tuple[RaisedAlarm, ...]
    past: tuple[RaisedAlarm, ...]
    sent_to: str  # "webhook", "command", or empty: they are shown only


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of the data directory, or an export; `bytes` is None if it is gone by now."""

    kind: str
    path: str
    at: str
    bytes: int | None


@dataclass(frozen=True, slots=True)
class BackupsView:
    """All copies but those that the rotation removed, newest first, and where a new one goes.

    `by_itself` is whether the server makes backups; `verified_at` when the last one was verified.
    """

    copies: tuple[Backup, ...]
    folder: str
    by_itself: bool
    verified_at: str | None


class Records:
    """The records of a service."""

    def __init__(self, service: ChatService) -> None:
        self._service = service

    def audit(self, before: int | None = None, *, allowed: bool) -> AuditPage:
        """The audit log, newest first, page by page."""
        require(allowed)
        found = self._service.store.audit_log(before=before, limit=PAGE + 1)
        more = found[PAGE - 1].id if len(found) > PAGE else None
        return AuditPage(tuple(map(_line, found[:PAGE])), more)

    def alarms(self, *, allowed: bool) -> AlarmsView:
        """The alarms since the last cycle began, and those of before."""
        require(allowed)
        store, alerts = self._service.store, self._service.settings.alerts
        cycle = store.last_cycle()
        since = "" if cycle is None else cycle.started_at
        found = store.alarms(limit=ALARMS)[::-1]
        return AlarmsView(
            open=tuple(alarm for alarm in found if alarm.raised_at >= since),
            past=tuple(alarm for alarm in found if alarm.raised_at < since),
            sent_to="webhook" if alerts.webhook else "command" if alerts.command else "",
        )

    def backups(self, *, allowed: bool) -> BackupsView:
        """The copies of the data that were noted."""
        require(allowed)
        copies = [
            Backup(copy.kind, copy.path, copy.at, _size(Path(copy.path)))
            for copy in self._service.store.copies()
        ]
        return BackupsView(
            copies=tuple(reversed(copies)),
            folder=str(self._folder),
            by_itself=bool(self._service.settings.backups.every_hours),
            verified_at=self._service.store.last_verified_backup(),
        )

    def back_up(self, *, allowed: bool, by: str = OPERATOR) -> Sentence:
        """Copy the data directory into a new folder, which no rotation removes."""
        require(allowed)
        folder = self._folder / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
        verified_backup(self._service.store, self._service.settings, folder, by=by)
        self._service.store.note_act("backed_up", by=by, folder=folder.name)
        return say("The data is backed up in {folder}.", folder=str(folder))

    @property
    def _folder(self) -> Path:
        return self._service.settings.backup_folder.resolve()


def _line(entry: AuditEntry) -> AuditLine:
    detail = {name: value for name, value in entry.detail.items() if value not in (None, "", [])}
    by = str(detail.pop("by", ""))
    told = (f"{name.replace('_', ' ')}: {_value(value)}" for name, value in detail.items())
    return AuditLine(entry.id, entry.at, entry.action, by, "; ".join(told))


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _size(path: Path) -> int | None:
    """The bytes of a file, or of all files in a folder; None if it is gone."""
    try:
        if path.is_file():
            return path.stat().st_size
        if not path.is_dir():
            return None
        return sum(
            entry.stat().st_size
            for folder, _, files in os.walk(path)
            for entry in (Path(folder, name) for name in files)
        )
    except OSError:
        return None
