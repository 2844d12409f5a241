"""The command `reproduce`: InstructGPT's comparisons in miniature, with bars fixed beforehand."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from chat_app.commands.options import Json, folder_to_write
from chat_app.commands.worlds.starter import stage_bar
from chat_app.errors import InvalidRequestError
from rlhf_core.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(reproduce)


def reproduce(
    profile: Annotated[
        Literal["ci", "cpu", "gpu"], typer.Option(help="How much of everything.")
    ] = "ci",
    claims: Annotated[
        str | None, typer.Option(help="Only these claims, such as `3,7` (default: all).")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=3, help="Seeds: 105, 106 and 107.")] = 1,
    out: Annotated[
        Path, typer.Option(help="Directory of all results; a run that was killed goes on there.")
    ] = Path("reproduction"),
    as_json: Json = False,
) -> None:
    """Repeat InstructGPT's comparisons with small models and simulated labelers.

    `ci` shows directions in some minutes and its numbers are not for quoting; `cpu` may
    take more than an hour on two cores. A page with plots is written to the directory.
    """
    from rlhf_core.reproduction.claims import chosen_claims, load_claims

    try:
        numbers = chosen_claims(claims, load_claims())
    except InvalidInputError as exc:
        raise InvalidRequestError(str(exc)) from exc
    for folder in (out, out / profile):
        folder_to_write(folder, "give another by --out")
    from rlhf_core.reproduction.profiles import profile_named
    from rlhf_core.reproduction.report import PAGE, as_facts, headline, write_report
    from rlhf_core.reproduction.run import reproduce as run

    with stage_bar(hidden=as_json, keep=False) as bar:
        found = run(profile_named(profile), out, claims=numbers, seeds=seeds, report=bar)
    write_report(found, folder)
    if as_json:
        typer.echo(json.dumps(as_facts(found)))
        return
    for line in headline(found):
        typer.echo(line)
    typer.echo(f"all figures and plots: {folder / PAGE}")
