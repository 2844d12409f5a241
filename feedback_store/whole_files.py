"""Files that are whole or not there: filled beside their place, flushed to disk, then named.

Invariants: a file has its name only once all of it is on disk; it can be read by its owner only;
two that write the same file at once do not mix. A secret is such a file, made by whoever needs it
first.
"""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feedback_store.sqlite.ids import new_id


@contextmanager
def new_file(target: Path, publish: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """A new private file to fill, which gets the name `target` when the block has ended well.

    A process that is killed leaves it behind as `.NAME.*.partial`.

    Args:
        target: The name it will have; folders that are missing are made.
        publish: Gives the finished file its name. Without it, the file replaces an older one;
            `name_new` never does.

    Raises:
        OSError: It cannot be written.
    """
    partial = target.with_name(f".{target.name}.{new_id()}.partial")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield partial
        flush(partial)
        if publish is None:
            partial.replace(target)
        else:
            publish(partial)
        flush(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def name_new(finished: Path, target: Path) -> None:
    """Give a finished file a name that nothing has yet.

    Raises:
        FileExistsError: Something has that name. A rename would replace it.
    """
    os.link(finished, target)
    flush(target.parent)


def secret(path: Path) -> str:
    """Read a secret, or make one; of several processes that make it at once, all get the same.

    Raises:
        OSError: It can be neither read nor made, or it is empty.
    """
    if not path.exists():
        with suppress(FileExistsError), new_file(path, lambda made: name_new(made, path)) as made:
            made.write_text(secrets.token_urlsafe(24), encoding="utf-8")
    found = path.read_text(encoding="utf-8").strip()
    if not found:  # anybody could sign with an empty key
        raise OSError(errno.EINVAL, f"{path.name} is empty", str(path))
    return found


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
