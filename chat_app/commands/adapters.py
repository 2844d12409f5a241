"""Commands about adapters, and `open_store`, which all commands use."""

import json
from pathlib import Path
from typing import Annotated

import typer

from chat_app.commands.options import Config, Data, Json
from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError
from chat_app.service import promotion
from chat_app.settings import Settings, load_settings
from feedback_store.records import BASE_ADAPTER
from feedback_store.store import FeedbackStore
from rlhf_core.cycle.signing import checking_key

adapters = typer.Typer(
    help="List, add, verify, sign, anchor, promote and roll back adapters.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (promote, rollback):
        app.command()(command)


def open_store(
    settings: Settings, *, otherwise: str = "give a service's directory by --data"
) -> FeedbackStore:
    """Open the store of an existing data directory; it never makes one.

    Args:
        settings: They name the directory.
        otherwise: The advice in the error if there is no store.

    Raises:
        InvalidRequestError: There is no store in the directory.
    """
    if not settings.database.is_file():
        raise InvalidRequestError(f"no database in {settings.data}; {otherwise}")
    return FeedbackStore(settings.database, allow_old_sqlite=settings.allow_old_sqlite)


@adapters.command("list")
def list_adapters(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """List all adapters; a star marks the served one."""
    with open_store(load_settings(config, data=data)) as store:
        serving, stages = store.serving().adapter, store.stages()
        found = [
            {
                "name": adapter.name,
                "kind": adapter.kind,
                "state": adapter.state,
                "stage": stages.get(adapter.name),
                "serving": adapter.name == serving,
                "parent": adapter.parent,
                "cycle": adapter.cycle_id,
                "metrics": adapter.metrics,
                "tainted_at": adapter.tainted_at,
            }
            for adapter in store.adapters()
        ]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for row in found:
        mark = "*" if row["serving"] else " "
        line = (
            f"{mark} {row['name']}  {row['stage'] or row['state']:<11}  cycle {row['cycle'] or '-'}"
        )
        if row["tainted_at"] is not None:
            line += f"  learnt from a rater who was forgotten on {str(row['tainted_at'])[:10]}"
        typer.echo(line)


@adapters.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Default: all.")] = None,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check the files of adapters against their manifests, and who signed these."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        known = [a.name for a in store.adapters() if a.name != BASE_ADAPTER]
        key = checking_key(store, settings.data)
    for name in names or ():
        if name not in known:
            raise InvalidRequestError(
                f"there is no {name!r} among the adapters; `feedback-chat adapters list` shows them"
            )
    found = {name: settings.adapters / name for name in names or known}
    faults = {name: promotion.fault_of(path, key=key) for name, path in found.items()}
    if as_json:
        typer.echo(json.dumps(faults))
    else:
        for name, fault in faults.items():
            typer.echo(f"{'ok  ' if fault is None else 'FAIL'}  {fault or name}")
        if not faults:
            typer.echo("there is no adapter to verify but the base")
    bad = [name for name, fault in faults.items() if fault]
    if bad:
        raise ChatAppError(f"{len(bad)} adapters are damaged: {', '.join(bad)}")


@adapters.command()
def sign(
    names: Annotated[list[str], typer.Argument(help="Adapters whose origin you know.")],
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Sign adapters that came from elsewhere, such as a backup from before adapters were signed."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        promotion.sign(store, settings.data, names)
    typer.echo(json.dumps({"signed": names}) if as_json else f"signed {', '.join(names)}")


@adapters.command()
def add(
    folder: Annotated[Path, typer.Argument(help="What `cycle --out` made on another machine.")],
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take in a cycle that ran on another machine; its adapter is served if the gate passed it."""
    from chat_app.cycles.alerts import send_due
    from chat_app.cycles.elsewhere.adding import add_result
    from chat_app.cycles.status import cycle_facts, outcome

    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        done = add_result(store, settings, folder)
        send_due(store, settings.alerts)
    cycle = done.cycle
    if as_json:
        typer.echo(json.dumps(cycle_facts(cycle) | {"again": done.again}))
    else:
        before = "was added before, as " if done.again else ""
        typer.echo(
            "\n  - ".join((f"{before}cycle {cycle.id}   {outcome(cycle)[0]}", *outcome(cycle)[1:]))
        )
    if cycle.state == "rejected":
        raise RefusedError(f"cycle {cycle.id} was rejected: {'; '.join(cycle.reasons)}")


@adapters.command()
def anchor(
    name: Annotated[str, typer.Argument(help="A published policy adapter.")],
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Let the KL budget of later cycles count from this adapter, instead of from the base."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        found = promotion.anchor(store, settings.data, name)
    typer.echo(json.dumps({"anchor": found}) if as_json else f"KL counts from {found}")


@adapters.command()
def promote(
    name: Annotated[str, typer.Argument(help="A published policy adapter.")],
    data: Data = None,
    config: Config = None,
    force: Annotated[
        bool, typer.Option("--force", help="Serve it even if the gate rejected it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve a published adapter; a running server follows within a second."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        warning = promotion.warning_of(store, name)
        serving = promotion.promote(store, settings.data, name, force=force)
    if warning is not None:
        typer.echo(f"warning: {warning}", err=True)
    facts = {"serving": serving.adapter, "previous": serving.previous}
    typer.echo(json.dumps(facts) if as_json else f"serving {serving.adapter}")


@adapters.command()
def canary(
    name: Annotated[str, typer.Argument(help="A published policy adapter.")],
    data: Data = None,
    config: Config = None,
    force: Annotated[
        bool, typer.Option("--force", help="Try it even if the gate rejected it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let people compare an adapter with the served one; it is served once they find it better."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        warning = promotion.warning_of(store, name)
        trial = promotion.canary(store, settings.data, name, force=force)
    if warning is not None:
        typer.echo(f"warning: {warning}", err=True)
    facts = {"adapter": trial.adapter, "other": trial.other}
    told = f"people compare {trial.adapter} with {trial.other}"
    typer.echo(json.dumps(facts) if as_json else told)


@adapters.command()
def stop_trial(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Let people compare adapters no more; what is served stays."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        trial = promotion.stop_trial(store)
    facts = {"kind": trial.kind, "adapter": trial.adapter, "other": trial.other}
    told = f"stopped the {trial.kind} of {trial.adapter}"
    typer.echo(json.dumps(facts) if as_json else told)


@adapters.command()
def rollback(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Serve the adapter that was served before; one that does not verify is skipped."""
    settings = load_settings(config, data=data)
    with open_store(settings) as store:
        done = promotion.roll_back(store, settings.data)
    lines = (f"serving {done.serving.adapter}", *done.remarks())
    typer.echo(json.dumps(done.facts()) if as_json else "\n".join(lines))
