"""The commands `backup` and `restore`: copy a whole data directory, and make one from a copy.

How that is done is in `chat_app.service.backups`; the server does the same once a day.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.options import Config, Data, Json
from chat_app.service.backups import checking
from chat_app.service.backups.routine import run_routine, verified_backup
from chat_app.settings import load_settings

BY = "the command"  # for the audit log


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (backup, restore):
        app.command()(command)


def backup(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A new folder; without it, one among the backups, and old ones go."),
    ] = None,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy the database, adapters and keys while the service goes on, and verify the copy."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        if folder is None:
            made = run_routine(store, settings, by=BY)
        else:
            made = verified_backup(store, settings, folder, by=BY)
    if as_json:
        _show(settings.data, made.folder, made.folder, made.counts)
        return
    typer.echo(f"backed up {settings.data} to {made.folder}; it is verified")
    for path in made.removed:
        typer.echo(f"removed {path}")


def restore(
    folder: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a data directory from a backup; an existing one is never overwritten."""
    settings = load_settings(data=data)
    counts = checking.restore(folder, settings.data, allow_old_sqlite=settings.allow_old_sqlite)
    if as_json:
        _show(settings.data, folder, settings.data, counts)
    else:
        typer.echo(f"restored {folder} to {settings.data}")


def _show(data: Path, backup: Path, written: Path, counts: Mapping[str, int]) -> None:
    """Print one JSON document about what was written, the same for `backup` and `restore`."""
    sizes = [path.stat().st_size for path in written.rglob("*") if path.is_file()]
    places = {"data": str(data.resolve()), "backup": str(backup.resolve())}
    typer.echo(json.dumps({**places, "files": len(sizes), "bytes": sum(sizes), "counts": counts}))
