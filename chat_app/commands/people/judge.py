"""The command `judge`: a language model votes on stored replies, and its habits are reported."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.options import Config, Data, Json
from chat_app.cycles.judging.endpoint import Endpoint
from chat_app.cycles.judging.probes import probes
from chat_app.cycles.judging.running import Judging, run_judge
from chat_app.cycles.judging.verdicts import DEFAULT_PRINCIPLES, read_principles
from chat_app.errors import ChatAppError, InvalidRequestError
from chat_app.identity import is_this_machine
from chat_app.settings import load_settings
from feedback_store.raters.judging.judges import Judge, new_judge
from feedback_store.raters.judging.report import CaseShare, JudgeReport
from feedback_store.store import FeedbackStore

PROBE_REQUESTS = 2 * len(probes())
AGAIN = (
    "what was too long, refused or without an answer is asked again on the next run; for what is "
    "too long give the model more room first (a service of ours: reply.prompt_tokens), or shorter "
    "--principles"
)
NOT_ALONE = "--report asks nothing; leave out --endpoint, --model and --principles, or --report"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(judge)


def judge(  # noqa: PLR0913 - its options
    endpoint: Annotated[
        str | None, typer.Option(help="Address of an API with OpenAI's shapes, as http://host/v1.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model there; of our own service `policy-000000`.")
    ] = None,
    principles: Annotated[
        Path | None, typer.Option(help="What it judges by, one principle a paragraph.")
    ] = None,
    pairs: Annotated[
        Literal["all", "judged", "unjudged"],
        typer.Option(help="Pairs that others have judged, that nobody has, or both."),
    ] = "all",
    limit: Annotated[
        int,
        typer.Option(min=0, help="Most pairs in this run, two requests each; probes come on top."),
    ] = 100,
    no_probes: Annotated[
        bool,
        typer.Option(
            "--no-probes",
            help="Do not probe it with flattery and padding, which takes "
            f"{PROBE_REQUESTS} requests, once.",
        ),
    ] = False,
    key_variable: Annotated[
        str | None, typer.Option(help="The environment variable that holds the endpoint's key.")
    ] = None,
    send_texts: Annotated[
        bool, typer.Option("--send-texts", help="Agree that texts leave this machine.")
    ] = False,
    per_minute: Annotated[float, typer.Option(min=0.1, help="Most requests in a minute.")] = 600,
    report: Annotated[
        bool, typer.Option("--report", help="Ask nothing; report on the judges so far.")
    ] = False,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Let a language model vote on stored replies, in both orders, and report how it votes."""
    settings = load_settings(config, data=data)
    if report:
        if (endpoint, model, principles) != (None, None, None):
            raise InvalidRequestError(NOT_ALONE)
        with open_store(settings) as store:
            store.refresh_comparisons()
            _tell([store.judge_report(one.rater_id) for one in store.judges()], as_json=as_json)
        return
    if endpoint is None or model is None:
        raise InvalidRequestError("give --endpoint and --model, or --report")
    _check_address(endpoint, send_texts=send_texts)
    text, key = read_principles(principles or DEFAULT_PRINCIPLES), _key(key_variable)
    with open_store(settings) as store:
        one = new_judge(model, endpoint.rstrip("/"), text)
        asking = _noting(store, one, pairs, limit) if send_texts else lambda pair: None
        asked = Endpoint(endpoint, model, key=key, per_minute=per_minute)
        try:
            done = run_judge(
                store, one, asked, which=pairs, limit=limit, probing=not no_probes, asking=asking
            )
        finally:
            asked.close()
        store.refresh_comparisons()
        known = [judge.rater_id for judge in store.judges()]
        found = [store.judge_report(one.rater_id)] if one.rater_id in known else []
        left = _left(store, done, pairs, limit)
    _tell(found, done, left, as_json=as_json)
    if done.stopped:
        raise ChatAppError(f"{done.stopped}; what was answered is stored, run it again to go on")


def _noting(store: FeedbackStore, one: Judge, pairs: str, limit: int) -> Callable[[str], None]:
    """Note in the audit log where texts go; what is returned notes whose words a pair has."""
    to = f"{one.endpoint} {one.model}"
    store.note_act("texts_sent", by="operator", to=to, pairs=pairs, at_most=limit)
    return partial(store.note_words_sent, to=to)


def _check_address(endpoint: str, *, send_texts: bool) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise InvalidRequestError(
            f"endpoint {endpoint!r} is no address; write one such as http://127.0.0.1:7860/v1"
        )
    if not is_this_machine(parts.hostname) and not send_texts:
        raise InvalidRequestError(
            f"{parts.hostname} is another machine, which would get what people wrote; give "
            "--send-texts if they have agreed to that"
        )


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not (key := os.environ.get(variable, "").strip()):
        raise InvalidRequestError(f"the environment variable {variable} has no key; set it")
    return key


def _left(store: FeedbackStore, done: Judging, which: str, limit: int) -> str:
    """Why no more pairs were asked about, if it was not the limit."""
    if done.stopped or done.pairs >= limit:
        return ""
    two, more = store.sets_for_judges(which)
    told = f"nothing left to ask ({two} pairs with --pairs {which})"
    if not two:
        told = f"nothing to ask: there are no pairs with --pairs {which}"
    if more:
        told += f"; sets of more than two replies are not judged: {more}"
    return told


def _tell(
    reports: list[JudgeReport],
    done: Judging | None = None,
    left: str = "",
    *,
    as_json: bool,
) -> None:
    if as_json:
        run = {} if done is None else {"run": asdict(done) | {"votes": dict(done.votes)}}
        typer.echo(json.dumps({"judges": [asdict(one) for one in reports], **run}))
        return
    if done is not None:
        votes = ", ".join(f"{n} {vote}" for vote, n in sorted(done.votes.items()))
        typer.echo(
            f"{done.votes.total()} votes stored ({votes or 'none'}) by {done.requests} requests; "
            f"no votes: {done.unclear} answers without a verdict, {done.too_long} pairs or probes "
            f"too long for it, {done.refused} refused, {done.failed} without an answer, "
            f"{done.gone} pairs that are gone"
        )
        if done.too_long or done.refused or done.failed:
            typer.echo(AGAIN)
        if left:
            typer.echo(left)
    elif not reports:
        typer.echo("no model has judged here yet")
    for one in reports:
        for line in lines_of(one):
            typer.echo(line)


def lines_of(report: JudgeReport) -> list[str]:
    """A report for people."""
    lines = [
        f"{report.judge}  {report.pairs} pairs in both orders, {report.unclear} without a verdict",
        f"  same verdict in both orders       {_told(report.same)}",
        f"  the first reply, where they differ {_told(report.first)}",
        f"  the longer reply                  {_told(report.longer)}",
        f"  the same where people judged, too {_told(report.longer_beside)}; people "
        f"{_told(report.longer_of_people)}",
        f"  agrees with people                {_told(report.agreement)}; people with each other "
        f"{_told(report.people_agree)}",
    ]
    lines += [f"  prefers {kind:<25} {_told(one)}" for kind, one in report.probes.items()]
    lines += [f"  FOUND {text}" for text in report.found]
    return lines


def _told(one: CaseShare) -> str:
    if one.value is None:
        return "unknown"
    return f"{one.value:.0%} ({one.low:.0%} to {one.high:.0%}) of {one.total}"
