"""Commands about what is stored: adapters, export and import, erasure, backup and restore."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from chat_app.cli_options import Config, Data, Json
from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError, StartError
from chat_app.settings import Settings, load_settings
from feedback_store.errors import FeedbackStoreError
from feedback_store.records import BASE_ADAPTER, Serving
from feedback_store.store import FeedbackStore

BACKED_UP = ("adapters", "secrets", "config.toml")  # beside the database

adapters = typer.Typer(help="List, verify, promote and roll back adapters.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (export, forget, backup, restore, promote, rollback):
        app.command()(command)
    app.command("import")(import_events)


def open_store(settings: Settings) -> FeedbackStore:
    """Open the store of an existing data directory.

    Raises:
        StartError: There is none; a command that only looks must not make one.
    """
    if not settings.database.is_file():
        raise StartError(f"no database in {settings.data}; give a service's directory by --data")
    return FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite)


@adapters.command("list")
def list_adapters(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """List all adapters, the one being served marked."""
    with open_store(load_settings(config, data=data)) as store:
        serving = store.serving().adapter
        found = [
            {
                "name": adapter.name,
                "kind": adapter.kind,
                "state": adapter.state,
                "serving": adapter.name == serving,
                "parent": adapter.parent,
                "cycle": adapter.cycle_id,
                "metrics": adapter.metrics,
            }
            for adapter in store.adapters()
        ]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for row in found:
        mark = "*" if row["serving"] else " "
        typer.echo(f"{mark} {row['name']}  {row['state']:<9}  cycle {row['cycle'] or '-'}")


@adapters.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Default: all.")] = None,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check every byte of adapters against their manifests."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        known = [a.name for a in store.adapters() if a.name != BASE_ADAPTER]
    faults = {name: fault_of(settings, name) for name in names or known}
    if as_json:
        typer.echo(json.dumps(faults))
    else:
        for name, fault in faults.items():
            typer.echo(f"{'ok  ' if fault is None else 'FAIL'}  {fault or name}")
    bad = [name for name, fault in faults.items() if fault]
    if bad:
        raise ChatAppError(f"{len(bad)} adapters are damaged: {', '.join(bad)}")


@adapters.command()
def promote(
    name: Annotated[str, typer.Argument(help="A published policy adapter.")],
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Serve a published adapter; a running server follows within a second."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        store.adapter(name)
        fault = None if name == BASE_ADAPTER else fault_of(settings, name)
        if fault is not None:
            raise ChatAppError(fault)
        _show_serving(store.serve(name, by="operator"), as_json)


@adapters.command()
def rollback(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Serve the adapter that was served before."""
    with open_store(load_settings(config, data=data)) as store:
        previous = store.serving().previous
        if previous is None:
            raise RefusedError("nothing was served before this adapter; there is no way back")
        _show_serving(store.serve(previous, by="operator"), as_json)


def export(
    file: Annotated[Path | None, typer.Argument(help="Default: standard output.")] = None,
    form: Annotated[
        Literal["events", "preferences"], typer.Option("--format", help="What to write.")
    ] = "events",
    data: Data = None,
    config: Config = None,
) -> None:
    """Write every event, or the comparisons for TRL, one JSON document a line."""
    with open_store(load_settings(config, data=data)) as store:
        store.refresh_comparisons()
        rows = store.export_events() if form == "events" else store.export_preferences()
        if file is None:
            for row in rows:
                typer.echo(json.dumps(row, ensure_ascii=False))
            return
        count = _write_lines(file, rows)
    typer.echo(f"{count} {form} written to {file}", err=True)


def import_events(
    file: Annotated[Path, typer.Argument(help="What `export --format events` wrote.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Take in exported events, all or none; those already there stay as they are."""
    settings = load_settings(config, data=data)
    events = list(_read_lines(file))
    from chat_app.server import prepare_data

    prepare_data(settings.data)
    with FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite) as store:
        new = store.import_events(events)
        store.refresh_comparisons()
    typer.echo(f"{new} of {len(events)} events were new")


def forget(
    rater: Annotated[str, typer.Argument(help="The rater's id, as in an export.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Erase a rater: conversations, feedback, and what was derived from it."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        store.rater(rater)
        if not yes and not typer.confirm(f"Erase everything of rater {rater} for good?"):
            raise RefusedError("nothing was erased")
        running = store.running_cycle()
        if running is not None:
            raise RefusedError(f"cycle {running.id} is reading what was said; forget when it ends")
        erased = {"reports": _empty_reports(settings)} | store.forget(rater)
    words = ", ".join(f"{count} {table}" for table, count in erased.items() if count)
    typer.echo(json.dumps(erased) if as_json else f"erased: {words}")


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for the copy.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Copy the database, the adapters and the keys, while the service may go on."""
    settings = load_settings(config, data=data)
    with _new_folder(folder) as partial, open_store(settings) as store:
        # The database first: every adapter that it names is complete on disk by then.
        store.backup(partial / settings.database.name)
        for name in BACKED_UP:
            _copy(settings.data / name, partial / name)
    typer.echo(f"backed up {settings.data} to {folder}")


def restore(
    folder: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    data: Data = None,
) -> None:
    """Make a data directory from a backup; an existing one is never overwritten."""
    settings = load_settings(data=data)
    target, old = settings.data, settings.allow_old_sqlite
    if not (folder / "feedback.db").is_file():
        raise InvalidRequestError(f"{folder} is no backup: it holds no feedback.db")
    with _new_folder(target) as partial:
        for name in ("feedback.db", *BACKED_UP):
            _copy(folder / name, partial / name)
        with FeedbackStore(partial / "feedback.db", allow_old_sqlite=old) as store:
            damage = store.verify()
        if damage:
            raise ChatAppError(f"the backup {folder} is damaged: {damage[0]}")
    typer.echo(f"restored {folder} to {target}")


def fault_of(settings: Settings, name: str) -> str | None:
    """What is wrong with an adapter's directory, or None."""
    from rlhf_core.adapters import verify_adapter
    from rlhf_core.errors import AdapterError

    try:
        verify_adapter(settings.adapters / name)
    except AdapterError as exc:
        return str(exc)
    return None


def _show_serving(serving: Serving, as_json: bool) -> None:
    facts = {"serving": serving.adapter, "previous": serving.previous}
    typer.echo(json.dumps(facts) if as_json else f"serving {serving.adapter}")


def _empty_reports(settings: Settings) -> int:
    """Take the samples out of all reports: they quote prompts, and do not say whose."""
    files = sorted((settings.data / "cycles").glob("*/report.json"))
    return sum(_empty_report(file) for file in files)


def _empty_report(file: Path) -> bool:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        if not report["samples"]:
            return False
        with partial.open("w", encoding="utf-8") as out:
            json.dump(report | {"samples": []}, out, indent=2)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ChatAppError(
            f"cannot empty {file} ({exc}), so nobody was forgotten; delete it, then try again"
        ) from exc
    finally:
        partial.unlink(missing_ok=True)
    return True


def _write_lines(file: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    try:
        with file.open("w", encoding="utf-8") as out:
            for row in rows:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    except (ChatAppError, FeedbackStoreError):
        raise  # some of these are OSErrors too, and say more
    except OSError as exc:
        raise StartError(f"cannot write {file}: {exc.strerror}; choose another file") from exc
    return count


def _read_lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _document(line, f"{file}:{number}")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"cannot read {file}: {exc}") from exc


def _document(line: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError as exc:
        raise InvalidRequestError(f"{where} is not JSON: {exc}; nothing was imported") from exc
    if not isinstance(document, dict):
        raise InvalidRequestError(f"{where} is not a JSON object; nothing was imported")
    return document


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefusedError(f"{folder} exists already; give a new folder")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        partial.mkdir(mode=0o700, parents=True)
        yield partial
        partial.rename(folder)
    except (ChatAppError, FeedbackStoreError):
        raise  # some of these are OSErrors too, and say more
    except OSError as exc:
        raise StartError(f"cannot write {folder}: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.is_file():
        shutil.copy2(source, target)
