"""The functions that the operator page calls, and the page itself.

Each function first asks the door who sends the request; the rules are in
`chat_app.handlers.operate`.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import fastapi
import gradio as gr
from fastapi.responses import Response, StreamingResponse

from chat_app.api.answers import openai_error
from chat_app.api.callers import address_of
from chat_app.api.operator_door import OperatorDoor
from chat_app.api.origins import of_another_page
from chat_app.handlers.operate.acts import Acts
from chat_app.handlers.operate.adapters import AdapterList, VersionsView
from chat_app.handlers.operate.data import Data, LeftOutPage, ReadConversation, SaidPage
from chat_app.handlers.operate.now import Now, NowView
from chat_app.handlers.operate.options import InForce, OptionsView
from chat_app.handlers.operate.people import People, RatersView
from chat_app.handlers.operate.records import AlarmsView, AuditPage, BackupsView, Records
from chat_app.handlers.operate.rounds import CycleRow, RoundReport, Rounds
from chat_app.handlers.progress import Progress, WhoseValues
from chat_app.pages.events import Event, add_events
from chat_app.pages.progress_events import ProgressEvents
from chat_app.pages.shared import BLOCKS
from chat_app.pages.shell import Shell
from chat_app.service.chat import ChatService
from feedback_store.datasets.outputs import line_of
from feedback_store.datasets.trl_rows import FORMS, ExportOptions
from feedback_store.errors import Sentence
from feedback_store.feedback.browsing import SaidFilter
from feedback_store.feedback.search import SearchHit

HOME, EXPORT = "/operator/", "/operator/export/{form}"
PROGRESS, VALUES = "/operator/progress", "/operator/values"
CHUNK = 1 << 16


def operator_blocks(
    service: ChatService, door: OperatorDoor, progress: Progress, whose: WhoseValues
) -> gr.Blocks:
    """The functions of the operator's pages, to be mounted; there are no components."""
    blocks: gr.Blocks
    with gr.Blocks(title="feedback-chat operator", **BLOCKS) as blocks:
        of_progress = ProgressEvents(progress, whose, operator=True)
        add_events([*OperatorEvents(service, door).functions(), *of_progress.functions()])
    return blocks


def add_operator_page(app: fastapi.FastAPI, service: ChatService, door: OperatorDoor) -> None:
    """Add the pages and the downloads; only operators get past `PageRoutes` to a page."""
    shell = Shell(service.settings, (), events="/operator/gradio_api")

    @app.api_route(HOME, methods=["GET", "HEAD"], include_in_schema=False)
    def page(request: fastapi.Request) -> Response:
        return shell.page("operator", request)

    @app.api_route(PROGRESS, methods=["GET", "HEAD"], include_in_schema=False)
    def progress(request: fastapi.Request) -> Response:
        return shell.page("progress", request)

    @app.api_route(VALUES, methods=["GET", "HEAD"], include_in_schema=False)
    def values(request: fastapi.Request) -> Response:
        return shell.page("values", request)

    @app.get(EXPORT, include_in_schema=False)
    async def export(form: str, request: fastapi.Request) -> Response:
        """The rows of an export, as a file to download."""
        if of_another_page(request.headers):
            return _refused(403, "a page of another origin asked for this; open the operator page")
        who = door.who(dict(request.headers), request.cookies, address_of(request))
        if who is None:
            return _refused(401, "this is for operators only; open the operator page first")
        if form not in FORMS:
            return _refused(404, f"there is no export {form!r}; the exports are {', '.join(FORMS)}")
        file = await asyncio.to_thread(_exported, service, form, who)
        name = f'attachment; filename="feedback-chat-{form}.jsonl"'
        headers = {"content-disposition": name, "cache-control": "no-store"}
        return StreamingResponse(_read(file), headers=headers, media_type="application/x-ndjson")


def _exported(service: ChatService, form: str, who: str) -> IO[bytes]:
    """The rows of an export in a file without a name, so that a slow reader holds no snapshot."""
    store = service.store
    store.refresh_comparisons()
    store.note_act("downloaded", by=who, form=form)
    options = None if form == "events" else ExportOptions(with_metadata=True)
    file = tempfile.TemporaryFile(dir=service.settings.data)  # noqa: SIM115 - `_read` closes it
    for row in store.export_rows(form, options):
        file.write(f"{line_of(row)}\n".encode())
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(CHUNK):
            yield piece


def _refused(status: int, text: str) -> Response:
    error = openai_error(text, "not_found_error" if status == 404 else "permission_error")
    return fastapi.responses.JSONResponse({"error": error}, status)


class OperatorEvents:
    """The page's functions; all use one service."""

    def __init__(self, service: ChatService, door: OperatorDoor) -> None:
        self._door = door
        self._acts, self._now, self._rounds = Acts(service), Now(service), Rounds(service)
        self._adapters, self._people, self._data = (
            AdapterList(service),
            People(service),
            Data(service),
        )
        self._options, self._records = InForce(service), Records(service)

    def functions(self) -> list[Event]:
        """What the page may call, each under its own name."""
        return [getattr(self, name) for name in dir(self) if name.startswith("operate_")]

    # What is shown

    def operate_now(self, request: gr.Request) -> NowView:
        """The first screen."""
        return self._now.now(**self._asked(request))

    def operate_rounds(self, request: gr.Request) -> tuple[CycleRow, ...]:
        """The latest cycles."""
        return self._rounds.rounds(**self._asked(request))

    def operate_report(self, cycle_id: int, request: gr.Request) -> RoundReport:
        """The report of one cycle."""
        return self._rounds.report(cycle_id, **self._asked(request))

    def operate_dry_run(self, request: gr.Request) -> dict[str, Any]:
        """What a cycle would do now."""
        return self._rounds.dry_run(**self._asked(request))

    def operate_versions(self, request: gr.Request) -> VersionsView:
        """All adapters and the latest trials."""
        return self._adapters.versions(**self._asked(request))

    def operate_raters(self, search: str, request: gr.Request) -> RatersView:
        """The raters whose id has a text in it."""
        return self._people.raters(search, **self._asked(request))

    def operate_said(
        self, wanted: dict[str, str | None], before: str | None, request: gr.Request
    ) -> SaidPage:
        """A page of what people said; `wanted` has the fields of a `SaidFilter`."""
        fields = {name: wanted.get(name) or None for name in SaidFilter.__slots__}
        return self._data.said(SaidFilter(**fields), before, **self._known(request))

    def operate_search(self, query: str, request: gr.Request) -> tuple[SearchHit, ...]:
        """Messages with all words of a query."""
        return self._data.search(query, **self._known(request))

    def operate_conversation(
        self, conversation_id: str, rater_id: str, request: gr.Request
    ) -> ReadConversation:
        """One conversation, to be read only."""
        return self._data.conversation(conversation_id, rater_id, **self._known(request))

    def operate_left_out(self, before: str | None, request: gr.Request) -> LeftOutPage:
        """A page of what is left out of training."""
        return self._data.left_out(before, **self._asked(request))

    def operate_options(self, request: gr.Request) -> OptionsView:
        """The settings in force."""
        return self._options.options(**self._asked(request))

    def operate_audit(self, before: int | None, request: gr.Request) -> AuditPage:
        """A page of the audit log."""
        return self._records.audit(before, **self._asked(request))

    def operate_alarms(self, request: gr.Request) -> AlarmsView:
        """The alarms."""
        return self._records.alarms(**self._asked(request))

    def operate_backups(self, request: gr.Request) -> BackupsView:
        """The copies of the data."""
        return self._records.backups(**self._asked(request))

    # What is done

    def operate_run(self, request: gr.Request) -> Sentence:
        """Start a cycle."""
        return self._acts.run_cycle(**self._known(request))

    def operate_cancel(self, request: gr.Request) -> Sentence:
        """Cancel the running cycle."""
        return self._acts.cancel_cycle(**self._known(request))

    def operate_promote(self, name: str, force: bool, request: gr.Request) -> Sentence:
        """Serve an adapter."""
        return self._acts.promote(name, force=force, **self._known(request))

    def operate_canary(self, name: str, force: bool, request: gr.Request) -> Sentence:
        """Let people compare an adapter with the served one."""
        return self._acts.canary(name, force=force, **self._known(request))

    def operate_stop_trial(self, request: gr.Request) -> Sentence:
        """Let people compare adapters no more."""
        return self._acts.stop_trial(**self._known(request))

    def operate_roll_back(self, request: gr.Request) -> Sentence:
        """Serve the adapter that was served before."""
        return self._acts.roll_back(**self._known(request))

    def operate_quarantine(self, rater_id: str, reason: str, request: gr.Request) -> Sentence:
        """Do not learn from a rater."""
        return self._people.quarantine(rater_id, reason, **self._known(request))

    def operate_release(self, rater_id: str, request: gr.Request) -> Sentence:
        """End a quarantine."""
        return self._people.release(rater_id, **self._known(request))

    def operate_leave_out(
        self, kind: str, ids: list[str], reason: str, request: gr.Request
    ) -> None:
        """Leave conversations or votes out of training."""
        self._data.leave_out(kind, ids, reason, **self._known(request))

    def operate_take_in(self, kind: str, ids: list[str], request: gr.Request) -> None:
        """Let them count again."""
        self._data.take_in(kind, ids, **self._known(request))

    def operate_assess(self, request: gr.Request) -> Sentence:
        """Assess all raters."""
        return self._people.assess(**self._known(request))

    def operate_back_up(self, request: gr.Request) -> Sentence:
        """Back up the data directory."""
        return self._records.back_up(**self._known(request))

    # Who asks

    def _asked(self, request: gr.Request) -> dict[str, Any]:
        return {"allowed": self._who(request) is not None}

    def _known(self, request: gr.Request) -> dict[str, Any]:
        who = self._who(request)
        return {"allowed": who is not None, "by": who or ""}

    def _who(self, request: gr.Request) -> str | None:
        headers: dict[str, Any] = dict(request.headers)
        address = request.client.host if request.client else ""
        return self._door.who(headers, dict(request.cookies), address)
