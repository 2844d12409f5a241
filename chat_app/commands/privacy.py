"""Commands about people's words: forgetting a rater, the retention sweep, and search.

The store erases its rows. Other files in the data directory may quote them, too: exported data
sets, the samples in the reports of cycles, and their log; and the checkpoints of a cycle that died
hold weights that learnt from them. No file says whom it quotes, so every one that was written since
the rater's first row is cleaned. Copies elsewhere are named.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.options import Config, Data, Json
from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.settings import Settings, load_settings
from feedback_store.errors import UnknownRecordError
from feedback_store.privacy.forgetting import MOST_DAYS, rater_hash
from feedback_store.store import FeedbackStore
from feedback_store.whole_files import new_file

EXPORTS = "exports"  # the folder in the data directory of which every file is an export
_TO_DERIVE = "stale_prompts"  # the store's own notes: nothing that anybody said
_WORDS = {"audit": "audit entries", "unpaired": "unpaired judgements"}


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (forget, sweep, search):
        app.command()(command)


def forget(
    rater: Annotated[str | None, typer.Argument(help="The rater's id, as in an export.")] = None,
    as_in: Annotated[
        Path | None,
        typer.Option(help="Forget all whom this data directory has forgotten, after a restore."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Erase a rater: conversations, feedback, and all that was made of them except adapters."""
    if (rater is None) == (as_in is None):
        raise InvalidRequestError("give either the id of a rater, or a directory by --as-in")
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        raters = [rater] if rater is not None else _forgotten_in(as_in, store)
        for name in raters:
            _require(store, name)
            if not yes and not typer.confirm(f"Erase everything of rater {name} for good?"):
                raise RefusedError("nothing was erased")
            _forget(store, settings, name, as_json)
    if not raters and not as_json:
        typer.echo("erased: nothing")


def _forget(store: FeedbackStore, settings: Settings, rater: str, as_json: bool) -> None:
    """Forget one rater, and print what was erased."""
    erased = store.forget(rater, clean=lambda since: clean_files(store, settings, since))
    copies = list(_copies_elsewhere(store, settings))
    facts = erased.files | {name: n for name, n in erased.rows.items() if name != _TO_DERIVE}
    if as_json:
        typer.echo(json.dumps({**facts, "adapters": list(erased.adapters), "copies": copies}))
        return
    typer.echo(f"erased: {_counted(facts)}")
    for name in erased.adapters:
        typer.echo(f"adapter {name} has, or may have, learnt from it; it is marked, not changed")
    for copy in copies:
        typer.echo(f"{copy['kind']} of {copy['at']} is not changed; delete it: {copy['path']}")


def sweep(
    days: Annotated[float, typer.Option("--older-than", metavar="DAYS", help="Days kept.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Delete conversations without a message for so many days, and all that was said about them."""
    if not 0 < days <= MOST_DAYS:
        raise InvalidRequestError(
            f"--older-than takes more than 0 and at most {MOST_DAYS} days, not {days:g}"
        )
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        if not dry_run:  # finish what was interrupted first
            store.finish_forgetting(clean=lambda since: clean_files(store, settings, since))
        swept = store.sweep(older_than_days=days, dry_run=dry_run)
        if not dry_run:
            swept = _clean_old_files(settings, days) | swept
            if any(swept.values()):
                swept["checkpoints"] = _forget_checkpoints(settings)
    if as_json:
        typer.echo(json.dumps(swept))
    else:
        typer.echo(f"{'would delete' if dry_run else 'deleted'}: {_counted(swept)}")


def search(
    words: Annotated[list[str], typer.Argument(help="All of them are looked for.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most hits.")] = 50,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Find messages in all conversations, best first."""
    with open_store(load_settings(config, data=data)) as store:
        hits = store.search(" ".join(words), limit=limit)
    if as_json:
        names = ("conversation_id", "message_id", "rater_id", "role", "snippet", "created_at")
        typer.echo(json.dumps([{n: getattr(hit, n) for n in (*names, "rank")} for hit in hits]))
        return
    if not hits:
        typer.echo(f"no message has all of: {' '.join(words)}")
    for hit in hits:
        snippet = " ".join(hit.snippet.split())
        typer.echo(f"{hit.created_at}  {hit.conversation_id}  {hit.rater_id}  {snippet}")


def clean_files(store: FeedbackStore, settings: Settings, since: str) -> Mapping[str, int]:
    """Delete or empty every file in the data directory that may quote a rater since a time.

    Raises:
        ChatAppError: A file could not be cleaned, so what it quotes is not forgotten yet.
    """
    begun = datetime.fromisoformat(since)
    log = settings.data / "cycles" / "output.log"
    return {
        "exports": sum(_delete(file) for file in _exports(store, settings) if _after(file, begun)),
        "reports": sum(_empty_report(file) for file in _reports(settings)),
        "logs": sum(_empty(file) for file in (log,) if _after(file, begun)),
        "checkpoints": _forget_checkpoints(settings),
    }


def _clean_old_files(settings: Settings, days: float) -> dict[str, int]:
    """The same promise for files: none that was written earlier is kept."""
    limit = datetime.now(UTC) - timedelta(days=days)
    exports = [file for file in _files(settings.data / EXPORTS) if not _after(file, limit)]
    reports = [file for file in _reports(settings) if not _after(file, limit)]
    return {
        "exports": sum(map(_delete, exports)),
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


def _require(store: FeedbackStore, rater: str) -> None:
    """The rater is there, or half forgotten."""
    unfinished = {item.rater for item in store.forgotten() if item.done_at is None}
    try:
        store.rater(rater)
    except UnknownRecordError:
        if rater_hash(rater) not in unfinished:
            raise


def _forgotten_in(data: Path | None, store: FeedbackStore) -> list[str]:
    with open_store(load_settings(data=data)) as other:
        return store.raters_forgotten_in(other.forgotten())


def _counted(counts: Mapping[str, int]) -> str:
    said = (f"{count} {_WORDS.get(name, name)}" for name, count in counts.items() if count)
    return ", ".join(said) or "nothing"


def _files(folder: Path) -> Iterable[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _forget_checkpoints(settings: Settings) -> int:
    """Delete the checkpoints of cycles that died: their weights learnt from people's words."""
    from rlhf_core.cycle.resume import delete_checkpoints

    return delete_checkpoints(settings.data / "cycles")


def _reports(settings: Settings) -> Iterable[Path]:
    return sorted((settings.data / "cycles").glob("*/report.json"))


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
    """Remove the samples from a report: they quote prompts, and do not say whose."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        if not report["samples"]:
            return False
        with new_file(file) as partial:
            partial.write_text(json.dumps(report | {"samples": []}, indent=2), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ChatAppError(
            f"cannot empty {file} ({exc}), so nothing more is forgotten; delete it, then try again"
        ) from exc
    return True
