"""Copies of a whole data directory, made while the service may go on.

A copy has its name only once it is complete and on disk. The store copies its own file; the
adapters, keys and settings beside it are copied here. Whether it can be restored is for `checking`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chat_app.errors import ChatAppError, RefusedError, StartError
from chat_app.settings import Settings
from feedback_store.errors import FeedbackStoreError
from feedback_store.store import FeedbackStore
from feedback_store.whole_files import flush

BACKED_UP = ("adapters", "secrets", "config.toml")  # beside the database
SPARE_BYTES = 2**28  # that a backup leaves free for those who write meanwhile


def back_up(store: FeedbackStore, settings: Settings, folder: Path) -> dict[str, int]:
    """Copy the database, the adapters and the keys into a new folder; returns the counts.

    Raises:
        RefusedError: The folder is not new, or its disk has too little room.
        StartError: It cannot be written.
    """
    require_room(settings, folder)
    with new_folder(folder) as partial:
        store.note_backup(str(folder.resolve()))
        # The database first: every adapter that it names is complete on disk by then.
        counts = store.backup(partial / settings.database.name)
        for name in BACKED_UP:
            copy(settings.data / name, partial / name)
    return counts


def require_room(settings: Settings, folder: Path) -> None:
    """Refuse a backup that would fill a disk, perhaps the one that the service writes to.

    Raises:
        RefusedError: The disk has too little room.
    """
    sizes = [path.stat().st_size for path in settings.adapters.rglob("*") if path.is_file()]
    # the database once more, because a copy is restored for a trial
    needed = sum(sizes) + 2 * settings.database.stat().st_size + SPARE_BYTES
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise RefusedError(
            f"the disk of {folder} has {free >> 20} MiB free, and a backup wants "
            f"{needed >> 20} MiB; make room, or name a folder on another disk"
        )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefusedError(f"{folder} exists already; give a new folder")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        partial.mkdir(mode=0o700, parents=True)
        yield partial
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                flush(path)
        partial.rename(folder)
        flush(folder.parent)
    except (ChatAppError, FeedbackStoreError):
        raise  # some of these are OSErrors too, and say more
    except OSError as exc:
        raise StartError(f"cannot write {folder}: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, if it is there."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.is_file():
        shutil.copy2(source, target)
