"""The commands `export` and `import`: what people said, as files, out and in."""

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from chat_app.commands.adapters import open_store
from chat_app.commands.options import Config, Data, Json
from chat_app.errors import InvalidRequestError, RefusedError, StartError
from chat_app.settings import Settings, load_settings
from feedback_store.datasets.exports import ExportReport
from feedback_store.datasets.files import Malformed, read_whole
from feedback_store.datasets.hub import Card, export_folder
from feedback_store.datasets.imports import ImportReport
from feedback_store.datasets.outputs import line_of
from feedback_store.datasets.trl_rows import ExportOptions
from feedback_store.errors import InvalidFeedbackError
from feedback_store.store import FeedbackStore
from feedback_store.whole_files import name_new

Line = tuple[int, Any]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(export)
    app.command("import")(import_file)


def export(  # noqa: PLR0913 - one argument for each option
    file: Annotated[
        Path | None, typer.Argument(help="`.parquet` or lines. Default: standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    form: Annotated[
        Literal["events", "preference", "preferences", "unpaired", "sft", "prompts"],
        typer.Option("--format", help="Raw events, or a data set for TRL."),
    ] = "events",
    split: Annotated[
        Literal["all", "train", "held_out", "held_out_raters"] | None,
        typer.Option(help="Which part of a data set (default: train)."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="choice, ranking, thumbs, ...")] = None,
    adapter: Annotated[str | None, typer.Option(help="Which made one of the replies.")] = None,
    with_metadata: Annotated[
        bool, typer.Option("--with-metadata", help="Add id, time, rater, weight and so on.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out raters of a kind, such as judge; may be given again."),
    ] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="FILE is a folder: Parquet and a card, as on the Hub.")
    ] = False,
    licence: Annotated[str | None, typer.Option(help="For the card: cc-by-4.0, ...")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="For the card: en, de, ...; may be given again.")
    ] = None,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write every event, or a data set for TRL, as JSON lines, Parquet or a folder for the Hub.

    A data set is of the training split unless another is named; events are everything.
    """
    options = ExportOptions(split, source, adapter, with_metadata, tuple(without or ()))
    card = Card(licence, tuple(language or ()))
    if card != Card() and not hub:
        raise InvalidRequestError("--licence and --language are for a card; add --hub")
    settings = load_settings(config, data=data)
    name = "preference" if form == "preferences" else form
    target = None if str(file) == "-" else file
    if hub:
        _export_folder(settings, target, name, options, card=card, force=force, as_json=as_json)
        return
    if target is None and as_json:
        raise InvalidRequestError("--json goes with a file; give one as FILE")
    if target is not None and os.path.isfile(target) and not force:
        raise RefusedError(f"{target} exists; give another name, or --force to replace it")
    with open_store(settings) as store:
        store.refresh_comparisons()
        done = _write(store, target, name, options, force=force)
    left_out = "".join(f"; {what} left out: {count}" for what, count in done.left_out.items())
    if as_json:
        typer.echo(json.dumps(asdict(done) | {"path": str(done.path)}))
    elif target is not None or left_out or not done.rows:
        where = "" if done.path is None else f" written to {done.path}"
        typer.echo(f"{done.rows} rows of {form}{where}{left_out}", err=True)


def _export_folder(
    settings: Settings,
    folder: Path | None,
    form: str,
    options: ExportOptions,
    *,
    card: Card,
    force: bool,
    as_json: bool,
) -> None:
    if folder is None:
        raise InvalidRequestError("--hub writes a folder; give one as FILE")
    with open_store(settings) as store:
        store.refresh_comparisons()
        try:
            done = export_folder(store, folder, form, options, card=card, replace_old=force)
        except InvalidFeedbackError as exc:
            raise InvalidRequestError(str(exc)) from exc
    if as_json:
        typer.echo(json.dumps(asdict(done) | {"path": str(done.path)}))
        return
    rows = ", ".join(f"{count} of {split}" for split, count in done.rows.items())
    left_out = "".join(f"; {what} left out: {count}" for what, count in done.left_out.items())
    typer.echo(f"rows of {form} written to {done.path}: {rows}{left_out}", err=True)


def import_file(
    file: Annotated[
        Path, typer.Argument(help="JSON lines, a list, CSV, TSV, Parquet, also .gz; - for stdin.")
    ],
    form: Annotated[
        Literal[
            "events", "hh", "oasst", "ultrafeedback", "arena", "pandalm", "open-webui", "table"
        ],
        typer.Option("--format", help="Our own events, or somebody's data set."),
    ] = "events",
    columns: Annotated[
        str | None, typer.Option(help="Of a table: prompt=...,chosen=...,rejected=... and so on.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What raters' ids begin with (default: the format).")
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make a new store in DIR.")] = False,
    data: Data = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Import a file; what is in the store already stays as it is.

    Our own events are imported all or none. Of other data sets, malformed lines are left out.
    """
    settings = load_settings(config, data=data)
    if form == "events" and (columns or name):
        raise InvalidRequestError("--columns and --name do not go with our own events")
    with _lines(file) as lines, _opened_store(settings, create=create) as store:
        try:
            report = _take_in(store, lines, file, form, columns, name)
        except InvalidFeedbackError as exc:
            if form == "events":
                raise
            raise InvalidRequestError(str(exc)) from exc
        store.refresh_comparisons()
        if as_json:
            typer.echo(json.dumps(asdict(report)))
        else:
            _show(report, form)
        if form != "events" and not report.new + report.known:
            raise InvalidRequestError(f"nothing in {file} could be used as {form}{_why(report)}")


def _write(
    store: FeedbackStore, target: Path | None, form: str, options: ExportOptions, *, force: bool
) -> ExportReport:
    try:
        if target is not None:
            return store.export_file(target, form, options, replace=force)
        left_out: Counter[str] = Counter()
        count = 0
        for row in store.export_rows(form, options, left_out=left_out):
            typer.echo(line_of(row))
            count += 1
        return ExportReport(None, form, count, dict(left_out))
    except InvalidFeedbackError as exc:
        raise InvalidRequestError(str(exc)) from exc


@contextmanager
def _opened_store(settings: Settings, *, create: bool) -> Iterator[FeedbackStore]:
    if create and not settings.database.exists():
        with _new_store(settings) as store:
            yield store
    else:
        missing = "give a service's directory by --data, or --create"
        with open_store(settings, otherwise=missing) as store:
            yield store


@contextmanager
def _new_store(settings: Settings) -> Iterator[FeedbackStore]:
    """A store that is filled beside its place, and moves there only if the block ends well."""
    from chat_app.server import prepare_data

    was_there = settings.data.exists()
    prepare_data(settings.data)
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=settings.data) as aside:
            made = Path(aside) / settings.database.name
            with FeedbackStore(made, allow_old_sqlite=settings.allow_old_sqlite) as store:
                yield store
            _put_in_place(made, settings.database)
    finally:
        if not was_there:
            with suppress(OSError):  # it is not empty: all went well
                settings.data.rmdir()


def _put_in_place(made: Path, database: Path) -> None:
    try:
        name_new(made, database)  # never in place of another store
    except OSError as exc:
        raise StartError(
            f"cannot make {database} ({exc.strerror}), nothing was imported; "
            "import again, or choose another directory with --data"
        ) from exc


@contextmanager
def _lines(file: Path) -> Iterator[Iterator[Line]]:
    """The lines of a file that is whole; one that is damaged changes nothing."""
    with tempfile.TemporaryDirectory(prefix="feedback-chat-") as aside:
        source = file
        if str(file) == "-":  # it is read twice, and what it is, its bytes say
            source = Path(aside) / "standard input"
            with source.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
        try:
            lines = read_whole(source)
        except InvalidFeedbackError as exc:
            raise InvalidRequestError(f"{exc} Nothing was imported.") from exc
        except OSError as exc:
            raise InvalidRequestError(f"cannot read {file}: {exc.strerror or exc}") from exc
        yield lines


def _take_in(
    store: FeedbackStore,
    lines: Iterator[Line],
    file: Path,
    form: str,
    mapping: str | None,
    name: str | None,
) -> ImportReport:
    if form != "events":
        return store.import_documents(lines, form, mapping, name)
    events = [_event(document, f"{file}:{number}") for number, document in lines]
    left_out: Counter[str] = Counter()
    new = store.import_events(events, left_out=left_out)
    known = len(events) - new - left_out.total()
    return ImportReport(len(events), new, known, dict(left_out), (), 0)


def _event(document: Any, where: str) -> dict[str, Any]:
    if isinstance(document, Malformed):
        raise InvalidRequestError(f"{where} is {document.reason}; nothing was imported")
    if not isinstance(document, dict):
        raise InvalidRequestError(f"{where} is not a JSON object; nothing was imported")
    return document


def _why(report: ImportReport) -> str:
    """The first fault of a file, or what everything in it was left out for."""
    if report.malformed:
        line, why = report.malformed[0]
        return f"; line {line}: {why}"
    return "".join(f"; {reason}: {count}" for reason, count in report.skipped.items())


def _show(report: ImportReport, form: str) -> None:
    if form == "events":
        typer.echo(f"{report.new} of {report.read} events were new")
    else:
        typer.echo(f"{report.read} lines of {form} read: {report.new} judgements are new")
    for count, what in _counts(report):
        typer.echo(f"{count:>8}  {what}")
    for line, reason in report.malformed:
        typer.echo(f"          line {line}: {reason}")


def _counts(report: ImportReport) -> list[tuple[int, str]]:
    counts = [(report.known, "known already")]
    counts += [(count, f"left out: {reason}") for reason, count in report.skipped.items()]
    counts += [(report.malformed_lines, "malformed lines, the first of them named")]
    counts += [(count, reason) for reason, count in report.noted.items()]
    return [(count, what) for count, what in counts if count]
