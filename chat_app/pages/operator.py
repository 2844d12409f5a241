"""The events of the operator page: show the state or a report, run or cancel a cycle, promote.

Every event first checks its own request's headers and cookies; hidden components are no protection.
The rules are in ``chat_app.handlers.operator``, the layout in ``operator_parts.py``.
"""

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from chat_app.api.operator_door import SESSION_S, OperatorDoor
from chat_app.handlers.operator import Operator
from chat_app.handlers.views import error_text
from chat_app.pages.operator_parts import Confirm, OperatorParts, Update
from chat_app.pages.shared import BLOCKS, EVENT
from chat_app.service.chat import ChatService

# When the session is over, the page asks for the token again.
END = f"() => setTimeout(() => location.reload(), {SESSION_S} * 1000)"


class OperatorPage:
    """The page's events; all use one service."""

    def __init__(self, service: ChatService, door: OperatorDoor) -> None:
        self._operator = Operator(service)
        self._door = door

    def build(self) -> gr.Blocks:
        """Make the components and connect the events."""
        blocks: gr.Blocks
        with gr.Blocks(title="feedback-chat operator", **BLOCKS) as blocks:
            self._parts = OperatorParts()
            self._wire(blocks)
        return blocks

    def _wire(self, blocks: gr.Blocks) -> None:
        parts = self._parts
        blocks.load(None, None, None, js=END, **EVENT)
        blocks.load(self._on_look, parts.seen, parts.live, **EVENT)
        parts.timer.tick(self._on_look, parts.seen, parts.live, queue=False, **EVENT)
        parts.cycle.change(self._on_report, parts.cycle, parts.report, **EVENT)
        parts.run.click(self._on_run, parts.seen, parts.live, **EVENT)
        parts.cancel.click(self._on_ask_cancel, None, parts.cancel_sure.parts, **EVENT)
        parts.promote.click(self._on_ask_promote, parts.target, parts.promote_sure.parts, **EVENT)
        parts.canary.click(self._on_ask_canary, parts.target, parts.canary_sure.parts, **EVENT)
        parts.stop_trial.click(self._on_stop_trial, parts.seen, parts.live, **EVENT)
        parts.back.click(self._on_ask_back, None, parts.back_sure.parts, **EVENT)
        self._confirmed(parts.cancel_sure, self._on_cancel)
        self._confirmed(parts.promote_sure, self._on_promote)
        self._confirmed(parts.canary_sure, self._on_canary)
        self._confirmed(parts.back_sure, self._on_back)

    def _confirmed(self, sure: Confirm, act: Callable[..., Update]) -> None:
        """Do the action once it is confirmed."""
        parts = self._parts
        sure.no.click(sure.close, None, sure.parts, **EVENT)
        known = [parts.seen, sure.subject, sure.force]
        sure.yes.click(act, known, [*parts.live, *sure.parts], **EVENT)

    # Events

    def _on_look(self, seen: str, request: gr.Request) -> Update:
        if not self._allowed(request):
            return self._parts.closed()
        return self._parts.show(self._operator.overview(allowed=True), seen)

    def _on_report(self, cycle_id: str | None, request: gr.Request) -> Update:
        report = self._operator.report(
            int(cycle_id) if cycle_id else None, allowed=self._allowed(request)
        )
        return self._parts.show_report(report, chosen=bool(cycle_id))

    def _on_run(self, seen: str, request: gr.Request) -> Update:
        return self._act(self._operator.run_cycle, seen, request)

    def _on_ask_cancel(self) -> Update:
        return self._parts.cancel_sure.ask(
            "Cancel the running cycle? What it has trained is lost; no vote is."
        )

    def _on_cancel(self, seen: str, _name: str, _force: bool, request: gr.Request) -> Update:
        update = self._act(self._operator.cancel_cycle, seen, request)
        return {**update, **self._parts.cancel_sure.close()}

    def _on_ask_promote(self, name: str | None, request: gr.Request) -> Update:
        return self._ask(self._parts.promote_sure, f"Serve {name}?", name, request)

    def _on_ask_canary(self, name: str | None, request: gr.Request) -> Update:
        question = f"Let people compare {name} with the served adapter, blind?"
        return self._ask(self._parts.canary_sure, question, name, request)

    def _on_canary(self, seen: str, name: str, force: bool, request: gr.Request) -> Update:
        canary = partial(self._operator.canary, name, force=force)
        update = self._act(canary, seen, request)
        return {**update, **self._parts.canary_sure.close()}

    def _on_stop_trial(self, seen: str, request: gr.Request) -> Update:
        return self._act(self._operator.stop_trial, seen, request)

    def _on_promote(self, seen: str, name: str, force: bool, request: gr.Request) -> Update:
        promote = partial(self._operator.promote, name, force=force)
        update = self._act(promote, seen, request)
        return {**update, **self._parts.promote_sure.close()}

    def _on_ask_back(self) -> Update:
        return self._parts.back_sure.ask("Serve the previous adapter again?")

    def _on_back(self, seen: str, _name: str, _force: bool, request: gr.Request) -> Update:
        update = self._act(self._operator.roll_back, seen, request)
        return {**update, **self._parts.back_sure.close()}

    # Helpers

    def _ask(self, sure: Confirm, question: str, name: str | None, request: gr.Request) -> Update:
        """Ask whether to do something with an adapter, with the warning that belongs to it."""
        if not name:
            gr.Warning("Choose an adapter first.")
            return sure.close()
        try:
            warning = self._operator.warning(name, allowed=self._allowed(request))
        except Exception as exc:
            gr.Warning(html.escape(error_text(exc)))
            return sure.close()
        return sure.ask(question, name, warning)

    def _act(self, action: Callable[..., str], seen: str, request: gr.Request) -> Update:
        """Do one action, show its result, and show the new state."""
        try:
            who = self._who(request)
            gr.Info(html.escape(action(allowed=who is not None, by=who or "")))
        except Exception as exc:
            gr.Warning(html.escape(error_text(exc)))
        return self._on_look(seen, request)

    def _allowed(self, request: gr.Request) -> bool:
        return self._who(request) is not None

    def _who(self, request: gr.Request) -> str | None:
        headers: dict[str, Any] = dict(request.headers)
        address = request.client.host if request.client else ""
        return self._door.who(headers, dict(request.cookies), address)
