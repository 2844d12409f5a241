"""Erasing what a rater said, everywhere in the data directory.

The store erases its rows. Other files in the data directory may quote them, too: exported data
sets, the samples in the reports of cycles, and their log; and the checkpoints of a cycle that died
hold weights that learnt from them; and a command that was killed while it wrote evidence leaves a
copy of all. Of an export the store knows whose words are in it, and of a report which adapters it
is about; so only those that may quote the rater are cleaned (decision 0031). Of any other file
nobody knows, so it is cleaned if it was written since the rater's first row. Copies elsewhere are
named.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from chat_app.cycles.elsewhere.staging import delete_staged
from chat_app.errors import BusyError, ChatAppError
from chat_app.settings import Settings
from feedback_store.privacy.forgetting import Erased, Traces
from feedback_store.records import Alarm
from feedback_store.sqlite.ids import iso_utc
from feedback_store.store import FeedbackStore
from feedback_store.whole_files import new_file

EXPORTS = "exports"  # the folder in the data directory of which every file is an export
SENT = "texts_sent"  # what an endpoint got, among copies elsewhere
_NOTES = ("stale_prompts", "left_out")  # the store's own and the operator's: nobody said them
MANY = 20  # erasures within a day, of which an operator should hear
VISITOR = "the rater"  # who erased, for the audit log: it names nobody
PATIENCE_S = 5.0  # a visitor waits so long for the erasure of another
_erasing = threading.Lock()  # one at a time: each rewrites the whole file


@dataclass(frozen=True, slots=True)
class ErasedRater:
    """What was erased with a rater.

    Attributes:
        counts: How many rows and files of each kind.
        adapters: Those that have, or may have, learnt from it; they are marked, not changed.
        copies: Backups and exports elsewhere, which only the operator can delete, and endpoints
            that got texts, which only those there can.
    """

    counts: dict[str, int]
    adapters: tuple[str, ...]
    copies: list[dict[str, str]]


def erase_rater(store: FeedbackStore, settings: Settings, rater_id: str, *, by: str) -> ErasedRater:
    """Erase a rater for good; after an interruption, the same call finishes it.

    Args:
        store: Where the rows are.
        settings: Where the files are.
        rater_id: Whom to erase.
        by: Who wants it, for the audit log.

    Raises:
        UnknownRecordError: There is no such rater.
        CycleInProgressError: A cycle is reading what was said; nothing was erased.
        BusyError: Others are being erased; nothing was erased.
        ChatAppError: A file could not be cleaned.
    """
    if not _erasing.acquire(timeout=PATIENCE_S):
        raise BusyError("others are being erased; try again")
    sent = dict[str, str]()
    try:
        erased = store.forget(rater_id, clean=partial(_clean, store, settings, sent=sent))
    finally:
        _erasing.release()
    _note(store, erased, by, sent)
    rows = {name: count for name, count in erased.rows.items() if name not in _NOTES}
    copies = [{"kind": SENT, "path": to, "at": at} for to, at in sorted(sent.items())]
    copies += _copies_elsewhere(store, settings)
    return ErasedRater(erased.files | rows, erased.adapters, copies)


def finish_erasures(store: FeedbackStore, settings: Settings, *, by: str) -> int:
    """Finish the erasures that waited for a cycle, or were interrupted; returns how many.

    Nothing is done while another thread erases somebody. A file that cannot be cleaned holds up
    nobody but those whom it may quote.

    Raises:
        CycleInProgressError: A cycle runs again; the others still wait.
        ChatAppError: A file could not be cleaned; it is the first one.
    """
    waiting = [item.rater for item in store.forgotten() if item.done_at is None]
    if not waiting or not _erasing.acquire(blocking=False):
        return 0
    faults = []
    try:
        for rater in waiting:
            sent = dict[str, str]()
            clean = partial(_clean, store, settings, sent=sent)
            try:
                erased = store.finish_forgetting(rater, clean=clean)
            except ChatAppError as exc:
                faults.append(exc)
            else:
                _note(store, erased, by, sent)
    finally:
        _erasing.release()
    if faults:
        raise faults[0]
    return len(waiting)


def sweep_deleted(store: FeedbackStore, settings: Settings) -> dict[str, int]:
    """Erase the conversations that their raters deleted longer ago than they can undo it.

    A sweep that was interrupted is finished.

    Raises:
        CycleInProgressError: A cycle runs.
    """
    if not (store.compaction_due() or any(store.sweep(dry_run=True).values())):
        return {}  # so the file is not rewritten for nothing
    swept = store.sweep() | {"checkpoints": forget_checkpoints(settings)}
    delete_staged(settings.data)
    return swept


def _clean(
    store: FeedbackStore, settings: Settings, found: Traces, sent: dict[str, str]
) -> Mapping[str, int]:
    """See `clean_files`; `sent` gets the endpoints that got the rater's words, and when."""
    known = store.known_exports()
    sent.update({to: known[to] for to in found.exports if "://" in to})
    return clean_files(store, settings, found)


def _note(store: FeedbackStore, erased: Erased, by: str, sent: Mapping[str, str]) -> None:
    """Note which files went with a rater, and raise an alarm if many raters went in a day."""
    files = {kind: n for kind, n in erased.files.items() if n}
    store.note_act("files_erased", by=by, **files, **({SENT: sorted(sent)} if sent else {}))
    now = datetime.now(UTC)
    since = iso_utc(now - timedelta(days=1))
    lately = sum(item.begun_at >= since for item in store.forgotten())
    if lately >= MANY:
        text = (
            f"{lately} raters were erased within a day; if these are not people who leave, ask "
            "who may come in (pages, access), and look at the audit log"
        )
        store.raise_alarm(Alarm("erasures", text, lately, MANY), key=now.date().isoformat())


def clean_files(store: FeedbackStore, settings: Settings, found: Traces) -> Mapping[str, int]:
    """Delete or empty every file in the data directory that may quote a rater.

    Raises:
        ChatAppError: A file could not be cleaned, so what it quotes is not forgotten yet.
    """
    begun = datetime.fromisoformat(found.since)
    log = settings.data / "cycles" / "output.log"
    return {
        "exports": sum(map(_delete, _exports_of(store, settings, found)))
        + delete_staged(settings.data),
        "reports": sum(map(_empty_report, _reports_of(store, settings, found))),
        "logs": sum(_empty(file) for file in (log,) if _after(file, begun)),
        "checkpoints": forget_checkpoints(settings),
    }


def _exports_of(store: FeedbackStore, settings: Settings, found: Traces) -> Iterator[Path]:
    """The exports with the rater's words, and those of which nobody knows whose are in them."""
    begun, known = datetime.fromisoformat(found.since), store.known_exports()
    for file in _exports(store, settings):
        whole_at = known.get(str(file))
        # a file that was written after it was noted is another one in its place
        is_known = whole_at is not None and not _later(file, datetime.fromisoformat(whole_at))
        if str(file) in found.exports or (not is_known and _after(file, begun)):
            yield file


def _reports_of(store: FeedbackStore, settings: Settings, found: Traces) -> Iterator[Path]:
    """The reports of cycles that may have learnt from the rater, or of which nobody knows."""
    begun, cycles = datetime.fromisoformat(found.since), dict[str, set[str]]()
    for adapter in store.adapters():
        if adapter.cycle_id is not None:
            cycles.setdefault(f"{adapter.cycle_id:06d}", set()).add(adapter.name)
    for file in _reports(settings):
        made = cycles.get(file.parent.name)
        if made.intersection(found.adapters) if made else _after(file, begun):
            yield file


def clean_old_files(settings: Settings, days: float) -> dict[str, int]:
    """The same promise for files: none that was written earlier is kept."""
    limit = datetime.now(UTC) - timedelta(days=days)
    exports = [file for file in _files(settings.data / EXPORTS) if not _after(file, limit)]
    reports = [file for file in _reports(settings) if not _after(file, limit)]
    return {
        "exports": sum(map(_delete, exports)) + delete_staged(settings.data),
        "reports": sum(map(_empty_report, reports)),
    }


def _exports(store: FeedbackStore, settings: Settings) -> Iterator[Path]:
    """The files in the folder for exports, and those noted as exported into the data directory."""
    noted = [Path(copy.path) for copy in store.copies() if copy.kind == "export"]
    inside = [path for path in noted if path.is_relative_to(settings.data.resolve())]
    yield from {path.resolve() for path in (*_files(settings.data / EXPORTS), *inside)}


def _copies_elsewhere(store: FeedbackStore, settings: Settings) -> Iterator[dict[str, str]]:
    """Backups and exports that still exist elsewhere: the operator has to delete them."""
    for copy in store.copies():
        path = Path(copy.path)
        mine = copy.kind == "export" and path.is_relative_to(settings.data.resolve())
        if path.exists() and not mine:
            yield {"kind": copy.kind, "path": copy.path, "at": copy.at}


def _files(folder: Path) -> Iterable[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def forget_checkpoints(settings: Settings) -> int:
    """Delete the checkpoints of cycles that died: their weights learnt from people's words."""
    from rlhf_core.cycle.resume import delete_checkpoints

    return delete_checkpoints(settings.data / "cycles")


def _reports(settings: Settings) -> Iterable[Path]:
    return sorted((settings.data / "cycles").glob("*/report.json"))


def _later(file: Path, time: datetime) -> bool:
    """Whether a file was written clearly later than a time."""
    try:
        return file.stat().st_mtime > time.timestamp() + 2
    except FileNotFoundError:
        return False


def _after(file: Path, time: datetime) -> bool:
    """Whether a file was written at or after a time; one that is gone was not."""
    try:
        # File systems may cut off fractions of a second.
        return file.stat().st_mtime + 2 >= time.timestamp()
    except FileNotFoundError:
        return False


def _delete(file: Path) -> bool:
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise ChatAppError(f"cannot delete {file}: {exc.strerror}; delete it, try again") from exc
    return True


def _empty(file: Path) -> bool:
    try:
        if file.stat().st_size == 0:
            return False
        os.truncate(file, 0)
    except OSError as exc:
        raise ChatAppError(f"cannot empty {file}: {exc.strerror}; delete it, try again") from exc
    return True


def _empty_report(file: Path) -> bool:
    """Remove the samples from a report: they quote prompts, and do not say whose.

    Those of probes quote no prompt, but an adapter may reply with what it learnt from somebody.
    """
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        quotes: dict[str, list[str]] = {
            name: [] for name in ("samples", "probe_samples") if name in report
        }
        if not report["samples"] and not any(report[name] for name in quotes):
            return False
        with new_file(file) as partial:
            partial.write_text(
                json.dumps(report | {name: [] for name in quotes}, indent=2), encoding="utf-8"
            )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ChatAppError(
            f"cannot empty {file} ({exc}), so nothing more is forgotten; delete it, then try again"
        ) from exc
    return True
