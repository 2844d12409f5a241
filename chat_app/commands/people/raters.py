"""Commands about raters and the keys that name them; the rules are in the store.

A key is printed when it is made and never again, because the store has only its hash.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.options import Config, Data, Json
from chat_app.errors import InvalidRequestError, RefusedError
from chat_app.identity import Identity
from chat_app.service.gold_file import read_gold
from chat_app.settings import Settings, load_settings
from feedback_store.errors import UnknownRecordError
from feedback_store.raters.reliability import RaterReport
from feedback_store.raters.screening import guessing_passes
from feedback_store.raters.standing import RaterStanding
from feedback_store.store import FeedbackStore

raters = typer.Typer(
    help="List, assess, quarantine and release raters.",
    no_args_is_help=True,
)

keys = typer.Typer(help="Make, list and revoke keys of the API.", no_args_is_help=True)

MOST_CHANCE = 0.05  # of passing a test by guessing

KeyName = Annotated[str, typer.Argument(help="The person or program that has it.")]
RaterId = Annotated[str, typer.Argument(help="As `raters list` shows it.")]


@raters.command("list")
def list_raters(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """List all raters: the sum of their comparisons, their weight, and any quarantine."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        found = store.raters()
        begun = _in_the_middle(store, settings)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    for one in found:
        state = f"  quarantined by {one.decided_by}: {one.reason}" if one.quarantined_at else ""
        if not one.kind_trains:
            state += f"  trains nothing: {one.kind!r} is not in cycle.data.programs"
        tests = _tests(one) + begun.get(one.id, "")
        counts = f"said {one.said:g}  weight {one.weight:.2f}{tests}{_together(one)}"
        typer.echo(f"{one.id}  {one.kind:<9}  {counts}{state}")


@raters.command()
def assess(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Measure every rater by gold questions, agreement, sides and times; quarantine by rule."""
    with open_store(load_settings(config, data=data)) as store:
        reports = store.assess_raters(by="operator")
        agreement = store.agreement()
    if as_json:
        facts = {"agreement": asdict(agreement), "raters": [asdict(one) for one in reports]}
        typer.echo(json.dumps(facts))
        return
    if agreement.alpha is None:
        typer.echo(f"agreement unknown: {agreement.reason}")
    else:
        typer.echo(
            f"agreement {agreement.alpha:.2f} ({agreement.low:.2f} to {agreement.high:.2f}) of "
            f"{agreement.raters} raters on {agreement.subjects} pairs (1 perfect, 0 chance)"
        )
    for one in reports:
        said = "; ".join(filter(None, (one.quarantine, *one.notes)))
        counts = f"votes {one.votes}  reliability {one.reliability:.2f}{_tests(one)}"
        typer.echo(f"{one.rater_id}  {counts}  {said}")
    held = sum(one.quarantine is not None for one in reports)
    typer.echo(f"{len(reports)} raters assessed, {held} for quarantine")


@raters.command()
def quarantine(
    rater: RaterId,
    reason: Annotated[str, typer.Option(help="The reason, stored with the decision.")],
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Do not learn from a rater until the rater is released."""
    with open_store(load_settings(config, data=data)) as store:
        store.quarantine(rater, by="operator", reason=reason)
        _show(next(one for one in store.raters() if one.id == rater), as_json)


@raters.command()
def release(
    rater: RaterId, data: Data = None, config: Config = None, as_json: Json = False
) -> None:
    """End a quarantine; what the rater did before does not count against them again."""
    with open_store(load_settings(config, data=data)) as store:
        store.release(rater, by="operator")
        _show(next(one for one in store.raters() if one.id == rater), as_json)


@raters.command()
def screen(
    file: Annotated[Path, typer.Argument(help="Questions whose answers the team knows.")],
    share: Annotated[
        float | None, typer.Option(min=0.5, max=1, help="To pass (default: screening.share).")
    ] = None,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show who has taken a test; the server gives it to raters, and writes down who passed.

    Results of the server's own test, with its own share, are written here, too.
    """
    settings = load_settings(config, data=data)
    items = read_gold(file, settings.limits, named="FILE")
    needed = settings.screening.share if share is None else share
    chance = guessing_passes(len(items), needed)
    if chance > MOST_CHANCE:
        higher = (n / 100 for n in range(math.ceil(100 * needed), 101))
        enough = next((s for s in higher if guessing_passes(len(items), s) <= MOST_CHANCE), None)
        also = "" if enough is None else f", or give --share {enough:g} or more"
        raise InvalidRequestError(
            f"{file} has {len(items)} questions, and by guessing {chance:.1%} would pass at a "
            f"share of {needed:g}; at most {MOST_CHANCE:.0%} may: write more questions{also}"
        )
    with open_store(settings) as store:
        found = store.screened(items, share=needed)
        own = _is_own_test(file, needed, settings)
        if own:
            store.note_screened(found, by="operator")
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    for one in found:
        result = {None: "not finished", True: "passed", False: "not passed"}[one.passed]
        typer.echo(f"{one.rater_id}  right {one.right}/{one.answered} of {one.questions}  {result}")
    typer.echo(
        f"{len(found)} raters have begun, {sum(one.passed is True for one in found)} passed; "
        f"{chance:.1%} would by guessing"
    )
    if not own:
        typer.echo(
            "nothing was written: this is not screening.items with screening.share", err=True
        )


@keys.command()
def make(
    name: KeyName,
    role: Annotated[
        Literal["visitor", "labeler", "operator"], typer.Option(help="What its owner may do.")
    ] = "visitor",
    passed: Annotated[
        str | None, typer.Option(help="For a labeler: as which rater they passed the screening.")
    ] = None,
    gateway: Annotated[
        bool, typer.Option("--gateway", help="Its calls say for which person each is made.")
    ] = False,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it; it is not shown again."""
    settings = load_settings(config, data=data)
    if passed and role != "labeler":
        raise InvalidRequestError(f"--passed is for a labeler's key, and {name} gets a {role}'s")
    with _store_of_keys(config, data) as store:
        if role == "labeler" and (passed or settings.screening.items is not None):
            _require_passed(store, name, passed, gateway=gateway)
        both = (passed, _identity(settings).of_key(name)) if passed else None
        key, text = store.make_key(name, role=role, gateway=gateway, passed=both, by="operator")
    typer.echo(json.dumps({**asdict(key), "key": text}) if as_json else text)
    typer.echo(f"This key of {name} is not shown again; send it as a bearer token.", err=True)


@keys.command("list")
def list_keys(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """List all keys: name, role, when it was made, used last, and revoked."""
    with _store_of_keys(config, data) as store:
        found = store.keys()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    for one in found:
        role = f"{one.role}{' gateway' if one.gateway else ''}"
        used = f"used {one.used_on or 'never'}"
        ended = f"  revoked {one.revoked_at[:10]}" if one.revoked_at else ""
        typer.echo(f"{one.name:<16}  {role:<16}  made {one.created_at[:10]}  {used}{ended}")


@keys.command()
def revoke(name: KeyName, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Revoke a key; a running server refuses it from its next request on."""
    with _store_of_keys(config, data) as store:
        key = store.revoke_key(name, by="operator")
    typer.echo(json.dumps(asdict(key)) if as_json else f"the key {name} is revoked")


def _is_own_test(file: Path, share: float, settings: Settings) -> bool:
    """Whether it is the server's: another test, or share, would take back what that wrote."""
    own = settings.screening
    return own.items is not None and own.items.resolve() == file.resolve() and own.share == share


def _require_passed(store: FeedbackStore, name: str, passed: str | None, *, gateway: bool) -> None:
    if gateway:
        raise RefusedError(
            f"{name} would be a gateway, whose persons each take the test; make it a visitor's key"
        )
    if passed is None:
        raise InvalidRequestError(
            f"a labeler's key is for somebody who passed the screening; give --passed RATER, as "
            f"whom {name} took the test: `raters screen` shows who passed"
        )
    try:
        store.rater(passed)
    except UnknownRecordError as exc:
        raise InvalidRequestError(
            f"there is no rater {passed!r}; `raters screen` shows who has taken the test"
        ) from exc
    if not store.has_passed(passed):
        raise RefusedError(
            f"{passed} has not passed the screening; make {name} a visitor's key, and a labeler's "
            "with --passed RATER once `raters screen` says that they passed"
        )


def _identity(settings: Settings) -> Identity:
    token = settings.operator_token
    return Identity(settings.secrets, operator_token=token.get_secret_value() if token else None)


def _store_of_keys(config: Path | None, data: Path | None) -> FeedbackStore:
    settings = load_settings(config, data=data)
    return open_store(settings, otherwise="start the server once, or give its directory by --data")


def _in_the_middle(store: FeedbackStore, settings: Settings) -> dict[str, str]:
    """By rater, how far those are who have begun the server's test, and not finished it."""
    own = settings.screening
    if own.items is None or not own.items.is_file():  # a list of raters needs no test
        return {}
    items = read_gold(own.items, settings.limits, named="screening.items")
    found = store.screened(items, share=own.share)
    return {
        one.rater_id: f"  answered {one.answered}/{one.questions}, not finished"
        for one in found
        if one.passed is None
    }


def _tests(rater: RaterStanding | RaterReport) -> str:
    """Gold questions answered as the team would, and taken, if any; and whether that passed."""
    tests = f"  tests right {rater.gold_right}/{rater.gold_total}" if rater.gold_total else ""
    passed = getattr(rater, "passed", None)
    return tests + ("" if passed is None else "  passed" if passed else "  not passed")


def _together(rater: RaterStanding) -> str:
    """Why a rater is capped with others, if so."""
    if rater.counts_as_one == 1:
        return ""
    return f"  new, counts as one with {rater.counts_as_one - 1} of the same origin"


def _show(rater: RaterStanding, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(rater)))
    elif rater.quarantined_at:
        typer.echo(f"{rater.id} is quarantined: {rater.reason}")
    else:
        typer.echo(f"{rater.id} is released and counts with weight {rater.weight:.2f}")
