"""Folders in a data directory in which what travels to or from another machine is made.

They hold what people said, so they are nowhere else: what a killed command left in one is deleted
by the next command, and whenever somebody is forgotten or conversations are swept. One command has
such a folder at a time.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from chat_app.errors import ChatAppError, RefusedError

_NAMES = (".evidence-*", ".adding-*")


@contextmanager
def staging_folder(data: Path, kind: Literal["evidence", "adding"]) -> Iterator[Path]:
    """A new folder in a data directory, which is gone after the block.

    Raises:
        RefusedError: Another process has one.
        ChatAppError: What a killed process left cannot be deleted.
    """
    try:
        lock = FileLock(data / ".staging.lock", timeout=0).acquire()
    except Timeout as exc:
        raise RefusedError(
            f"another command writes evidence of {data}, or adds a result to it; wait for it"
        ) from exc
    with lock:
        delete_staged(data)
        with tempfile.TemporaryDirectory(
            dir=data, prefix=f".{kind}-", ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)


def delete_staged(data: Path) -> int:
    """Delete the folders of killed commands, and that of a running one, which then fails.

    Returns:
        How many there were.

    Raises:
        ChatAppError: One cannot be deleted.
    """
    folders = [folder for name in _NAMES for folder in data.glob(name)]
    for folder in folders:
        try:
            with suppress(FileNotFoundError):  # its command deletes it, too
                shutil.rmtree(folder)
        except OSError as exc:
            raise ChatAppError(f"cannot delete {folder}: {exc}; delete it, try again") from exc
    return len(folders)
