"""Restore a backup: for good, or for a trial that shows that it could be.

A backup is *verified* once `verify` has done with it what `restore` does and compared it with what
it is a copy of. That is written into it (`verified.json`), so a copy of the backup says it, too.
A restored directory has its name only once it is complete, checked and on disk.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from chat_app.errors import ChatAppError, InvalidRequestError
from chat_app.service.backups.copying import BACKED_UP, copy, new_folder
from chat_app.service.promotion import fault_of
from chat_app.settings import Settings
from feedback_store.sqlite.ids import utc_now
from feedback_store.store import FeedbackStore
from feedback_store.whole_files import new_file
from rlhf_core.cycle.signing import checking_key, signing_key

VERIFIED = "verified.json"
DATABASE = "feedback.db"
DERIVED = ("comparisons", "unused_comparisons")  # from the rest; they come and go with it
_KEY = Path("secrets") / "adapter-key"


def verify(
    store: FeedbackStore, settings: Settings, folder: Path, before: Mapping[str, int]
) -> dict[str, int]:
    """Restore a backup for a trial, compare it with what runs, and write that it is verified.

    Args:
        store: What was copied; people may have gone on meanwhile.
        settings: Where its adapters are.
        folder: The backup.
        before: The counts of the store when the copy began.

    Returns:
        The counts of the restored store.

    Raises:
        FeedbackStoreError: The database of the backup is damaged.
        ChatAppError: It lacks something, or an adapter is damaged.
    """
    trial = folder.with_name(f".{folder.name}.trial")
    shutil.rmtree(trial, ignore_errors=True)
    try:
        counts = FeedbackStore.restore(
            folder / DATABASE, trial / DATABASE, allow_old_sqlite=settings.allow_old_sqlite
        )
        with FeedbackStore(trial / DATABASE, allow_old_sqlite=settings.allow_old_sqlite) as copied:
            names = {adapter.name for adapter in copied.adapters()}
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    _require_between(before, counts, store.counts())
    _require_same_adapters(settings, folder, names, key=checking_key(store, settings.data))
    with new_file(folder / VERIFIED) as made:
        made.write_text(json.dumps({"at": utc_now(), "counts": counts}), encoding="utf-8")
    return counts


def restore(folder: Path, data: Path, *, allow_old_sqlite: bool = False) -> dict[str, int]:
    """Make a data directory from a backup; returns the counts.

    Raises:
        InvalidRequestError: The folder is no backup.
        RefusedError: There is a data directory already.
        FeedbackStoreError: The database of the backup is damaged.
        ChatAppError: An adapter is.
    """
    if not (folder / DATABASE).is_file():
        raise InvalidRequestError(f"{folder} is no backup: it holds no {DATABASE}")
    with new_folder(data) as partial:
        counts = FeedbackStore.restore(
            folder / DATABASE, partial / DATABASE, allow_old_sqlite=allow_old_sqlite
        )
        for name in BACKED_UP:
            copy(folder / name, partial / name)
        if not any(_adapters(partial)):
            return counts
        # A backup from before adapters were signed has no key: the copy gets one, and signs them.
        with FeedbackStore(partial / DATABASE, allow_old_sqlite=allow_old_sqlite) as store:
            names, key = {a.name for a in store.adapters()}, signing_key(store, partial)
        if fault := _fault(partial, names, key):
            raise ChatAppError(f"nothing was restored: {fault}; use another backup")
    return counts


def is_verified(folder: Path) -> bool:
    """Whether a backup was verified when it was made."""
    return (folder / VERIFIED).is_file()


def _require_between(
    before: Mapping[str, int], copied: Mapping[str, int], after: Mapping[str, int]
) -> None:
    """What people said only grows or, if somebody is erased, only shrinks while a copy is made."""
    for name in before.keys() - set(DERIVED):
        low, high = sorted((before[name], after[name]))
        if not low <= copied[name] <= high:
            raise ChatAppError(
                f"the backup has {copied[name]} {name}, and the store has {low} to {high}; "
                "make another backup"
            )


def _require_same_adapters(
    settings: Settings, folder: Path, names: Iterable[str], *, key: bytes | None
) -> None:
    """Each adapter of the service is in the backup, whole, and the same in every file.

    A manifest has the hash of each file, and a sound adapter has no other files.
    """
    mine = settings.data / _KEY
    if mine.is_file() and mine.read_bytes() != _bytes(folder / _KEY):
        raise ChatAppError("the backup lacks the key of the adapters; make another backup")
    if fault := _fault(folder, names, key):
        raise ChatAppError(f"{fault}; a backup with it cannot be restored")
    for name in names:
        manifest = settings.adapters / name / "manifest.json"
        if manifest.is_file() and manifest.read_bytes() != _bytes(
            folder / "adapters" / name / "manifest.json"
        ):
            raise ChatAppError(f"the backup lacks adapter {name}; make another backup")


def _fault(data: Path, names: Iterable[str], key: bytes | None) -> str | None:
    """The first fault of a directory's adapters.

    What a killed cycle left is not named by the store, and nobody signed it.
    """
    keys = dict.fromkeys(names, key)
    faults = (fault_of(path, key=keys.get(path.name)) for path in _adapters(data))
    return next((fault for fault in faults if fault is not None), None)


def _adapters(data: Path) -> list[Path]:
    return sorted(path for path in (data / "adapters").glob("*-*") if path.is_dir())


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
