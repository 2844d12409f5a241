"""Commands about people's words: forgetting a rater, the retention sweep, search, leaving out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.options import Config, Data, Json
from chat_app.errors import InvalidRequestError, RefusedError
from chat_app.service.erasure import (
    SENT,
    clean_old_files,
    erase_rater,
    finish_erasures,
    forget_checkpoints,
)
from chat_app.settings import Settings, load_settings
from feedback_store.errors import UnknownRecordError
from feedback_store.privacy.copies import rater_hash
from feedback_store.privacy.forgetting import MOST_DAYS
from feedback_store.store import FeedbackStore

_WORDS = {"audit": "audit entries", "unpaired": "unpaired judgements"}


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (forget, sweep, search):
        app.command()(command)
    app.command("leave-out")(leave_out)
    app.command("take-in")(take_in)


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
    erased = erase_rater(store, settings, rater, by="operator")
    facts, copies = erased.counts, erased.copies
    if as_json:
        typer.echo(json.dumps({**facts, "adapters": list(erased.adapters), "copies": copies}))
        return
    typer.echo(f"erased: {_counted(facts)}")
    for name in erased.adapters:
        typer.echo(f"adapter {name} has, or may have, learnt from it; it is marked, not changed")
    for copy in copies:
        if copy["kind"] == SENT:
            typer.echo(f"texts of this rater were sent to {copy['path']}; ask there to erase them")
            continue
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
            finish_erasures(store, settings, by="operator")
        swept = store.sweep(older_than_days=days, dry_run=dry_run)
        if not dry_run:
            swept = clean_old_files(settings, days) | swept
            if any(swept.values()):
                swept["checkpoints"] = forget_checkpoints(settings)
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


Kind = Annotated[Literal["conversation", "vote"], typer.Argument(help="What it is.")]
Item = Annotated[str, typer.Argument(help="Its id, as in `search` or an export of events.")]


def leave_out(
    kind: Kind,
    item: Item,
    reason: Annotated[str, typer.Option(help="The reason, stored with the decision.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Leave a conversation or a vote out of training, until it is taken in again."""
    with open_store(load_settings(config, data=data)) as store:
        store.leave_out(kind, [item], by="operator", reason=reason)
    typer.echo(f"{kind} {item} is left out of training")


def take_in(kind: Kind, item: Item, data: Data = None, config: Config = None) -> None:
    """Let a conversation or a vote count again."""
    with open_store(load_settings(config, data=data)) as store:
        store.take_in(kind, [item], by="operator")
    typer.echo(f"{kind} {item} counts again")


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
