"""The command `simulate`: which world the visitors come from, and what they do."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from chat_app.commands.options import Json, Prompts, Tastes, WorldName, about, checkable_world
from chat_app.errors import ChatAppError, InvalidRequestError
from rlhf_core.errors import InvalidInputError

if TYPE_CHECKING:
    from chat_app.simulate import World


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(simulate)


def simulate(  # noqa: PLR0913 - one argument for each option
    url: Annotated[str, typer.Option(help="The running service.")] = "http://127.0.0.1:7860",
    visitors: Annotated[int, typer.Option(min=1, help="Simulated visitors.")] = 40,
    events: Annotated[int, typer.Option(min=1, help="Feedback events to store.")] = 800,
    seed: Annotated[int, typer.Option(help="Seed of the visitors and their actions.")] = 0,
    kinds: Annotated[str, typer.Option(help="Kinds of events.")] = "choices,thumbs,demonstrations",
    rank: Annotated[
        int, typer.Option(min=2, max=9, help="Replies to put in an order; 2: choose one of two.")
    ] = 2,
    rankers: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the visitors who rank, with --rank.")
    ] = 0.5,
    at_once: Annotated[
        int, typer.Option(min=1, max=256, help="Visitors busy at the same time.")
    ] = 24,
    remote: Annotated[
        bool, typer.Option("--remote", help="Allow a service on another machine.")
    ] = False,
    world: WorldName = "starter",
    taste: Tastes = None,
    prompts: Prompts = None,
    topic: Annotated[
        str | None, typer.Option(help="Starter: ask about one topic only, such as `capital`.")
    ] = None,
    subjects: Annotated[int, typer.Option(min=1, help="Of that topic.")] = 20,
    wordings: Annotated[int, typer.Option(min=1, help="Of a question about it.")] = 4,
    as_json: Json = False,
) -> None:
    """Let simulated visitors use a running service like people.

    Those of the starter's world know its facts. Those of the checkable world bring ordinary
    requests to any model, and share tastes that a program checks exactly.
    """
    from chat_app.simulate import Plan, run_simulation
    from rlhf_core.worlds.starter.raters import visitors as starter_visitors

    if topic is not None and world != "starter":
        raise InvalidRequestError(f"--topic is of the starter's world, not of {world!r}; leave it")
    checkable = checkable_world(world, taste, prompts)
    people: World = starter_visitors
    if checkable is not None:
        people = checkable.visitors
    elif topic is not None:
        people = _narrow(topic, subjects, wordings)
    if checkable is not None and not as_json:
        typer.echo(about(checkable), err=True)
    plan = Plan(
        url,
        visitors,
        events,
        seed,
        tuple(kinds.split(",")),
        at_once,
        remote,
        people,
        starter_only=checkable is None,
        ranked=rank,
        rankers=rankers,
    )
    result = run_simulation(plan, show=not as_json)
    facts = result.facts() | ({"world": checkable.facts()} if checkable is not None else {})
    typer.echo(json.dumps(facts) if as_json else result.summary())
    if result.failed:
        raise ChatAppError(f"{result.failed} requests failed; the first: {result.first_failure}")


def _narrow(topic: str, subjects: int, wordings: int) -> "World":
    from rlhf_core.worlds.starter.narrow import NarrowTopic

    try:
        return NarrowTopic(topic, subjects, wordings).visitors
    except InvalidInputError as exc:
        raise InvalidRequestError(str(exc)) from exc
