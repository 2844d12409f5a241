"""Which backups to keep: the newest of each of the last days, and of each of the last weeks.

Invariants: only a verified backup makes an older one superfluous, and the newest verified one stays
whatever the numbers are. Folders with other names than `name_of` gives are never touched: who
renames a backup keeps it.
"""

import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from chat_app.service.backups.checking import is_verified
from feedback_store.whole_files import flush

_NAME = re.compile(r"auto-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)")
_TIME = "%Y-%m-%dT%H-%M-%S"


def name_of(time: datetime) -> str:
    """The name of the backup that the routine makes at a time, in UTC."""
    return f"auto-{time.strftime(_TIME)}"


def kept(made: Iterable[datetime], *, days: int, weeks: int) -> set[datetime]:
    """Of verified backups those to keep.

    Args:
        made: When each was made, in UTC.
        days: Of so many days that have a backup, the newest ones, the last of each is kept.
        weeks: The same of weeks that begin on Monday.
    """
    newest_first = sorted(made, reverse=True)
    by_day, by_week = dict[object, datetime](), dict[object, datetime]()
    for time in newest_first:
        by_day.setdefault(time.date(), time)
        by_week.setdefault(time.isocalendar()[:2], time)
    return {*newest_first[:1], *list(by_day.values())[:days], *list(by_week.values())[:weeks]}


def rotate(folder: Path, *, days: int, weeks: int) -> list[Path]:
    """Remove the backups that are superfluous; returns them.

    Of those that could not be verified, only those stay that are newer than every verified one, and
    of these the newest alone.

    Raises:
        OSError: One cannot be removed.
    """
    found = _backups(folder)
    verified = [time for time, path in found.items() if is_verified(path)]
    stay = kept(verified, days=days, weeks=weeks) | {max(found)} if found else set()
    gone = [path for time, path in sorted(found.items()) if time not in stay]
    for path in gone:
        hidden = path.with_name(f".{path.name}.gone")  # half of a backup never has its name
        path.rename(hidden)
        flush(folder)
        shutil.rmtree(hidden)
    return gone


def clean(folder: Path) -> None:
    """Remove what killed routines left half written, checked or removed."""
    for path in folder.glob(".auto-*"):
        shutil.rmtree(path, ignore_errors=True)


def _backups(folder: Path) -> dict[datetime, Path]:
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return {
        datetime.strptime(name[1], _TIME).replace(tzinfo=UTC): path for name, path in found if name
    }
