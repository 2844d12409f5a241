"""The commands `backup` and `restore`: copy a whole data directory, and make one from a copy.

A restored directory has its name only once it is complete, checked and on disk. How copies are made
is in `chat_app.service.backing_up`. Nothing here schedules backups or deletes old ones.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.options import Config, Data, Json
from chat_app.errors import ChatAppError, InvalidRequestError
from chat_app.service.backing_up import BACKED_UP, back_up, copy, new_folder
from chat_app.service.promotion import fault_of
from chat_app.settings import load_settings
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.signing import signing_key


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (backup, restore):
        app.command()(command)


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for the copy.")],
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy the database, the adapters and the keys, while the service may go on."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        counts = back_up(store, settings, folder)
    if as_json:
        _show(settings.data, folder, folder, counts)
    else:
        typer.echo(f"backed up {settings.data} to {folder}")


def restore(
    folder: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a data directory from a backup; an existing one is never overwritten."""
    settings = load_settings(data=data)
    if not (folder / "feedback.db").is_file():
        raise InvalidRequestError(f"{folder} is no backup: it holds no feedback.db")
    with new_folder(settings.data) as partial:
        counts = FeedbackStore.restore(
            folder / "feedback.db",
            partial / "feedback.db",
            allow_old_sqlite=settings.allow_old_sqlite,
        )
        for name in BACKED_UP:
            copy(folder / name, partial / name)
        _require_sound_adapters(partial, allow_old_sqlite=settings.allow_old_sqlite)
    if as_json:
        _show(settings.data, folder, settings.data, counts)
    else:
        typer.echo(f"restored {folder} to {settings.data}")


def _show(data: Path, backup: Path, written: Path, counts: Mapping[str, int]) -> None:
    """Print one JSON document about what was written, the same for `backup` and `restore`."""
    sizes = [path.stat().st_size for path in written.rglob("*") if path.is_file()]
    places = {"data": str(data.resolve()), "backup": str(backup.resolve())}
    typer.echo(json.dumps({**places, "files": len(sizes), "bytes": sum(sizes), "counts": counts}))


def _require_sound_adapters(data: Path, *, allow_old_sqlite: bool) -> None:
    """Refuse a copy in which an adapter has changed since it was written.

    A backup from before adapters were signed has no key: the copy gets one, and they are signed.
    """
    found = sorted(path for path in (data / "adapters").glob("*-*") if path.is_dir())
    if not found:
        return
    with FeedbackStore(data / "feedback.db", allow_old_sqlite=allow_old_sqlite) as store:
        keys = dict.fromkeys((a.name for a in store.adapters()), signing_key(store, data))
    # the store does not name what a killed cycle left, and nobody signs it
    faults = [f for path in found if (f := fault_of(path, key=keys.get(path.name))) is not None]
    if faults:
        raise ChatAppError(f"nothing was restored: {faults[0]}; use another backup")
