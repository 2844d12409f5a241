"""The command `tail`: votes, and what else happens, one line each as it comes.

It follows the file of the store by a connection that only reads, and holds no lock while it waits,
so that it works beside a server and without one. A vote without consent, and one that was erased,
is not shown.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from chat_app.commands.options import Config, Data
from chat_app.errors import InvalidRequestError
from chat_app.settings import load_settings
from feedback_store.records import HAPPENINGS, VOTES
from feedback_store.registry.feed import FollowedFeed, Happening

POLL_S = 0.5
AT_ONCE = 500
_ABOUT = {"alarm": ("kind", "text"), "cycle": ("id", "state", "adapter"), "served": ("adapter",)}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(tail)


def tail(
    kind: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {', '.join(HAPPENINGS)}; may be given again (default: votes)."),
    ] = None,
    since: Annotated[
        int | None, typer.Option(min=0, help="Begin after this number; 0: all (default: now).")
    ] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Show what there is, and end.")
    ] = False,
    text: Annotated[
        bool, typer.Option("--text", help="Show what people wrote, and why cycles failed.")
    ] = False,
    data: Data = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show votes as they come, until Ctrl-C."""
    kinds = tuple(kind or VOTES)
    for name in kinds:
        if name not in HAPPENINGS:
            known = ", ".join(HAPPENINGS)
            raise InvalidRequestError(f"there is no kind {name!r}; --kind takes one of {known}")
    settings = load_settings(config, data=data)
    if not settings.database.is_file():
        raise InvalidRequestError(
            f"no database in {settings.data}; give a service's directory by --data"
        )
    try:
        with closing(FollowedFeed(settings.database)) as feed:
            newest = feed.last_happening()
        if since is not None and since > newest:
            raise InvalidRequestError(f"--since is {since}, but the newest number is {newest}")
        after = newest if since is None else since
        for happening in follow(settings.database, kinds, after, ends=no_follow, texts=text):
            typer.echo(_json(happening) if as_json else _line(happening))
    except KeyboardInterrupt:  # that is how it ends
        return
    except BrokenPipeError:  # whoever read it has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def follow(
    database: Path, kinds: tuple[str, ...], after: int, *, ends: bool, texts: bool
) -> Iterator[Happening]:
    """What happened after a number, and then, unless it ends there, what happens, for ever."""
    with closing(FollowedFeed(database)) as feed:
        while True:
            found = feed.happenings(after, kinds, limit=AT_ONCE, texts=texts)
            for happening in found:
                after = happening.number
                if happening.facts is not None:
                    yield happening
            if len(found) < AT_ONCE and ends:
                return
            if len(found) < AT_ONCE:
                time.sleep(POLL_S)


def _json(happening: Happening) -> str:
    about = {"number": happening.number, "event": happening.kind, "at": happening.at}
    on_terminal = sys.stdout.isatty()  # which might obey characters that people wrote
    return json.dumps(about | (happening.facts or {}), ensure_ascii=on_terminal)


def _line(happening: Happening) -> str:
    facts = happening.facts or {}
    about = _of_vote(facts) if happening.kind in VOTES else _of_other(happening.kind, facts)
    line = f"{happening.number}  {happening.at}  {happening.kind}  {'  '.join(about)}"
    return "".join(letter if letter.isprintable() else " " for letter in line)


def _of_vote(facts: dict[str, Any]) -> Iterator[str]:
    """A vote's verdict, its rater and what it is about; with texts these, too."""
    if said := facts.get("said"):
        yield said
    if order := facts.get("order"):
        yield " > ".join(" = ".join(group) for group in order)
    if facts.get("gold"):
        yield "(a gold question: trains nothing)"
    yield f"by {facts['rater_id']}"
    for reply in facts["replies"]:
        label = f"{reply['label']}: " if reply["label"] else ""
        yield f"{label}{reply['adapter'] or 'a person'}"
    if tags := facts.get("tags"):
        yield f"({', '.join(tags)})"
    texts = [("asked", facts.get("asked"))]
    texts += [(reply["label"] or "reply", reply.get("content")) for reply in facts["replies"]]
    texts += [(name, facts.get(name)) for name in ("comment", "content")]
    yield from (
        f"{name}: {json.dumps(words, ensure_ascii=False)}" for name, words in texts if words
    )


def _of_other(kind: str, facts: dict[str, Any]) -> Iterator[str]:
    yield from (str(facts[name]) for name in _ABOUT[kind] if facts[name] is not None)
